"""The hierarchy lens in headless Chromium: served, in the app, and in a JupyterLab cell."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import serving
from seeing import REPAINTED, titles_cut

SERVE = """
import sys
import panel as pn
import explorer as ex

def page():
    return ex.HierarchyLens(query=pn.state.location.search or "").page()

port = int(sys.argv[1])
pn.serve({"/": page}, port=port, address="127.0.0.1", show=False,
         allow_websocket_origin=[f"127.0.0.1:{port}"])
"""
QUICK = "view.lens=hierarchy&view.grammar=8,2,2,4&view.n=6,8&view.level=0.6"
LENS = """import explorer as ex
lens = ex.HierarchyLens(ex.hierarchy.Grammar.random(8, 2, 2, 4))
lens.state.set_counts(6, 8)
lens"""
LEARNING = "view.lens=hierarchy&view.view=learning"
PANELS = (
    "Tuples cluster by their parent",
    "Correlations rise above the noise",
    "Latents or tokens as targets",
    "A diffusion model learns the rules",
    "… and then memorises its examples",
)
LATENCY = """async (tree) => {
    // From the event to the frame after the canvas shows another level, in this page.
    const slider = tree.querySelector("input[type=range]")
    const canvas = tree.querySelector("canvas")
    const times = []
    for (const value of [0.3, 0.7, 0.9, 0.95, 1.0, 0.5]) {
        const before = canvas.toDataURL(), started = performance.now()
        slider.value = value
        slider.dispatchEvent(new Event("input", {bubbles: true}))
        while (tree.dataset.level !== value.toFixed(2)) await new Promise(requestAnimationFrame)
        await new Promise(requestAnimationFrame)
        times.push({value, ms: performance.now() - started, moved: canvas.toDataURL() !== before})
    }
    slider.dispatchEvent(new Event("change", {bubbles: true}))
    return times
}"""
POINTS = """(name) => [...Bokeh.index.query((v) => v.model.type === "Figure")]
    .flatMap((v) => v.model.renderers).map((r) => r.data_source)
    .filter((s) => s?.columns().includes(name)).map((s) => [...s.get_array(name)].length)"""


@pytest.fixture(scope="module")
def lens_url(tmp_path_factory) -> Iterator[str]:
    """The lens alone, served."""
    port, folder = serving.free_port(), tmp_path_factory.mktemp("tree")
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", SERVE, str(port)]
    env = serving.environment(cache=folder / "cache")
    with serving.running(command, folder / "log.txt", url, env=env):
        yield url


@pytest.fixture
def lens(page, lens_url):
    page.goto(f"{lens_url}?{QUICK}")
    wait_until_computed(page)
    return page


def wait_until_computed(page) -> None:
    """Until the tree is complete and every level of the curves is measured."""
    page.wait_for_function(REPAINTED)
    page.locator(".notices .text", has_text="curves: 41 levels").last.wait_for()


def seen(page, name: str) -> str:
    """What the tree on screen is drawn from: its "level", or how many leaves "changed"."""
    return page.locator(".rhm-tree").get_attribute(f"data-{name}") or ""


def slider(page):
    return page.locator(".rhm-tree input[type=range]")


def address(page) -> str:
    return page.evaluate("location.href")


def test_the_tree_repaints_within_300_ms_of_an_epsilon_event(lens):
    times = lens.locator(".rhm-tree").evaluate(LATENCY)
    assert max(t["ms"] for t in times) < 300, times
    assert any(t["moved"] for t in times)


def test_dragging_the_slider_moves_tree_number_curves_and_address(lens, until):
    box = slider(lens).bounding_box()
    y = box["y"] + box["height"] / 2
    lens.mouse.move(box["x"] + 7 + 0.6 * (box["width"] - 14), y)
    lens.mouse.down()
    lens.mouse.move(box["x"] + 7 + 0.95 * (box["width"] - 14), y, steps=12)
    lens.mouse.up()
    until(lambda: 0.93 <= float(seen(lens, "level")) <= 0.97, "the tree follows")
    level = float(seen(lens, "level"))
    assert float(lens.locator(".rhm-tree input[type=number]").input_value()) == level
    until(lambda: f"view.level={level:g}" in address(lens), "so does the address")
    until(lambda: f"ε = {level:g}" in titles(lens)[-1], "and the correlation is measured there")


def titles(page) -> list[str]:
    return page.evaluate(
        """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
            .map((v) => v.model.title.text)"""
    )


def test_keys_move_the_slider_and_undo_brings_the_level_back(lens, until):
    slider(lens).focus()
    for _ in range(3):
        lens.keyboard.press("ArrowRight")
    until(lambda: seen(lens, "level") == "0.63", "three steps to the right")
    until(lambda: lens.get_by_role("button", name="undo").is_enabled(), "it can be undone")
    lens.get_by_role("button", name="undo").click()
    until(lambda: seen(lens, "level") == "0.60", "undone")


def test_playing_runs_through_the_levels_until_it_is_paused(lens, until):
    lens.get_by_role("button", name="play").click()
    until(lambda: float(seen(lens, "level")) > 0.66, "it plays")
    lens.get_by_role("button", name="pause").click()
    lens.get_by_role("button", name="play").wait_for()  # a step on its way may still arrive
    lens.wait_for_timeout(600)
    paused = seen(lens, "level")
    until(lambda: f"view.level={float(paused):g}" in address(lens), "it says where it stopped")
    lens.wait_for_timeout(400)
    assert seen(lens, "level") == paused


def test_the_number_of_changed_leaves_grows_from_none_to_many(lens, until):
    field = lens.locator(".rhm-tree input[type=number]")
    field.fill("0")
    field.press("Enter")
    until(lambda: seen(lens, "level") == "0.00", "no noise")
    assert seen(lens, "changed") == "0"
    field.fill("1")
    field.press("Enter")
    until(lambda: seen(lens, "level") == "1.00", "all noise")
    assert int(seen(lens, "changed")) > 4
    lens.locator(".says", has_text="of 16 leaves changed").wait_for()


def test_a_preset_a_new_datum_and_a_new_process(lens, until):
    lens.get_by_role("button", name="(8, 2, 2, 6)").click()
    lens.locator(".notices .text", has_text="L = 6").wait_for()
    lens.locator(".says", has_text="of 64 leaves").wait_for()
    before = picture(lens)
    lens.get_by_role("button", name="new datum").click()
    until(lambda: picture(lens) != before, "another string")
    until(lambda: "view.datum=1" in address(lens), "its seed is in the address")
    assert lens.get_by_role("spinbutton", name="seed of the datum").input_value() == "1"
    lens.get_by_label("process").select_option("masking")
    lens.locator(".rhm-tree .label", has_text="t/T").wait_for()


def picture(page) -> str:
    return page.locator(".rhm-tree canvas").evaluate("(canvas) => canvas.toDataURL()")


def test_hovering_a_node_says_its_symbols_and_its_posterior(lens):
    box = lens.locator(".rhm-tree canvas").bounding_box()
    lens.mouse.move(box["x"] + (66 + box["width"] - 12) / 2, box["y"] + 15)
    lens.locator(".rhm-tree .tip", has_text="the root (class)").wait_for()
    assert "exact posterior of" in lens.locator(".rhm-tree .tip").inner_text()


def test_a_grammar_that_cannot_exist_is_refused_in_a_sentence(lens, until):
    lens.get_by_role("spinbutton", name="m, rules a symbol").fill("20")
    lens.get_by_role("button", name="use").click()
    lens.locator(".sentence", has_text="distinct tuples").wait_for()
    assert "view.grammar=8,2,2,4" in address(lens)


def test_controls_are_measured_on_the_same_axes(lens, until):
    until(lambda: 46 in lens.evaluate(POINTS, "value"), "all levels of the control")
    lens.get_by_role("button", name="flat mixture").click()
    until(lambda: 46 not in lens.evaluate(POINTS, "value"), "it is put away")
    until(lambda: "view.controls=field" in address(lens), "so the address says")


def test_the_address_restores_everything_on_screen(lens, until, page):
    lens.get_by_role("button", name="new noise").click()
    lens.get_by_label("process").select_option("masking")
    slider(lens).focus()
    lens.keyboard.press("End")
    until(lambda: "view.level=1" in address(lens) and "noise=1" in address(lens), "it follows")
    wait_until_computed(lens)
    where, drawn = address(lens), picture(lens)
    page.goto("about:blank")
    page.goto(where)
    wait_until_computed(page)
    until(lambda: seen(page, "level") == "1.00", "the level is back")
    page.mouse.move(5, 5)
    until(lambda: picture(page) == drawn, "the tree is as it was")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("view.grammar=4,5,2,3", "distinct tuples"),
        ("view.level=9", "between 0 and 1"),
        ("view.process=%3Cimg%20src=x%20onerror=alert(1)%3E", "<img src=x"),
    ],
)
def test_a_link_that_makes_no_sense_is_a_sentence(page, lens_url, query, says):
    page.goto(f"{lens_url}?view.n=4,4&{query}")
    page.locator(".notices .list .sentence", has_text=says).first.wait_for()
    page.locator(".rhm-tree[data-level]").wait_for()


@pytest.mark.parametrize(
    ("item", "begins"),
    [("PNG", b"\x89PNG"), ("SVG", b"<?xml"), ("CSV", b"# "), ("NetCDF", b"\x89HDF")],
)
def test_every_kind_of_file_can_be_saved(lens, item, begins, tmp_path):
    lens.get_by_role("button", name="save", exact=True).click()
    with lens.expect_download() as download:
        lens.get_by_role("menuitem", name=item).click()
    assert download.value.suggested_filename.startswith("rhm-8-2-2-4")
    path = tmp_path / "file"
    download.value.save_as(path)
    assert path.read_bytes().startswith(begins)


def test_in_a_cell_the_tree_follows_the_slider_and_the_code(page, lab, until):
    lab.open(page, [LENS])
    wait_until_computed(page)
    slider(page).focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    until(lambda: seen(page, "level") == "0.74", "four steps to the right")
    times = page.locator(".rhm-tree").evaluate(LATENCY)
    assert max(t["ms"] for t in times) < 300, times


def test_no_title_of_a_chart_is_cut_in_a_cell_on_a_laptop(page, lab):
    lab.open(page, [LENS])
    wait_until_computed(page)
    assert len(titles(page)) == 4
    assert titles_cut(page) == []


def test_the_app_opens_the_lens_without_a_model_and_the_others_when_they_are_chosen(
    page, served, until
):
    page.goto(f"{served.url}?{QUICK}")
    wait_until_computed(page)
    assert not page.get_by_label("model", exact=True).is_visible()
    page.get_by_role("button", name="Task arithmetic").click()
    page.locator(".tile[aria-label]").first.wait_for()
    until(lambda: "base=tiny" in address(page), "the address is the other lens's")
    page.get_by_role("button", name="Random hierarchy model").click()
    until(lambda: "view.lens=hierarchy" in address(page), "and back")
    until(lambda: page.locator(".rhm-tree canvas").is_visible(), "the tree is there")


def learning_marks(page) -> list[list[float]]:
    """x of the shipped marks of every chart of the learning view, as the browser holds them."""
    return page.evaluate(
        """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
            .filter((v) => v.el.getClientRects().length)
            .map((v) => v.model.renderers.map((r) => r.data_source)
                .filter((s) => s?.columns().includes("marker"))
                .map((s) => [...s.get_array("x")]))
            .filter((sources) => sources.length).map(([shipped]) => shipped)"""
    )


def live_marks(page) -> list[int]:
    """How many live marks there are on each chart of the learning view."""
    return page.evaluate(
        """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
            .map((v) => v.model.renderers.map((r) => r.data_source)
                .filter((s) => s?.columns().includes("marker")))
            .filter((sources) => sources.length)
            .map((sources) => [...sources[1].get_array("x")].length)"""
    )


def test_learning_shows_a_curve_in_every_panel(lens, until):
    lens.get_by_role("button", name="Learning", exact=True).click()
    until(lambda: "view.view=learning" in address(lens), "the address says so")
    until(
        lambda: len(learning_marks(lens)) == 5 and min(map(len, learning_marks(lens))) > 15,
        "five charts with marks",
    )
    for title in PANELS:
        lens.locator(".head .title", has_text=title).wait_for()
    assert lens.locator(".head .shipped").all_inner_texts() == ["cached"] * 5
    assert not lens.locator(".rhm-tree canvas").is_visible()
    lens.get_by_role("button", name="Denoising", exact=True).click()
    until(lambda: lens.locator(".rhm-tree canvas").is_visible(), "the tree is back")
    assert not lens.locator(".head .title").first.is_visible()


def test_learning_measures_live_rescales_and_is_restored_by_its_address(page, lens_url, until):
    page.goto(f"{lens_url}?{LEARNING}")
    until(lambda: len(learning_marks(page)) == 5, "all charts")
    until(lambda: min(map(len, learning_marks(page))) > 15, "with their curves")
    title = PANELS[0]
    page.get_by_role("slider", name=f"examples: {title}").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name=f"measure: {title}").click()
    page.locator(".head .said", has_text="seed 1000: ratio").wait_for()
    until(lambda: sum(live_marks(page)) == 1, "one magenta mark")
    before = learning_marks(page)
    page.get_by_role("button", name=f"rescale: {title}").click()
    until(lambda: learning_marks(page)[0] != before[0], "the axis is divided by the law")
    assert min(learning_marks(page)[0]) == pytest.approx(1 / 8, rel=0.01)
    until(lambda: "view.scaled=tuples_cluster" in address(page), "it is in the address")
    assert "view.examples=tuples_cluster:1024" in address(page)
    page.goto(address(page))
    until(lambda: len(learning_marks(page)) == 5, "all charts again")
    assert (
        page.get_by_role("slider", name=f"examples: {title}").get_attribute("aria-valuetext")
        == "P = 1,024"
    )
    until(
        lambda: learning_marks(page)[0] and min(learning_marks(page)[0]) < 1, "rescaled as before"
    )


def test_training_in_the_learning_view_can_be_stopped(page, lens_url, until):
    page.goto(f"{lens_url}?{LEARNING}")
    until(lambda: len(learning_marks(page)) == 5, "all charts")
    title = PANELS[4]
    examples = page.get_by_role("slider", name=f"examples: {title}")
    examples.press("End")
    until(lambda: examples.get_attribute("aria-valuetext") == "P = 1,024", "as many as there are")
    page.get_by_role("button", name=f"measure: {title}").click()
    page.locator(".head .said", has_text="measuring P = 1,024").wait_for()
    page.get_by_role("button", name=f"stop: {title}").click()
    page.get_by_role("button", name=f"measure: {title}").wait_for()
    assert sum(live_marks(page)) == 0


def test_the_learning_view_is_saved_as_a_file(page, lens_url, until, tmp_path):
    page.goto(f"{lens_url}?{LEARNING}")
    until(lambda: len(learning_marks(page)) == 5, "all charts")
    page.get_by_role("button", name="save", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV").click()
    assert download.value.suggested_filename == "rhm-learning.csv"
    path = tmp_path / "file"
    download.value.save_as(path)
    assert "tuples_cluster,cached" in path.read_text()
