"""Sentences on the screen of the diffusion lens.

As in the hierarchy lens, a chunk is what changed together (here: connected changed patches); a
block is only ever a square of pixels, or a layer of a network.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explorer.app.diffusion.setting import METHODS
from explorer.app.diffusion.tracks import Track

if TYPE_CHECKING:
    from explorer.app.diffusion.lens import DiffusionLens

SEEN_IN = {
    "blocks": "Changes of pixels are local, and also see shades that mean nothing.",
    "clip": "CLIP's tokens have attended to the whole picture: part of their correlation at large "
    "distances is the network's own.",
    "symbols": "Symbols are read off the tiles by their nearest colour.",
}


def approximate(lens: DiffusionLens) -> str:
    """What is approximate in what is on screen."""
    setting, track = lens.state.setting, lens.tracks[0]
    if track is None:
        return ""
    pictures = max((row.pictures for row in track.curve_rows), default=1)
    over = (
        f"over {pictures} pictures with their trajectories"
        if pictures > 1
        else "over the trajectories of one picture, and say nothing of others"
    )
    said = [
        f"Approximate: the network stands in for the exact p(x₀ | x_t), in {track.steps} steps.",
        SEEN_IN[lens.kind],
        f"Error bars are bootstrapped {over}.",
        "A peak of χ alone shows no hierarchy: look at how C(r) falls off, and at the chunks.",
    ]
    if track.facts.get("stochastic", int(setting.method != "ddim_preview")) == 0:
        said.insert(1, "DDIM with η = 0 draws no samples of p(x₀ | x_t): a preview.")
    measured = [found.note for _, found in lens.measured if found is not None]
    seen = [str(found.attrs.get("note", "")) for _, found in lens.features]
    notes = [str(track.facts.get("note", "")), *measured, *seen]
    return " ".join([*said, *dict.fromkeys(note for note in notes if note)])


def status(lens: DiffusionLens) -> str:
    """What is on screen, and how far it is."""
    track = lens.tracks[0]
    setting = lens.state.setting
    if track is None:
        name = setting.subjects[0].model
        return f"opening {name}…" if lens.busy else "no model is open" if not name else f"{name}"
    if track.precomputed:
        counts = f"{track.spec.samples if not track.rows else _samples(track)} variants a level"
        return f"{track.title} · precomputed run, {len(track.rows)} levels, {counts}"
    what = f"{track.title} · {METHODS[setting.method]}, {setting.samples} variants a level"
    done = sum(track.done(point, setting.data) for point in track.spec.points)
    pictures = f" of {setting.data} pictures" if setting.data > 1 else ""
    levels = f"{done} of {len(track.spec.points)}" if not lens.complete else f"{done}"
    stopped = " · stopped" if lens.stopped and not lens.complete else ""
    return f"{what} · curves: {levels} levels{pictures}{_left(lens)}{stopped}"


def _samples(track: Track) -> int:
    return len(next(iter(track.rows.values())).images)


def _left(lens: DiffusionLens) -> str:
    seconds = lens.computing.seconds_left if lens.busy else None
    if seconds is None:
        return ""
    if seconds >= 90:
        return f" · about {math.ceil(seconds / 60)} min left"
    return f" · about {max(1, math.ceil(seconds / 5) * 5)} s left"
