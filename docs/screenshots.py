"""Pictures of the lenses for README and docs: `python docs/screenshots.py [LENS ...] [--in WHERE]`.

Each lens with the embedded model in headless Chromium, after everything it computes by itself is on
screen, in the size of a laptop's window: on a page of its own, on a dark one, and in a cell of
JupyterLab. Writes docs/images/LENS-lens.png, LENS-lens-dark.png and LENS-lens-cell.png.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import seeing
import serving

ROOT = Path(__file__).resolve().parents[1]
MODEL = "glyphs"
IMAGES = ROOT / "docs" / "images"
QUERIES = {
    "arithmetic": "mnist=0.45&letters=0.55&emoji=0.3&view.focus=letters",
    "disentanglement": "view.lens=disentanglement&view.pair=letters,hiragana"
    "&view.point=0.8,0.7&view.maps=weights,tangent,lines",
    "schedule": "letters=1&schedule=lines:0.1,0.9&view.lens=schedule&view.focus=letters",
    "hierarchy": "view.lens=hierarchy&view.grammar=32,8,2,7&view.level=0.72",
    "diffusion": "view.lens=diffusion&view.model=digits&view.picture=3&view.level=0.7"
    "&view.n=16,25,1",
}
# What is begun by a button, and how its end is told.
BEGUN = {"schedule": ("measure forgetting", "By the paper's rule")}
CELLS = {
    "arithmetic": "ex.ArithmeticLens(ex.open_model('glyphs'))",
    "disentanglement": "ex.DisentanglementLens(ex.open_model('glyphs'), ('letters', 'hiragana'))",
    "schedule": "ex.ScheduleLens(ex.open_model('glyphs'))",
    "hierarchy": "ex.HierarchyLens()",
    "diffusion": "ex.DiffusionLens('digits')",
}
ENDINGS = {"page": "", "dark": "-dark", "cell": "-cell"}
DARKER = re.compile("theme|dark|light", re.IGNORECASE)
STEADY = 8
"""Looks in a row, a quarter of a second apart, that must find nothing under way."""


def wait_until_idle(page: Page) -> None:
    """Until all that a lens computes by itself is on screen."""
    while not seeing.comes_to_rest(page, STEADY):
        pass
    page.mouse.move(0, 0)


def take(page: Page, lens: str, where: str) -> None:
    """Write the picture of what is on screen."""
    wait_until_idle(page)
    path = IMAGES / f"{lens}-lens{ENDINGS[where]}.png"
    page.screenshot(path=path)
    print(path.relative_to(ROOT), flush=True)


def take_pages(open_page: Callable[[], Page], lenses: list[str], where: str) -> None:
    """Pictures of the served app, light or dark."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving.served(Path(folder), MODEL, serving.environment(threads=2)) as app,
    ):
        for lens in lenses:
            page = open_page()
            page.goto(f"{app.url}?base={MODEL}&{QUERIES[lens]}")
            wait_until_idle(page)
            if lens in BEGUN:
                button, end = BEGUN[lens]
                page.get_by_role("button", name=button).click()
                page.get_by_text(end).wait_for()
                page.get_by_role("button", name=button).wait_for()  # while it runs it says "stop"
            if where == "dark":
                page.get_by_role("button", name=DARKER).last.click()
            take(page, lens, where)
            page.close()


def take_cells(open_page: Callable[[], Page], lenses: list[str]) -> None:
    """Pictures of JupyterLab with a lens as the last line of a cell."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving.lab(Path(folder), serving.environment(threads=2)) as lab,
    ):
        for lens in lenses:
            page = open_page()
            lab.open(page, ["import explorer as ex", CELLS[lens]])
            take(page, lens, "cell")
            page.close()


def main() -> None:
    """Take the pictures asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lenses", nargs="*", metavar="LENS", choices=[*QUERIES, []])
    parser.add_argument("--in", dest="where", choices=ENDINGS, help="all three by default")
    given = parser.parse_args()
    lenses = given.lenses or [*QUERIES]
    browser = serving.find_browser()
    if browser is None:
        raise SystemExit("No Chromium on this machine; install chromium to take pictures.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=serving.ARGUMENTS)

        def open_page() -> Page:
            page = chromium.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(120_000)
            page.add_init_script(serving.NO_TOUR)
            return page

        for where in [given.where] if given.where else ENDINGS:
            if where == "cell":
                take_cells(open_page, lenses)
            else:
                take_pages(open_page, lenses, where)
        chromium.close()


if __name__ == "__main__":
    main()
