"""Slider event -> repainted tree of the hierarchy lens, in headless Chromium: served and in Lab.

An event counts as answered in the frame after the one in which the tree shows its level. The
browser holds the tree at every level, so that Python has no part in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import benchmarks
from benchmarks import Row, median_row
from benchmarks._browser import browser_page, serving

SIZE = (32, 8, 2, 7)
REPAINT = """async (tree, levels) => {
    const slider = tree.querySelector("input[type=range]")
    const times = []
    for (const level of levels) {
        const started = performance.now()
        slider.value = level
        slider.dispatchEvent(new Event("input", {bubbles: true}))
        while (tree.dataset.level !== level.toFixed(2)) await new Promise(requestAnimationFrame)
        await new Promise(requestAnimationFrame)
        times.push(performance.now() - started)
    }
    return times
}"""


def measure(quick: bool = False) -> list[Row]:
    """Time from an event of the slider to the tree on screen, in the app and in a cell."""
    n = 10 if quick else 40
    link = f"view.lens=hierarchy&view.grammar={','.join(map(str, SIZE))}&view.n=8,8"
    env = serving.environment(threads=2)
    with tempfile.TemporaryDirectory() as name, browser_page() as page:
        folder = Path(name)
        with serving.served(folder, "glyphs", env) as app:
            page.goto(f"{app.url}?{link}")
            rows = _repaints(page, "served", n)
        with serving.lab(folder, env) as lab:
            lab.open(page, [f"import explorer as ex\nex.HierarchyLens(query={link!r})"])
            rows += _repaints(page, "JupyterLab", n)
    return rows


def _repaints(page, where: str, n: int) -> list[Row]:
    page.locator(".notices .text", has_text="curves: 41 levels").last.wait_for()
    found = page.locator(".rhm-tree").first.evaluate(
        REPAINT, [(7 * i % 100 + 1) / 100 for i in range(n)]
    )
    times = sorted(milliseconds / 1000 for milliseconds in found)
    note = f"(v, m, s, L) = {SIZE}"
    return [
        median_row(f"tree repaints, {where}: median", times, note=note),
        Row(f"tree repaints, {where}: slowest", 1000 * times[-1], "ms", "300 is the most wanted"),
    ]


if __name__ == "__main__":
    benchmarks.main(measure)
