"""Pictures at the head of the tutorials: `python docs/notebook_figures.py [NUMBER ...]`.

Opens each tutorial's lens in JupyterLab with the embedded models, as the tutorial's own cells do,
makes the first move that the text suggests, and writes what the cell then shows to
notebooks/images/NAME.png: notebooks are kept without outputs, and a code host runs nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from screenshots import ROOT, seeing, serving, wait_until_idle

NOTEBOOKS = ROOT / "notebooks"
IMAGES = NOTEBOOKS / "images"
WIDTH, HEIGHT = 1280, 1000
"""Of the window. A cell beside no file browser is about 1,100 pixels wide."""
LARGE = 190_000
"""Bytes above which a picture gets a palette of 256 colours, of those furthest apart."""
OPEN = "import explorer as ex\nm = ex.open_model('glyphs')"


def move(**coefficients: str) -> Callable[[Page], None]:
    """Type coefficients, by the titles of the tasks, with "_" for a blank."""

    def typed(page: Page) -> None:
        wait_until_idle(page)
        for task, value in coefficients.items():
            seeing.set_number(page, task.replace("_", " "), value)

    return typed


def find_a_model(page: Page) -> None:
    """Unfold the app's list of what can be opened."""
    wait_until_idle(page)
    page.get_by_role("button", name="find a model").click()
    page.wait_for_timeout(3000)


FIGURES: dict[str, tuple[list[str], Callable[[Page], None], int]] = {
    "00-start-here": (["import explorer as ex", "ex.app()"], move(MNIST_digits="0.5"), 760),
    "01-task-arithmetic": (
        [OPEN, "ex.ArithmeticLens(m)"],
        move(MNIST_digits="0.5", Letters="0.5"),
        760,
    ),
    "02-weight-disentanglement": ([OPEN, "ex.DisentanglementLens(m)"], move(), 860),
    "03-lines-and-merging": ([OPEN, "ex.ScheduleLens(m)"], move(), 820),
    "04-your-own-checkpoints": (["import explorer as ex", "ex.app()"], find_a_model, 760),
    "05-noise-and-denoise": (["import explorer as ex", "ex.DiffusionLens('digits')"], move(), 860),
    "06-random-hierarchy-model": (["import explorer as ex", "ex.HierarchyLens()"], move(), 835),
    "07-learning-the-hierarchy": (
        ["import explorer as ex", "ex.HierarchyLens(query='view.view=learning')"],
        move(),
        760,
    ),
}
"""For each tutorial: the cells that show its lens, what is done there, and the picture's height."""


def take(page: Page, name: str, height: int) -> None:
    """Write the picture of the last output, cut off below `height` pixels."""
    wait_until_idle(page)
    output = page.locator(".jp-OutputArea-output").last
    output.scroll_into_view_if_needed()
    picture = Image.open(BytesIO(output.screenshot())).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(height, picture.height)))
    path = IMAGES / f"{name}.png"
    picture.save(path, optimize=True)
    if path.stat().st_size > LARGE:
        picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    """Take the pictures of the tutorials whose numbers are given, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="00, 01, ...; all by default")
    numbers = parser.parse_args().numbers
    browser = serving.find_browser()
    if browser is None:
        raise SystemExit("No Chromium on this machine; install chromium to take pictures.")
    IMAGES.mkdir(exist_ok=True)
    with (
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
        serving.lab(Path(folder), serving.environment(threads=2)) as lab,
    ):
        chromium = playwright.chromium.launch(executable_path=browser, args=serving.ARGUMENTS)
        for name, (cells, act, height) in FIGURES.items():
            if numbers and name[:2] not in numbers:
                continue
            page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(240_000)
            page.add_init_script(serving.NO_TOUR)
            lab.open(page, cells)
            page.keyboard.press("Control+b")  # no file browser
            page.wait_for_function(seeing.REPAINTED)
            act(page)
            take(page, name, height)
            page.close()
        chromium.close()


if __name__ == "__main__":
    main()
