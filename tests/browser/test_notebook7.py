"""A real Notebook 7 in headless Chromium: the lens, the whole app, and the lens as an ipywidget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import serving
from seeing import chart, edited, slider, tiles, wait_until_complete, widget_is_observed_and_set
from test_lab import APP, LENS, OPEN, WIDGET
from test_tutorial import code_cells


@pytest.fixture
def forgiven() -> tuple[str, ...]:
    """What Notebook 7.6 logs for a notebook of the one cell `1 + 1`."""
    return ("Cannot read properties of undefined (reading 'schema')",)


@pytest.fixture(scope="module")
def notebook7(tiny_folder: Path, tmp_path_factory) -> Iterator[serving.Lab]:
    """A Notebook 7 of its own, which finds the tiny model."""
    pytest.importorskip("notebook", minversion="7", reason="Notebook 7 is not installed")
    folder = tmp_path_factory.mktemp("notebook7")
    env = serving.environment(tiny_folder.parent, folder / "cache")
    with serving.lab(folder, env, "notebook") as running:
        yield running


@pytest.mark.parametrize("cells", [[OPEN, LENS], [APP]], ids=["lens", "app"])
def test_a_slider_changes_chart_and_gallery_and_undo_brings_them_back(
    page, notebook7, until, cells
):
    notebook7.open(page, cells)
    wait_until_complete(page)
    before, labels = chart(page), tiles(page)
    slider(page, "Digits").focus()
    page.keyboard.press("End")
    until(lambda: edited(page, "Digits") != before["edited"][0], "the chart follows")
    until(lambda: tiles(page) != labels, "the gallery follows")
    page.keyboard.press("Control+z")
    until(lambda: chart(page)["edited"] == before["edited"], "Ctrl+Z undoes")
    assert float(slider(page, "Digits").input_value()) == 0


def test_the_ipywidget_in_a_vbox_is_observed_and_set(page, notebook7, until):
    notebook7.open(page, [OPEN, WIDGET])
    wait_until_complete(page)
    widget_is_observed_and_set(page, until)


def test_a_lens_follows_interact_and_a_figure_follows_the_lens(page, notebook7, until):
    (example,) = [cell for cell in code_cells() if "interact" in cell]
    notebook7.open(page, ["import explorer as ex\nm = ex.open_model('glyphs')", example])
    figure = page.locator(".jp-OutputArea-output img").first
    figure.wait_for()
    before = figure.get_attribute("src")
    # By mouse: arrow keys do not move any slider of ipywidgets in Notebook 7.6.
    handle = page.locator(".widget-inline-hbox .noUi-handle").first
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=3)
    page.mouse.up()
    until(lambda: float(slider(page, "Letters").input_value()) > 0, "interact moves the lens")
    until(lambda: figure.get_attribute("src") != before, "the figure is drawn anew")
