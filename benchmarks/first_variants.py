"""Releasing the noise slider -> first variants on screen, in headless Chromium: the served app.

Levels between those of the curves, so that nothing of them is known. The first variants are the
network's predictions at once, a preview; finished ones are denoised to the end. A variant is on
screen in the frame after the one in which the large picture was painted anew.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import benchmarks
from benchmarks import Row, median_row
from benchmarks._browser import browser_page, serving

LEVELS = (0.46, 0.74, 0.92, 0.34, 0.58, 0.86)
"""Whole numbers of 50 steps, none a multiple of 0.1."""
RELEASE = """async (root, level) => {
    const slider = root.querySelector("input[type=range]")
    const picture = () => root.querySelector("figure.out canvas.pixels").toDataURL()
    slider.value = level
    slider.dispatchEvent(new Event("input", {bubbles: true}))
    await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame)
    const frame = () => new Promise(requestAnimationFrame)
    const before = picture(), started = performance.now()
    slider.dispatchEvent(new Event("change", {bubbles: true}))
    const here = () => root.dataset.shown === level.toFixed(2)
    while (!here() || picture() === before) await frame()
    await frame()
    const first = performance.now() - started
    while (!here() || root.dataset.state !== "finished") await frame()
    await frame()
    return [first, performance.now() - started]
}"""


def measure(quick: bool = False) -> list[Row]:
    """Seconds from releasing the slider to the first variants, and to finished ones."""
    rows: list[Row] = []
    env = serving.environment(threads=2)
    with (
        tempfile.TemporaryDirectory() as name,
        browser_page() as page,
        serving.served(Path(name), "glyphs", env) as app,
    ):
        for model in ("tiles",) if quick else ("tiles", "digits"):
            rows += _releases(page, app.url, model, 2 if quick else len(LEVELS))
    return rows


def _releases(page, url: str, model: str, n: int) -> list[Row]:
    rows = []
    for busy in (False, True):
        # Another seed: nothing of it is known, and its curves begin to be computed.
        query = f"view.lens=diffusion&view.model={model}&view.n=16,50,1&view.seed={int(busy)}"
        page.goto(f"{url}?{query}&view.level=0.2")
        page.locator(".noise-denoise[data-state=finished]").first.wait_for()
        if not busy:
            page.locator(".notices .text", has_text="curves: 10 levels").last.wait_for()
        found = [
            page.locator(".noise-denoise").first.evaluate(RELEASE, level) for level in LEVELS[:n]
        ]
        when = "while curves are computed" if busy else "nothing else computed"
        for what, i, note in (("first", 0, "limit 2 s"), ("finished", 1, "50 steps")):
            times = sorted(pair[i] / 1000 for pair in found)
            rows.append(median_row(f"{model}, {when}: {what} variants", times, "s", note))
    return rows


if __name__ == "__main__":
    benchmarks.main(measure)
