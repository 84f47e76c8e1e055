"""A real JupyterLab in headless Chromium: the lens as a cell's last line.

No test calls `pn.extension`: a lens must show itself in a notebook that knows nothing of panel, and
ask no content network for anything (see `page` in conftest).
"""

from __future__ import annotations

import pytest
from seeing import (
    REPAINTED,
    assert_fits_narrow_and_wide_windows,
    chart,
    edited,
    slider,
    tiles,
    wait_until_complete,
    widget_is_observed_and_set,
)

OPEN = "import explorer as ex\nm = ex.open_model('tiny')"
LENS = "lens = ex.ArithmeticLens(m)\nlens"
APP = "import explorer as ex\nex.app('tiny')"
# Code of a person's own that reads and sets the recipe while the lens is in use: a change made by
# hand is answered with a burst of changes to another task. A change made in another thread than the
# code's would race with it (JupyterLab gives a widget's messages a thread), so the thread is shown.
ANSWERING = """import asyncio, ipywidgets, threading
seen = ipywidgets.Label('nothing')
async def answer(digits):
    for i in range(1, 31):
        lens.recipe = lens.recipe.with_coefficient('letters', i / 20)
        await asyncio.sleep(0.02)
def listen(*_):
    seen.value = f"{lens.recipe.coefficient('digits')} in {threading.current_thread().name}"
    if lens.recipe.coefficient('digits') == 2 and not lens.recipe.coefficient('letters'):
        answering.append(asyncio.ensure_future(answer(2)))
answering = []
lens.state.param.watch(listen, 'recipe')
seen"""
WIDGET = """import ipywidgets
lens = ex.ArithmeticLens(m)
widget, seen = lens.to_ipywidget(), ipywidgets.Label('nothing')
widget.observe(lambda change: setattr(seen, 'value', str(change['new'])), 'value')
halve = ipywidgets.Button(description='halve')
def half(_):
    widget.value = {task: x / 2 for task, x in widget.value.items()}
halve.on_click(half)
ipywidgets.VBox([widget, halve, seen])"""


def printed(page) -> str:
    """Everything cells have printed."""
    return "\n".join(page.locator(".jp-OutputArea-output pre").all_inner_texts())


@pytest.mark.parametrize("cells", [[OPEN, LENS], [APP]], ids=["lens", "app"])
def test_a_slider_in_a_cell_changes_chart_and_gallery_and_undo_brings_them_back(
    page, lab, until, cells
):
    lab.open(page, cells)
    wait_until_complete(page)
    assert "WARNING" not in printed(page)
    before, labels = chart(page), tiles(page)
    slider(page, "Digits").focus()
    page.keyboard.press("End")
    until(lambda: edited(page, "Digits") != before["edited"][0], "the chart follows")
    until(lambda: tiles(page) != labels, "the gallery follows")
    page.keyboard.press("Control+z")
    until(lambda: chart(page)["edited"] == before["edited"], "Ctrl+Z undoes")
    assert float(slider(page, "Digits").input_value()) == 0


def test_the_lens_fits_a_narrow_and_a_wide_cell(page, lab):
    lab.open(page, [OPEN, LENS])
    wait_until_complete(page)
    assert_fits_narrow_and_wide_windows(page)


def test_the_names_of_the_lenses_lie_beside_each_other_in_a_cell(page, lab):
    lab.open(page, [APP])
    wait_until_complete(page)
    names = ("Task arithmetic", "Weight disentanglement", "Schedules and merging")
    buttons = [page.get_by_role("button", name=name).bounding_box() for name in names]
    assert len({round(box["y"]) for box in buttons}) == 1


def test_every_tab_opens_without_asking_anybody_outside(page, lab):
    lab.open(page, [OPEN, LENS])
    wait_until_complete(page)
    for tab, shown in (("Vectors", "canvas"), ("Prompts", "textarea"), ("Search", "canvas")):
        page.get_by_role("tab", name=tab).click()
        page.get_by_role("tabpanel").locator(shown).first.wait_for()
        page.wait_for_timeout(500)


def test_code_reads_the_recipe_and_a_burst_of_changes_by_code_reaches_the_sliders(page, lab, until):
    lab.open(page, [OPEN, LENS, ANSWERING])
    wait_until_complete(page)
    slider(page, "Digits").focus()
    page.keyboard.press("End")
    page.locator(".widget-label", has_text="2.0 in MainThread").wait_for()
    until(lambda: slider(page, "Letters").input_value() == "1.5", "the slider follows the code")
    until(lambda: chart(page)["coefficient"][1] == 1.5, "the chart follows the code")


def test_the_ipywidget_in_a_vbox_is_observed_and_set(page, lab, until):
    lab.open(page, [OPEN, WIDGET])
    wait_until_complete(page)
    widget_is_observed_and_set(page, until)


MARKS = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
    .filter((v) => v.el.getClientRects().length)
    .map((v) => v.model.renderers.map((r) => r.data_source)
        .filter((s) => s?.columns().includes("marker"))
        .map((s) => [...s.get_array("x")].length))
    .filter((sources) => sources.length).map(([shipped]) => shipped)"""


def test_the_hierarchy_lens_turns_to_learning_and_back_in_a_cell(page, lab, until):
    lab.open(
        page,
        [
            "import explorer as ex\n"
            "ex.HierarchyLens(query='view.grammar=8,2,2,4&view.n=6,8&view.level=0.6')"
        ],
    )
    tree = page.locator(".rhm-tree")
    page.wait_for_function(REPAINTED)
    page.locator(".rhm-tree[data-level]").wait_for()
    page.get_by_role("button", name="Learning", exact=True).click()
    until(
        lambda: len(page.evaluate(MARKS)) == 5 and min(page.evaluate(MARKS)) > 15,
        "five charts with their curves",
    )
    assert not tree.locator("canvas").is_visible()
    page.get_by_role("button", name="rescale: Tuples cluster by their parent").click()
    until(
        lambda: page.locator("button[aria-pressed=true]", has_text="rescale").count() == 1,
        "one axis is divided by the law",
    )
    page.get_by_role("button", name="Denoising", exact=True).click()
    until(lambda: tree.locator("canvas").is_visible(), "the tree is back")
    assert not page.locator(".head .title").first.is_visible()
    tree.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    until(lambda: tree.get_attribute("data-level") == "0.61", "and follows its slider")
    page.locator(".notices .text", has_text="curves: 41 levels").last.wait_for()
