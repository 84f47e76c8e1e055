"""Linear probes: heads fitted on frozen features, for towers that have no text.

A closed vocabulary needs a head before it can be edited: it is fitted on the base's features and
then stays as it is while task vectors are added to the backbone. The base with such heads is the
linear-probing baseline that Hazimeh et al. 2025 (arXiv 2511.14569) hold beside task addition.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.compute import turns
from explorer.compute.engine import ImageRange
from explorer.compute.resident import ResidentWeights
from explorer.editing.task_vector import TaskVector
from explorer.errors import ImageError, ModelError, VocabularyError
from explorer.models.heads import LinearHead
from explorer.models.model import Model
from explorer.tasks.task import Split, Task, check_count, check_seed

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Of the squared weights, tried from the strongest to the weakest until two in a row did worse."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class ProbeHead(LinearHead):
    """A probe and how it was found: ``penalty`` (chosen among PENALTIES), ``held_out``, the
    accuracy (0 to 1) of cross-validation at it, and ``n`` images of ``split`` in order of
    ``seed``."""

    penalty: float
    held_out: float
    n: int
    split: str
    seed: int


def linear_probe(
    m: Model, task: str, n: int | None = None, split: Split = "val", seed: int = 0
) -> ProbeHead:
    """Fit a bias-free softmax classifier on the base's normalised features.

        head = ex.linear_probe(m, "mnist")
        ex.accuracy(m, ex.Recipe(), ["mnist"], heads={"mnist": head})

    Minimises mean cross-entropy + penalty / 2 |W|^2 with L-BFGS in float64, W (classes, embed_dim),
    as Radford et al. 2021 (arXiv 2103.00020), appendix A.3, who have a bias: without one, features
    are compared by their direction alone, as in zero-shot heads and in the linearised spaces. The
    penalty is the one of the least cross-entropy on held-out fifths. ``n`` images (None for all)
    of the validation split, in the order of ``seed``: choices made on the same split afterwards,
    as of a coefficient, look better than they are, and the test split stays unseen.

    Raises UnknownNameError, ImageError where images are missing or a class has none.
    """
    images = _drawn(m.task(task), n, split, seed)
    features = m.references.zero_shot(images.range, torch.float32)
    names, labels = m.task(task).class_names, torch.from_numpy(images.labels)
    with torch.inference_mode(False), torch.enable_grad(), _one_thread():
        x, labels = F.normalize(features.double(), dim=-1).clone(), labels.to(features.device)
        penalty, held_out = _choose_penalty(x, labels, len(names), seed)
    tried = PENALTIES[: PENALTIES.index(penalty) + 1]
    weight = probes_at(tried, features, labels, len(names))[-1]
    return ProbeHead(weight, names, (), penalty, held_out, len(labels), split, seed)


def probes_at(
    penalties: Sequence[float], features: Tensor, labels: Tensor, classes: int
) -> list[Tensor]:
    """The weights (classes, d), float32, of the classifier of ``linear_probe`` at each penalty.

    ``features`` are (n, d), of any length, ``labels`` int64 (n,); each fit begins where the one
    before it ended, so give the strongest penalty first.
    """
    with torch.inference_mode(False), torch.enable_grad(), _one_thread():
        x = F.normalize(features.double(), dim=-1).clone()
        found = [x.new_zeros(classes, x.shape[1])]
        for penalty in penalties:
            found.append(_fit(x, labels, penalty, found[-1]))
        return [weight.float() for weight in found[1:]]


def with_probes(
    m: Model, tasks: Sequence[str] | None = None, split: Split = "val", seed: int = 0
) -> "ProbedModel":
    """The same model with linear probes as heads, for accuracies, maps, searches and lenses.

        closed = ex.with_probes(ex.open_model("glyphs"))
        ex.accuracy(closed, ex.Recipe(coefficients={"mnist": 1.0}))
        ex.DisentanglementLens(closed)

    Weights, images and features are shared with ``m``. ``tasks`` are fitted now, the others
    when they are first looked at. Their base accuracy ("zero_shot" in results) is that of linear
    probing. Raises UnknownNameError and ImageError, as ``linear_probe``.
    """
    return ProbedModel(m, split, seed, () if tasks is None else tasks)


class ProbedModel(Model):
    """A model whose heads are linear probes of its own base."""

    base_title = "linear probe"

    def __init__(self, model: Model, split: Split, seed: int, tasks: Iterable[str]) -> None:
        if not isinstance(model, Model):
            raise ModelError(f"with_probes takes a model, not {type(model).__name__}.")
        self.__dict__.update(model.__dict__)
        self.missing = model.missing_but_heads()
        self.unprobed: Model = model.unprobed if isinstance(model, ProbedModel) else model
        self._split: Split = split
        self._seed = check_seed(seed)
        self._probes: dict[str, ProbeHead] = {}
        # Fitting needs features, whose computation may wait for its turn: not under m's lock.
        self._fitting = threading.Lock()
        for task in [tasks] if isinstance(tasks, str) else tasks:
            self.head(task)

    def task_vector(self, name: str, space: str = "weights") -> TaskVector:
        """As of the model without probes."""
        return self.unprobed.task_vector(name, space)

    def resident(self, space: str = "weights") -> ResidentWeights:
        """The weights of the model without probes: they are the same."""
        return self.unprobed.resident(space)

    def head(
        self,
        name: str,
        class_names: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
    ) -> LinearHead:
        """The probe of a task, fitted once. Raises VocabularyError for prompts: it has no text."""
        self.task(name)
        if class_names is not None or templates is not None:
            self._text_side()
        with self._fitting:
            if name not in self._probes:
                found = linear_probe(self.unprobed, name, None, self._split, self._seed)
                self._probes[name] = found
            return self._probes[name]

    def best_shared_coefficient(self, space: str = "weights") -> float | None:
        """None: the card's is the best of the model with its own heads."""
        super().best_shared_coefficient(space)  # which knows what is a space
        return None

    def fitted(self, name: str) -> bool:
        """Whether the probe of a task is there, so that ``head`` need not fit it."""
        return name in self._probes

    def with_model(self, model: Model) -> "ProbedModel":
        """Another model with probes that are fitted as these are."""
        return ProbedModel(model, self._split, self._seed, ())

    def to_python(self) -> str:
        """The expression that makes this model."""
        usual = self._split == "val" and self._seed == 0
        how = "" if usual else f", split={self._split!r}, seed={self._seed}"
        return f"ex.with_probes({self.unprobed.to_python()}{how})"

    def heads_made_of(self, tasks: Sequence[str]) -> list[bytes]:
        """How the heads are fitted, and on which images: their numbers' last digits may differ."""
        found = [f"linear probe, {self._split}, {self._seed}, {PENALTIES}, {FOLDS}".encode()]
        for task in tasks:
            images, labels, _ = self.images(task, None, self._split)
            found += [
                hashlib.blake2b(part).digest() for part in (images.tobytes(), labels.tobytes())
            ]
        return found

    def _text_side(self) -> NoReturn:
        """What all words are encoded by: there is none."""
        raise VocabularyError(
            f"The heads of {self.name} are linear probes here, which know their task's classes and "
            "no words; open the model without ex.with_probes to write prompts."
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """For thousands of operations that are too small to share: on two busy cores, threads that wait
    for each other made a step of the fit thirty times as long (2 ms against 60)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Drawn:
    range: ImageRange
    labels: np.ndarray


def _drawn(task: Task, n: int | None, split: Split, seed: int) -> _Drawn:
    available = task.n_images(split)
    n = check_count(n, available, task.name)
    order = task.order(split, check_seed(seed))[:n]
    labels = task.images(None, split)[1][order]
    missing = np.flatnonzero(np.bincount(labels, minlength=len(task.class_names)) == 0)
    if len(missing):
        name = task.class_names[missing[0]]
        raise ImageError(
            f"Of the {n} images of {task.name!r} for the probe, none is of the class {name!r}; "
            f"take more of the {available} there are."
        )
    return _Drawn(ImageRange(task.name, split, 0, n, seed), labels)


def _choose_penalty(x: Tensor, labels: Tensor, classes: int, seed: int) -> tuple[float, float]:
    """The penalty of the least held-out cross-entropy, and the held-out accuracy at it."""
    fold = torch.from_numpy(_folds(labels.cpu().numpy(), seed)).to(x.device)
    weights = [x.new_zeros(classes, x.shape[1])] * FOLDS
    tried: list[tuple[float, float, float]] = []
    for penalty in PENALTIES:
        loss = right = 0.0
        for held in range(FOLDS):
            out = fold == held
            weights[held] = _fit(x[~out], labels[~out], penalty, weights[held])
            logits = x[out] @ weights[held].T
            loss += float(F.cross_entropy(logits, labels[out], reduction="sum"))
            right += float((logits.argmax(1) == labels[out]).sum())
        tried.append((loss, penalty, right / len(labels)))
        if min(tried) not in tried[-2:]:
            break
    _, penalty, accuracy = min(tried)
    return penalty, accuracy


def _folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """A fold a image, (n,), so that each class is spread over all of them."""
    order = np.random.default_rng([seed, 6]).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), int)
    fold[by_class] = np.arange(len(labels)) % FOLDS
    return fold


def _fit(x: Tensor, labels: Tensor, penalty: float, start: Tensor) -> Tensor:
    """Weights (classes, d) of the least mean cross-entropy + penalty / 2 |W|^2, from a start."""
    if not len(x):
        return start
    turns.give_way()  # in a room others may be due
    weight = start.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight],
        max_iter=1000,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight.T, labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    return weight.detach()
