"""Words of help, all in one place: what each lens measures and whose idea it is, its keys, a tour.

Plain data, keyed by lens. `explorer.app.guide` puts it on screen; nothing else holds such texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ARXIV = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Paper:
    """A reference: authors, title, where it appeared, and its number on arXiv."""

    authors: str
    title: str
    venue: str
    number: str

    @property
    def link(self) -> str:
        """The address of its abstract."""
        return ARXIV + self.number

    def __str__(self) -> str:
        return f"{self.authors}. {self.title}. {self.venue}. arXiv:{self.number}"


@dataclass(frozen=True)
class Help:
    """What a lens is about: its title, three to five sentences, the papers behind it, its keys."""

    title: str
    sentences: tuple[str, ...]
    papers: tuple[Paper, ...]
    keys: tuple[tuple[str, str], ...] = ()
    """(keys, what they do), of this lens; what all lenses share is in `KEYS`."""


TASK_ARITHMETIC = Paper(
    "G. Ilharco, M. T. Ribeiro, M. Wortsman, S. Gururangan, L. Schmidt, H. Hajishirzi, A. Farhadi",
    "Editing Models with Task Arithmetic",
    "ICLR 2023",
    "2212.04089",
)
TANGENT = Paper(
    "G. Ortiz-Jimenez, A. Favero, P. Frossard",
    "Task Arithmetic in the Tangent Space: Improved Editing of Pre-Trained Models",
    "NeurIPS 2023",
    "2305.12827",
)
LINES = Paper(
    "K. Wang, N. Dimitriadis, A. Favero, G. Ortiz-Jimenez, F. Fleuret, P. Frossard",
    "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model Merging",
    "ICLR 2025",
    "2410.17146",
)
RANDOM_HIERARCHY = Paper(
    "F. Cagnetta, L. Petrini, U. M. Tomasini, A. Favero, M. Wyart",
    "How Deep Neural Networks Learn Compositional Data: The Random Hierarchy Model",
    "Physical Review X 14, 2024",
    "2307.02129",
)
TRANSITION = Paper(
    "A. Sclocchi, A. Favero, M. Wyart",
    "A Phase Transition in Diffusion Models Reveals the Hierarchical Nature of Data",
    "PNAS 122, 2025",
    "2402.16991",
)
PROBING = Paper(
    "A. Sclocchi, A. Favero, N. I. Levi, M. Wyart",
    "Probing the Latent Hierarchical Structure of Data via Diffusion Models",
    "ICLR 2025",
    "2410.13770",
)

HELP: Mapping[str, Help] = {
    "arithmetic": Help(
        "Task arithmetic",
        (
            "A task vector is what fine-tuning on a task changed: fine-tuned minus pre-trained "
            "weights.",
            "Each slider is the coefficient its vector is multiplied by before all are added to "
            "the pre-trained weights; a negative one makes the network forget.",
            "The chart shows the share of test images that the edited network names correctly, "
            "task by task, between the network nobody edited (zero-shot) and each task's own "
            "fine-tuned one.",
            "“Normalized” divides by the fine-tuned accuracy, so that easy and hard tasks weigh "
            "the same.",
            "The control task was never fine-tuned: what it loses is the price of the edit.",
        ),
        (TASK_ARITHMETIC,),
    ),
    "disentanglement": Help(
        "Weight disentanglement",
        (
            "Two tasks are disentangled if adding the vector of one does not change what the "
            "network says about images of the other.",
            "A cell of the map stands for two coefficients. On images of each task the network "
            "with both vectors is compared with the one that has that task's vector alone.",
            "The error is the share of images on which the two disagree, averaged over the two "
            "tasks; it uses no labels, so a dark cell means no interference, not a good network.",
            "The tangent map does the same for the network linearised at the pre-trained weights, "
            "where interference is known to be smaller.",
        ),
        (TANGENT,),
    ),
    "schedule": Help(
        "Schedules and merging",
        (
            "A schedule multiplies a task vector by another number in each layer, from the first "
            "block to the last.",
            "LiNeS lets it grow linearly with depth: the early, general layers stay near the "
            "pre-trained weights and the late, specialised ones get the edit.",
            "The curve is the schedule, and the bars under it are the norms of what it scales.",
            "The forgetting chart sets accuracy on the target task against the control task, along "
            "the schedule and along plain scaling: only above the plain line is depth what helps.",
            "The merging methods differ in how they combine the vectors before that.",
        ),
        (LINES, TASK_ARITHMETIC),
        (
            ("← →, ↑ ↓ on a handle", "move it by 0.01"),
            ("Page up, Page down", "move it by 0.1"),
            ("Home, End", "to 0, to 1"),
            ("Delete on a handle", "remove it (piecewise schedules)"),
        ),
    ),
    "hierarchy": Help(
        "Random hierarchy model",
        (
            "A string of symbols is made by a tree of random rules: the class at the root is "
            "replaced by symbols, each of these again, down to the leaves that one sees.",
            "Noise is added to the leaves and taken away again by the exact posterior, so that "
            "nothing here depends on a network.",
            "The susceptibility says how many leaves change together, summed over their "
            "correlations; it peaks where the changed chunks are largest, at the level of noise "
            "beyond which the class itself is lost.",
            "A peak alone proves no hierarchy: the flat mixture has one as well, and only the "
            "correlation against distance tells the two apart.",
        ),
        (RANDOM_HIERARCHY, TRANSITION, PROBING),
        (("arrow keys on the tree", "look at the parent, a child, the neighbours"),),
    ),
    "diffusion": Help(
        "Noise and denoise",
        (
            "A picture is noised up to a level and denoised again by a diffusion model, many times "
            "over with other noise.",
            "The map shows which places changed; the curves show, for each level, how strongly "
            "changes at two places go together (susceptibility) and how far that reaches "
            "(correlation length).",
            "With hierarchical data changed blocks grow towards a transition, beyond which there "
            "is another picture; for photographs a peak is consistent with a hierarchy, and no "
            "proof of one.",
        ),
        (TRANSITION, PROBING),
    ),
}
"""Name of a lens -> its help."""

KEYS = (
    ("Tab, Shift+Tab", "to the next control, and back"),
    ("← → on a slider", "move it by one step"),
    ("Home, End on a slider", "to its left end, its right end"),
    ("Enter in a number field", "take the number"),
    ("double click on a slider", "back to zero"),
    ("Ctrl+Z, Ctrl+Shift+Z", "undo, redo"),
    ("?", "this list"),
    ("Escape", "close a menu, this list, the tour"),
)
"""(keys, what they do) in every lens."""

TOUR = (
    (
        ".MuiToggleButtonGroup-root",
        "Choose what you look through",
        "Five lenses look at edited networks and at data in which everything is known.",
    ),
    (
        "input[type=range]",
        "Drag, and see at once",
        "Every slider is answered while you drag: first from a few images, then from all of them.",
    ),
    (
        ".notices .line",
        "What stands behind the figures",
        "This line says how many images or samples were measured, and whether more are coming.",
    ),
    (
        ".toolbar",
        "Nothing is lost",
        "Undo, copy as Python or as a link that restores the screen, save figures and numbers.",
    ),
    (
        ".guide",
        "Lost? Help is here",
        "“Help” explains the measure and names its paper, “Keys” (or ?) lists the keyboard.",
    ),
)
"""Steps of the first-run tour: what is pointed at (a CSS selector), a title, a sentence."""
