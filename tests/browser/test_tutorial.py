"""Notebook 00 as a new user meets it, and what a notebook can do with more than one cell."""

from __future__ import annotations

import json
import shutil

import serving
from seeing import CHART, REPAINTED, set_number, slider, wait_until_complete

NOTEBOOK = serving.ROOT / "notebooks" / "00-start-here.ipynb"
OPEN = "import explorer as ex\nm = ex.open_model('tiny')"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def on_charts(page, task: str) -> list[float]:
    """The edited accuracy on every chart; all but the app's stay where they begin."""
    charts = page.evaluate(CHART)
    return [columns["edited"][columns["task"].index(task)] for columns in charts]


def test_a_new_user_walks_through_notebook_00(page, lab, until):
    """As it says: run the cells, drag a slider, break the network, undo, look through a lens."""
    shutil.copy(NOTEBOOK, lab.folder / NOTEBOOK.name)
    shutil.copytree(NOTEBOOK.parent / "images", lab.folder / "images", dirs_exist_ok=True)
    lab.open_file(page, NOTEBOOK.name)
    picture = page.get_by_role("img", name="The whole app in a cell")
    picture.wait_for()
    until(lambda: picture.evaluate("i => i.naturalWidth") > 500, "the picture is there")
    page.wait_for_function(REPAINTED)
    # The other cells run as well, and one of them shows a lens of its own.
    cell = page.locator(".jp-CodeCell").first
    slider(cell, "MNIST digits").wait_for()
    cell.locator(".notices .text", has_text="all ").first.wait_for()
    before = on_charts(page, "MNIST digits")[0]
    set_number(cell, "MNIST digits", "0.5")
    until(lambda: max(on_charts(page, "MNIST digits")) > before + 0.05, "the chart follows")
    set_number(cell, "all tasks", "2")
    until(lambda: min(on_charts(page, "MNIST digits")) < before - 0.05, "it breaks")
    cell.get_by_role("button", name="undo", exact=True).first.click()
    until(lambda: max(on_charts(page, "MNIST digits")) > before + 0.05, "undo takes it back")
    cell.get_by_role("button", name="Random hierarchy model").click()
    page.locator(".rhm-tree").wait_for()
    page.locator(".jp-RenderedHTMLCommon table").last.scroll_into_view_if_needed()
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']")
    assert errors.count() == 0, errors.all_inner_texts()


def test_the_app_is_a_full_tab_beside_the_notebook(page, lab, until):
    lab.open(page, ["import explorer as ex\nex.app.tab('tiny')"])
    frame = page.locator(".jp-OutputArea-output iframe").first
    frame.wait_for()
    page.locator(".jp-OutputArea-promptOverlay").last.click(button="right")
    page.get_by_text("Create New View for Cell Output").click()
    tab = page.locator(".jp-LinkedOutputView iframe")
    tab.wait_for()
    app = page.frame_locator(".jp-LinkedOutputView iframe")
    app.get_by_role("slider", name="Digits", exact=True).wait_for()
    app.locator(".notices .text", has_text="all ").last.wait_for()
    field = app.get_by_role("spinbutton", name="Digits, exact value", exact=True)
    field.fill("0.7")
    field.press("Enter")
    app.get_by_role("button", name="undo", exact=True).click()
    until(lambda: field.input_value() == "0.00", "the tab is alive")


def test_two_cells_share_one_session_state(page, lab, until):
    lab.open(page, [OPEN, "lens = ex.ArithmeticLens(m)\nlens", "lens"])
    handles = slider(page, "Digits")
    until(lambda: handles.count() == 2, "two displays")
    page.wait_for_function(REPAINTED)
    handles.nth(0).focus()
    page.keyboard.press("End")
    until(lambda: handles.nth(1).input_value() == "2", "the second follows the first")
    handles.nth(1).focus()
    page.keyboard.press("Control+z")
    until(lambda: handles.nth(0).input_value() == "0", "and the first the second")


def test_after_a_restart_of_the_kernel_a_dead_cell_says_what_to_do(page, lab, until):
    lab.open(page, [OPEN, "ex.ArithmeticLens(m)"])
    wait_until_complete(page)
    slider(page, "Digits").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(7000)
    said = page.get_by_text("Python has not answered for a while")
    assert said.count() == 0, "a living kernel answers"
    lab.restart_kernel()
    page.wait_for_timeout(2000)
    slider(page, "Digits").focus()
    page.keyboard.press("ArrowRight")
    said.wait_for()
    assert "run this cell again" in said.inner_text()


def test_a_lens_follows_interact_and_a_figure_follows_the_lens(page, lab, until):
    cells = [cell for cell in code_cells() if "interact" in cell]
    assert len(cells) == 1, "the example of notebook 00"
    lab.open(page, ["import explorer as ex\nm = ex.open_model('glyphs')", *cells])
    page.locator(".jp-OutputArea-output img").first.wait_for()
    before = page.locator(".jp-OutputArea-output img").first.get_attribute("src")
    page.locator(".widget-inline-hbox .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    until(lambda: slider(page, "Letters").input_value() == "0.1", "interact moves the lens")
    until(
        lambda: page.locator(".jp-OutputArea-output img").first.get_attribute("src") != before,
        "the figure is drawn anew",
    )
