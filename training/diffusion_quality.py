"""What the samples of a diffusion model are worth."""

import copy

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel

import explorer as ex
from explorer.measures.change_field import PatchTokens
from explorer.models.towers import build_tower, load_weights

from .clip import DEVICE
from .diffusion_data import Pictures

Line = tuple[str, str, str]  # of the card: what is measured, of samples, and what stands beside it
DRAWS = 5  # of training pictures, to see how far the distance of two sets of one kind goes
SURE = 0.9
COPY = 1 / 3  # of the distance to the second nearest (arXiv 2505.16959, "copies")


@torch.no_grad()
def draw(unet: UNet2DModel, schedule: DDPMScheduler, n: int, steps: int, seed: int) -> np.ndarray:
    """``n`` samples by ancestral sampling, uint8 (n, side, side, channels)."""
    schedule = copy.deepcopy(schedule)
    schedule.set_timesteps(steps)
    g = torch.Generator().manual_seed(seed)
    shape = (n, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    x = torch.randn(shape, generator=g)
    for t in schedule.timesteps:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            found = unet(x.to(DEVICE), t.to(DEVICE)).sample
        x = schedule.step(found.float().cpu(), t, x, generator=g).prev_sample
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def legal(pictures: Pictures, images: np.ndarray) -> list[float]:
    """The share of nodes with a legal tuple below them, and below those, a depth, root first."""
    assert pictures.tiles is not None
    levels = pictures.tiles.grammar.parse(pictures.tiles.read(images))
    return [round(float((x >= 0).mean()), 4) for x in levels[:-1]]


def glance(unet: UNet2DModel, schedule: DDPMScheduler, pictures: Pictures) -> dict:
    """Of 64 samples in 50 steps: the legal share a depth of the tree."""
    if pictures.tiles is None:
        return {}
    return {"legal": legal(pictures, draw(unet, schedule, 64, 50, seed=0))}


def of_tiles(pictures: Pictures, images: np.ndarray, trained: np.ndarray) -> list[Line]:
    """Legal shares beside chance, distance in features, and distance to what was trained on.

    ``trained`` are pictures (n, side, side, 3) that the network has seen.
    """
    assert pictures.tiles is not None
    grammar, n = pictures.tiles.grammar, len(images)
    rng = np.random.default_rng(0)
    random = pictures.tiles.render(rng.integers(grammar.v, size=(n, grammar.n_leaves)))
    fresh = [
        pictures.tiles.render(grammar.sample(n, seed=555_000_000 + i)[-1]) for i in range(DRAWS + 2)
    ]
    held = np.concatenate(fresh[:2])
    own, chance = legal(pictures, images), legal(pictures, random)
    known = pictures.tiles.read(trained)
    gaps = [_tiles_apart(pictures.tiles.read(x), known) for x in (images, fresh[0])]
    names = ("whole pictures", "quarters of 4 x 4 tiles", "quarters of 2 x 2 tiles")
    lines = [
        (f"legal {name}, and all below them", f"{a:.3f}", f"{b:.3f} of random tiles")
        for name, a, b in zip(names, own, chance, strict=True)
    ]
    return [
        *lines,
        _distance_line(images, fresh[2:], held, {"random tiles": random}),
        (
            f"tiles unlike the nearest of {len(known):,} training strings (median of 64)",
            f"{np.median(gaps[0]):g}",
            f"{np.median(gaps[1]):g} of fresh strings",
        ),
    ]


def _tiles_apart(strings: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How many symbols each string has unlike the nearest known one, (n,)."""
    return np.array([(known != string).sum(1).min() for string in strings])


def of_digits(pictures: Pictures, images: np.ndarray) -> list[Line]:
    """Distance to held-out digits in features, nearest training digits, and what is recognised."""
    assert pictures.train is not None
    assert pictures.held_out is not None
    rng, n = np.random.default_rng(0), len(images)
    some = [pictures.train[rng.choice(len(pictures.train), n, False)] for _ in range(DRAWS)]
    beside = {
        "the top of one digit on the bottom of another": _two_halves(some[0]),
        "noise": rng.integers(0, 256, images.shape, dtype=np.uint8),
    }
    fresh = pictures.held_out[rng.permutation(len(pictures.held_out))[:n]]
    near, near_fresh = (nearest(x, pictures.train) for x in (images, fresh))
    copies = [float((one < COPY * two).mean()) for one, two in (near, near_fresh)]
    sure = [recognised(x) for x in (images, fresh, beside["noise"])]
    return [
        _distance_line(images, some, pictures.held_out, beside),
        (
            "distance to the nearest training digit (median, pixels of 0 to 255)",
            f"{np.median(near[0]):.0f}",
            f"{np.median(near_fresh[0]):.0f} of held-out digits",
        ),
        (
            "copies: three times as near to one training digit as to any other",
            f"{copies[0]:.3f}",
            f"{copies[1]:.3f} of held-out digits",
        ),
        (
            f"of which the glyphs' MNIST classifier is at least {SURE:.0%} sure",
            f"{sure[0]:.3f}",
            f"{sure[1]:.3f} of held-out digits, {sure[2]:.3f} of noise",
        ),
    ]


def _two_halves(images: np.ndarray) -> np.ndarray:
    """The upper half of each picture on the lower half of the next."""
    middle = images.shape[1] // 2
    return np.concatenate([images[:, :middle], np.roll(images, -1, 0)[:, middle:]], 1)


def nearest(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance of each picture to the nearest and second nearest training picture."""
    flat, known = (torch.from_numpy(x).flatten(1).float() for x in (images, train))
    one, two = torch.cdist(flat, known).topk(2, largest=False).values.unbind(1)
    return one.numpy(), two.numpy()


def recognised(images: np.ndarray) -> float:
    """Share of grey pictures of which the glyphs' fine-tuned MNIST tower is at least SURE."""
    m = ex.open_model("glyphs")
    weights = m.task_vector("mnist").apply_to(m.base)
    _, confidence = m.head("mnist").predict(_raw_features(m, weights, images))
    return float((confidence >= SURE).float().mean())


def _distance_line(
    images: np.ndarray, same: list[np.ndarray], held: np.ndarray, others: dict[str, np.ndarray]
) -> Line:
    """Fréchet distances to held-out pictures in the zoo's CLIP features.

    Heusel et al. 2017 (arXiv 1706.08500), in 128 features rather than Inception's 2048: numbers
    compare with each other, not with published ones. ``same`` are sets of real pictures, as many
    as samples; ``others`` what ought to be far.
    """
    m = ex.open_model("glyphs")
    target = _features(m, held)
    real = sorted(frechet(_features(m, x), target) for x in same)
    far = {name: frechet(_features(m, x), target) for name, x in others.items()}
    beside = [f"{real[0]:.3f} to {real[-1]:.3f} of {len(same)} sets of as many real ones"]
    beside += [f"{value:.3f} of {name}" for name, value in far.items()]
    what = f"Fréchet distance to {len(held):,} held-out pictures, in the glyphs' CLIP features"
    return what, f"{frechet(_features(m, images), target):.3f}", ", ".join(beside)


def _features(m: ex.Model, images: np.ndarray) -> np.ndarray:
    found = _raw_features(m, m.base, images)
    return torch.nn.functional.normalize(found, dim=-1).double().numpy()


def _raw_features(m: ex.Model, weights: dict, images: np.ndarray) -> torch.Tensor:
    """uint8 (n, side, side, 1 or 3) -> features (n, 128) of the glyphs' tower."""
    weights = {name: x.to(m.device) for name, x in weights.items()}
    tower = load_weights(build_tower(m.architecture), weights)
    pixels = PatchTokens(tower, m.card["mean"], m.card["std"], m.device).pixels(images)
    with torch.no_grad():
        return tower(pixels).cpu()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of features (n, d)."""
    one, two = np.cov(a.T), np.cov(b.T)
    # tr (A B)^(1/2) is the sum of the roots of the eigenvalues of A B, real and of 0 or more.
    roots = np.sqrt(np.clip(np.linalg.eigvals(one @ two).real, 0, None)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(one + two) - 2 * roots)
