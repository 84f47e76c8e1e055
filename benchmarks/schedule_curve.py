"""Frames a second of the schedule's curve under the hand, in headless Chromium.

A handle is dragged up and down, one pointer event a frame as a screen gives them, while Python
measures the accuracies of schedules on the way. A frame counts when the curve in it differs from
the frame before; the times between two such frames say whether the curve stood still meanwhile.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from pathlib import Path

import benchmarks
from benchmarks import Row
from benchmarks._browser import browser_page, serving

MODEL = "glyphs"
LINK = "letters=1&schedule=lines:0.1,0.9&view.lens=schedule"
DRAG = """([seconds, x, y]) => new Promise((done) => {
    const find = (root) => root.querySelector("svg .line")?.closest("svg")
        ?? [...root.querySelectorAll("*")].reduce((found, node) =>
            found ?? (node.shadowRoot ? find(node.shadowRoot) : undefined), undefined)
    const svg = find(document), handle = svg.querySelector("[role=slider]")
    const frames = []
    let last = "", begun = 0
    const look = (now) => {
        begun ||= now
        const drawn = svg.querySelector(".line").getAttribute("d")
        if (drawn !== last) { last = drawn; frames.push(now) }
        if (now - begun > 1000 * seconds) { done(frames); return }
        const to = y - 45 + 40 * Math.cos((now - begun) / 400)
        handle.dispatchEvent(new PointerEvent("pointermove",
            {clientX: x, clientY: to, bubbles: true, composed: true}))
        requestAnimationFrame(look)
    }
    requestAnimationFrame(look)
})"""


def measure(quick: bool = False) -> list[Row]:
    """Frames a second of the schedule's curve while it is dragged."""
    with tempfile.TemporaryDirectory() as folder, browser_page() as page:
        env = serving.environment(threads=2)
        with serving.served(Path(folder), MODEL, env) as app:
            page.goto(f"{app.url}?base={MODEL}&{LINK}")
            page.locator(".notices .text", has_text="all ").last.wait_for()
            handle = page.get_by_role("slider", name="alpha", exact=True).locator(".knob")
            box = handle.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            times = page.evaluate(DRAG, [3 if quick else 12, x, y])
            page.mouse.up()
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    if len(gaps) < 3:
        raise RuntimeError(f"the curve was drawn anew only {len(times)} times while it was dragged")
    seconds = (times[-1] - times[0]) / 1e3
    note = f"{len(times)} frames in {seconds:.1f} s"
    return [
        Row("schedule curve while dragged", len(gaps) / seconds, "frames/s", note),
        Row("between two frames: median", statistics.median(gaps), "ms"),
        Row("between two frames: 95th percentile", gaps[round(0.95 * (len(gaps) - 1))], "ms"),
    ]


if __name__ == "__main__":
    benchmarks.main(measure)
