"""Slider event -> repainted preview chart, in headless Chromium: served and in JupyterLab.

An event is a key press on a slider; it counts as answered when the chart was repainted with a
picture of that value or a later one, and the frame after it began. "One at a time" presses a key
when the last picture is complete, "dragging" some 25 times a second without waiting.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import benchmarks
from benchmarks import Row
from benchmarks._browser import browser_page, serving

MODEL = "glyphs"
PROBE = """(task) => {
    const models = Bokeh.documents.flatMap((d) => [...d._all_models.values()])
    const source = models.findLast((m) =>
        m.type === "ColumnDataSource" && m.columns().includes("digits"))
    const figure = models.findLast((m) => m.type === "Figure"
        && m.renderers.some((r) => r.data_source === source))
    const view = [...Bokeh.index.query((v) => v.model === figure)][0]
    const row = [...source.get_column("name")].indexOf(task)
    const shown = () => source.get_column("coefficient")[row]
    window.latency = {pending: [], answered: []}
    document.addEventListener("keydown", (event) => {
        const value = Number(event.composedPath()[0].value) + 0.01
        window.latency.pending.push({at: event.timeStamp, value})
    }, true)
    view.repainted.connect(() => requestAnimationFrame(() => {
        const now = performance.now(), value = shown()
        const {pending, answered} = window.latency
        while (pending.length && pending[0].value <= value + 1e-6)
            answered.push(now - pending.shift().at)
    }))
}"""


def measure(quick: bool = False) -> list[Row]:
    """Latency of a slider event in the served app and in a JupyterLab cell."""
    n = 15 if quick else 60
    rows = []
    with tempfile.TemporaryDirectory() as folder, browser_page() as page:
        env = serving.environment(threads=2)
        with serving.served(Path(folder), MODEL, env) as app:
            page.goto(app.url)
            rows += _latencies(page, "served", n)
        with serving.lab(Path(folder), env) as lab:
            lab.open(page, [f"import explorer as ex\nex.app({MODEL!r})"])
            rows += _latencies(page, "JupyterLab", n)
    return rows


def _latencies(page, where: str, n: int) -> list[Row]:
    slider = page.locator(".row[data-task] input[type=range]").first
    slider.wait_for()
    task = page.locator(".row[data-task]").first.get_attribute("data-task")
    _complete(page)
    page.evaluate(PROBE, task)
    slider.focus()
    page.keyboard.press("ArrowRight")  # the first event also imports and allocates
    _complete(page)
    page.evaluate("window.latency.answered.length = 0")
    rows = []
    for way, wait in (("one at a time", None), ("dragging", 40)):
        for _ in range(n):
            page.keyboard.press("ArrowRight")
            if wait is None:
                _complete(page)
            else:
                page.wait_for_timeout(wait)
        _complete(page)
        times = sorted(page.evaluate("window.latency.answered.splice(0)"))
        rows += _rows(f"{where}, {way}", times, n)
    return rows


def _complete(page) -> None:
    """Until the picture on screen is complete and belongs to the recipe on screen."""
    page.wait_for_function("() => !window.latency || window.latency.pending.length === 0")
    page.locator(".notices .text", has_text="all ").last.wait_for()


def _rows(what: str, times: list[float], n: int) -> list[Row]:
    if len(times) < n:
        raise RuntimeError(f"{what}: {n - len(times)} of {n} slider events were never answered")
    p95 = times[min(len(times) - 1, round(0.95 * (len(times) - 1)))]
    note = f"{times[0]:.0f} to {times[-1]:.0f} ms, {n} events"
    return [
        Row(f"{what}: median", statistics.median(times), "ms", note),
        Row(f"{what}: 95th percentile", p95, "ms"),
    ]


if __name__ == "__main__":
    benchmarks.main(measure)
