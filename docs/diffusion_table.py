"""Measure what changes together in the embedded diffusion models; write it in their model cards.

python docs/diffusion_table.py [--model tiles|digits] [--check] [--pictures N] [--samples N]

Tiles: the network beside the exact denoiser, from the same noised pictures. Digits: the papers'
curves. A quarter of an hour on one busy core.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import xarray as xr

import explorer as ex
from explorer.diffusion.model import Diffusion
from explorer.measures.exact_score import score_against_exact

ZOO = Path(__file__).parent.parent / "explorer" / "zoo"
BEGIN = "<!-- changes: begin (written by python docs/diffusion_table.py) -->\n"
END = "<!-- changes: end -->\n"
LEVELS = {
    "tiles": (0.5, 0.6, 0.7, 0.76, 0.82, 0.9, 1.0),
    "digits": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
SIZES = {"tiles": (16, 32), "digits": (10, 32)}  # pictures that are noised, trajectories of each
STEPS = 50
STARTS = 987_654_321  # seed of the strings that are noised: neither trained on nor embedded
DISTANCES = (1.0, 2.0, 3.0, 4.0)
# Kinds of processors round differently, and a trajectory near a decision then ends elsewhere.
RELATIVE, ABSOLUTE = 0.1, 0.05


def of_tiles(pictures: int, samples: int) -> str:
    """Network and exact denoiser, level by level, in Markdown."""
    p = ex.open_diffusion("tiles", device="cpu")
    starts = p.tiles.render(p.tiles.grammar.sample(pictures, seed=STARTS)[-1])
    score = score_against_exact(_run(p, starts, samples), p)
    rows = [
        "| t / T | changed: network | exact | chi: network | exact | chunk: network | exact "
        "| squared error: network | exact |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for i, level in enumerate(score.level.values):
        at = score.isel(level=i)
        cells = [
            *(f"{float(x):.3f}" for x in at.changed),
            *_pair(at, "susceptibility"),
            *_pair(at, "block_size", 1),
            *(f"{float(x):.4f}" for x in at.mean_error),
        ]
        rows.append(f"| {level:.2f} | {' | '.join(cells)} |")
    parts = ["\n".join(rows), _correlations(score), _verdict(score)]
    parts.append(
        f"{pictures} fresh strings, {samples} trajectories each, {STEPS} steps of ancestral "
        "sampling; the exact denoiser draws from the posterior of the very same x_t, once each. "
        "Changed: share of the 64 tiles. chi: susceptibility. Chunk: mean size of the connected "
        "chunk of a changed tile. Squared error: of the predicted mean of x_0 (-1 to 1). ± is a "
        "bootstrap over strings."
    )
    return "\n\n".join(parts) + "\n"


def _pair(at: xr.Dataset, name: str, digits: int = 2) -> list[str]:
    values, errors = at[name].values, at[f"{name}_error"].values
    return [f"{x:.{digits}f} ± {e:.{digits}f}" for x, e in zip(values, errors, strict=True)]


def _correlations(score: xr.Dataset) -> str:
    """Relative correlation C(r) / C(0) by distance, at every level."""
    titles = [f"r = {r:g}: {who} |" for r in DISTANCES for who in ("network", "exact")]
    rows = ["| t / T | " + " ".join(titles), "|---" * (1 + len(titles)) + "|"]
    for i, level in enumerate(score.level.values):
        pairs = [
            _pair(score.isel(level=i).sel(distance=r), "relative_correlation") for r in DISTANCES
        ]
        rows.append(
            f"| {level:.2f} | " + " | ".join(cell for pair in pairs for cell in pair) + " |"
        )
    return "Correlation of the changes of two tiles at distance r, over that at 0:\n\n" + "\n".join(
        rows
    )


def _verdict(score: xr.Dataset) -> str:
    """How far the two are apart, in words that follow from the numbers."""
    known = np.isfinite(score.susceptibility).all("denoiser")
    score = score.isel(level=np.flatnonzero(known.values))
    chi, error = (
        score[f"susceptibility{x}"].transpose("level", "denoiser").values for x in ("", "_error")
    )
    apart = (chi[:, 0] - chi[:, 1]) / np.hypot(error[:, 0], error[:, 1])
    peaks = [f"{chi[k, j]:.2f} at {score.level.values[k]:.2f}" for j, k in enumerate(chi.argmax(0))]
    near = score.relative_correlation.sel(distance=list(DISTANCES))
    wide = score.relative_correlation_error.sel(distance=list(DISTANCES))
    gap = (near.sel(denoiser="network") - near.sel(denoiser="exact")).values
    far = np.abs(gap) > 2 * np.hypot(
        *(wide.sel(denoiser=who).values for who in ("network", "exact"))
    )
    own = score.mean_error.sel(denoiser="exact").values
    excess = score.gap.values / own
    worst = int(excess.argmax())
    return (
        f"chi peaks at {peaks[0]} for the network and {peaks[1]} exactly; the mean difference is "
        f"{np.abs(chi[:, 0] - chi[:, 1]).mean():.2f}, and {int((np.abs(apart) > 2).sum())} of "
        f"{len(apart)} levels lie more than two errors (of both, added in squares) apart. Of the "
        f"{gap.size} values of C(r) / C(0) above, {int(far.sum())} do; their mean difference is "
        f"{np.abs(gap).mean():.3f}. Against the exact denoiser the network's squared error is "
        f"{np.median(excess):.1%} too large at the median level and {excess[worst]:.0%} at the "
        f"worst, t / T = {score.level.values[worst]:.2f}."
    )


def of_digits(pictures: int, samples: int) -> str:
    """Changes of digits in pixel blocks and CLIP tokens, and what a classifier says."""
    p = ex.open_diffusion("digits", device="cpu")
    result = _run(p, p.examples[:pictures], samples)
    kinds = {
        kind: ex.chunk_statistics(ex.change_field(result, kind)) for kind in ("blocks", "clip")
    }
    seen = ex.depth_similarity(result, ex.open_model("glyphs"), "mnist")
    rows = [
        "| t / T | chi of 4-pixel blocks | their correlation length | chi of CLIP tokens "
        "| another digit | similarity: first block | last block | logits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for i, level in enumerate(result.level.values):
        blocks, clip, at = (x.isel(level=i) for x in (*kinds.values(), seen))
        last = at.sizes["depth"] - 2
        cells = [
            _measured(blocks, "susceptibility"),
            _measured(blocks, "correlation_length"),
            _measured(clip, "susceptibility"),
            _measured(at, "flipped"),
            *(_measured(at.isel(depth=k), "similarity") for k in (0, last, last + 1)),
        ]
        rows.append(f"| {level:.2f} | {' | '.join(cells)} |")
    how = (
        f"{pictures} held-out digits, {samples} trajectories each, {STEPS} steps of ancestral "
        "sampling. Correlation length in blocks. Another digit: share of variants that the glyphs' "
        "fine-tuned MNIST tower puts into another class than the original; similarity: cosine of "
        "its whitened features. ± is a bootstrap over pictures, of the last four columns a "
        "standard error."
    )
    return "\n".join([*rows, "", _transition(result.level.values, seen), "", how]) + "\n"


def _transition(levels: np.ndarray, seen: xr.Dataset) -> str:
    """Where half of the change is done, by depth."""
    half = {}
    for name, depth in (("first block", 0), ("last block", -2), ("logits", -1)):
        curve = seen.similarity.isel(depth=depth).values
        middle = (1 + curve[-1]) / 2
        k = int(np.flatnonzero(curve < middle)[0])
        start = (levels[k - 1], curve[k - 1]) if k else (0.0, 1.0)
        share = (start[1] - middle) / (start[1] - curve[k])
        half[name] = start[0] + share * (levels[k] - start[0])
    words = ", ".join(f"{name} {level:.2f}" for name, level in half.items())
    return f"t / T at which half of the fall in similarity is done: {words}."


def _measured(at: xr.Dataset, name: str) -> str:
    return f"{float(at[name]):.2f} ± {float(at[f'{name}_error']):.2f}"


def _run(p: Diffusion, starts: np.ndarray, samples: int) -> xr.Dataset:
    options = {"samples": samples, "steps": STEPS}
    return ex.forward_backward(p, starts, LEVELS[p.name], **options).result(False)


def differences(written: str, found: str) -> list[str]:
    """Lines whose words, or whose numbers by more than the tolerances, differ."""
    number = re.compile(r"-?\d+\.\d+|nan")
    old, new = written.strip().splitlines(), found.strip().splitlines()
    if len(old) != len(new):
        return [f"the card has {len(old)} lines, the measurement {len(new)}"]
    wrong = []
    for before, now in zip(old, new, strict=True):
        pairs = [np.array(number.findall(line), dtype=float) for line in (before, now)]
        same = number.sub("", before) == number.sub("", now) and np.allclose(
            *pairs, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True
        )
        if not same:
            wrong.append(f"card: {before}\nmeasured: {now}")
    return wrong


MODELS = {"tiles": of_tiles, "digits": of_digits}


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), help="one of them (both)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    parser.add_argument(
        "--pictures", type=int, help="pictures that are noised (tiles 16, digits 10)"
    )
    parser.add_argument("--samples", type=int, help="trajectories of each (32)")
    arguments = parser.parse_args()
    status = 0
    for name in [arguments.model] if arguments.model else list(MODELS):
        pictures, samples = SIZES[name]
        text = MODELS[name](arguments.pictures or pictures, arguments.samples or samples)
        print(text, end="", flush=True)
        card = ZOO / name / "CARD.md"
        before, _, rest = card.read_text(encoding="utf-8").partition(BEGIN)
        written, _, after = rest.partition(END)
        if arguments.check:
            wrong = differences(written, text)
            print("\n".join(wrong) or f"The card of {name} agrees.")
            status |= bool(wrong)
        elif not rest:
            print(f"The card of {name} has no place for the tables.", file=sys.stderr)
            return 1
        else:
            card.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
