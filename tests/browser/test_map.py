"""The disentanglement lens in headless Chromium: served, in the app, and in a JupyterLab cell."""

from __future__ import annotations

import pytest
from seeing import REPAINTED, assert_fits_narrow_and_wide_windows, set_number, slider

MAPS = """() => {
    const found = []
    for (const view of Bokeh.index.query((v) => v.model.type === "Figure")) {
        const source = view.model.renderers[0]?.data_source
        if (!source?.columns().includes("veil")) continue
        const column = (name) => [...source.get_array(name)[0]]
        const point = view.model.renderers.find((r) => r.glyph.marker?.value === "diamond")
        const box = view.el.getBoundingClientRect()
        const place = (x, y) => [box.left + view.frame.x_scale.compute(x),
                                 box.top + view.frame.y_scale.compute(y)]
        found.push({
            shown: box.width > 0,
            title: view.model.title.text,
            axes: [view.model.below[0].axis_label, view.model.left[0].axis_label],
            cells: column("value").length,
            value: column("value"),
            veiled: column("veil").filter((v) => v > 0).length,
            high: view.model.renderers[0].glyph.color_mapper.high,
            point: [point.data_source.get_array("x")[0], point.data_source.get_array("y")[0]],
            origin: place(0, 0), corner: place(1, 1),
        })
    }
    return found.filter((map) => map.shown)
}"""
LENS = """import explorer as ex
lens = ex.DisentanglementLens(ex.open_model('tiny'), ('digits', 'letters'))
lens.state.set_points(9)
lens"""
QUICK = "base=tiny&view.lens=disentanglement&view.points=9"


def maps(page) -> list[dict]:
    """The maps on screen, left to right, as the browser holds them."""
    return sorted(page.evaluate(MAPS), key=lambda found: found["origin"][0])


def wait_until_computed(page) -> None:
    """Until every cell of every map is on screen."""
    page.wait_for_function(REPAINTED)
    page.locator(".notices .text", has_text="every cell is computed").last.wait_for()


def place(found: dict, x: float, y: float) -> tuple[float, float]:
    """Where on the page a point of the map is."""
    (x0, y0), (x1, y1) = found["origin"], found["corner"]
    return x0 + x * (x1 - x0), y0 + y * (y1 - y0)


def drag(page, found: dict, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*place(found, *start))
    page.mouse.down()
    page.mouse.move(*place(found, *end), steps=12)
    page.mouse.up()


def lies_still(page) -> bool:
    before = maps(page)
    page.wait_for_timeout(500)
    return maps(page) == before


def number(page, name: str) -> float:
    field = page.get_by_role("spinbutton", name=f"{name}, exact value", exact=True)
    return float(field.input_value())


def sentence(page) -> str:
    """Which images differ, and where."""
    return page.locator(".difference .sentence").last.inner_text()


@pytest.fixture
def lens(page, served):
    """The app on a link of this lens, computed to the end."""
    page.goto(f"{served.url}?{QUICK}")
    wait_until_computed(page)
    return page


def test_maps_fill_in_and_every_cell_not_computed_yet_is_veiled(page, served, until):
    # Four maps of many cells in weight space: not all are complete before they are stopped.
    many = "view.maps=weights,lines&view.points=41&view.seed=3"
    pinned = "&".join(f"view.pin{i}=digits,letters:weights:-3,3:41:400:{3 + i}" for i in (1, 2))
    page.goto(f"{served.url}?base=tiny&view.lens=disentanglement&{many}&{pinned}")
    page.wait_for_function(REPAINTED)
    until(lambda: any(0 < m["veiled"] < m["cells"] == 41**2 for m in maps(page)), "it fills in")
    page.get_by_role("button", name="stop").click()
    page.locator(".notices .text", has_text="stopped").wait_for()
    stopped = [m["veiled"] for m in maps(page)]
    page.wait_for_timeout(1500)
    assert [m["veiled"] for m in maps(page)] == stopped
    page.get_by_role("button", name="go on").click()
    until(lambda: [m["veiled"] for m in maps(page)] != stopped, "it goes on")


def test_all_maps_have_the_same_axes_colours_and_point(lens):
    first, second = maps(lens)
    assert [first["title"], second["title"]] == ["Standard", "Tangent"]
    assert first["axes"] == ["merging coefficient of Digits", "merging coefficient of Letters"]
    for name in ("axes", "high", "point", "cells", "veiled"):
        assert first[name] == second[name]
    assert first["veiled"] == 0


def test_dragging_the_point_moves_the_sliders_and_the_sliders_move_the_point(lens, until):
    found = maps(lens)[1]
    drag(lens, found, (0.6, 0.6), (-1.2, 2.1))
    until(lambda: abs(number(lens, "Digits") + 1.2) < 0.06, "the horizontal slider follows")
    until(lambda: abs(number(lens, "Letters") - 2.1) < 0.06, "the vertical slider follows")
    at = [number(lens, "Digits"), number(lens, "Letters")]
    until(lambda: all(m["point"] == at for m in maps(lens)), "the point is on every map")
    set_number(lens, "Digits", "0.35")
    until(lambda: all(m["point"][0] == 0.35 for m in maps(lens)), "the point follows")
    slider(lens, "Letters").focus()
    lens.keyboard.press("ArrowRight")
    until(lambda: all(m["point"][1] > at[1] for m in maps(lens)), "also by a key")
    lens.get_by_role("button", name="undo").click()
    until(lambda: all(m["point"][1] == at[1] for m in maps(lens)), "undo brings it back")


def test_a_click_shows_the_images_that_differ_there_with_their_labels(lens, until):
    lens.mouse.click(*place(maps(lens)[0], -2.25, -2.25))
    until(lambda: "(-2.25, -2.25)" in sentence(lens), "the cell's images")
    count = int(sentence(lens).partition(": ")[2].split()[0])
    assert count > 0
    tiles = lens.locator(".difference .tile")
    assert tiles.count() == min(count, 48)
    label = tiles.first.get_attribute("aria-label")
    alone, joint = (part.rpartition(": ")[2] for part in label.split(";")[:2])
    assert alone != joint
    assert maps(lens)[0]["point"] == [-2.25, -2.25]
    lens.get_by_role("button", name="Letters (").click()
    until(lambda: "images of Letters" in sentence(lens), "the other task's images")


def test_one_can_turn_the_pages_of_the_images_that_differ(lens, until):
    lens.mouse.click(*place(maps(lens)[0], -1.5, 3))
    until(lambda: "(-1.5, 3)" in sentence(lens), "the cell's images")
    count = int(sentence(lens).partition(": ")[2].split()[0])
    assert count > 48, "more than one page"
    tiles = lens.locator(".difference .tile")
    where = lens.locator(".difference .where").last
    back = lens.get_by_role("button", name="earlier images")
    later = lens.get_by_role("button", name="later images")
    until(lambda: tiles.count() == 48, "a full page")
    assert back.is_disabled()
    first = where.inner_text()
    later.click()
    until(lambda: tiles.count() == count - 48, "the rest is on the next page")
    assert where.inner_text() != first
    assert later.is_disabled()
    for tile in tiles.all():
        label = tile.get_attribute("aria-label")
        alone, joint = (part.rpartition(": ")[2] for part in label.split(";")[:2])
        assert alone != joint
    back.click()
    until(lambda: (tiles.count(), where.inner_text()) == (48, first), "and back")
    later.click()
    until(lambda: tiles.count() == count - 48, "the next page again")
    lens.mouse.click(*place(maps(lens)[0], 3, 3))
    until(lambda: "(3, 3)" in sentence(lens), "another cell")
    until(lambda: back.is_disabled(), "begins at its first page")


def test_ticks_follow_the_range(lens, until):
    ticks = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
        .filter((v) => v.el.getBoundingClientRect().width > 0 && v.model.below[0].axis_label)
        .map((v) => v.views.find_one(v.model.below[0]).tick_coords.major[0])[0]"""
    until(lambda: lens.evaluate(ticks) == [-3, -2, -1, 0, 1, 2, 3], "whole numbers")
    lens.get_by_label("range").select_option("0,1")
    fifths = {0, 0.2, 0.4, 0.6, 0.8, 1}
    until(lambda: fifths <= {round(x, 6) for x in lens.evaluate(ticks)}, "finer ones than 0 and 1")


def test_a_map_of_a_merging_method_is_chosen_beside_the_others(lens, until):
    choice = lens.get_by_label("merging method")
    choice.select_option("ties")
    until(lambda: [m["title"] for m in maps(lens)] == ["Standard", "Tangent", "ties"], "a third")
    wait_until_computed(lens)
    until(lambda: maps(lens)[2]["veiled"] == 0, "every cell of it")
    assert maps(lens)[2]["value"] != maps(lens)[0]["value"]
    until(lambda: "view.maps=weights,tangent,ties" in lens.evaluate("location.href"), "the link")
    choice.select_option(label="no merging method")
    until(lambda: len(maps(lens)) == 2, "it goes")


def test_layers_sum_and_colours_change_what_is_drawn(lens, until):
    mean = maps(lens)[0]
    lens.get_by_role("button", name="mean (0 to 1)").click()
    until(lambda: maps(lens)[0]["high"] == 2, "the sum goes to 2")
    total = maps(lens)[0]["value"]
    assert total == pytest.approx([2 * v for v in mean["value"]], abs=1e-5)
    lens.get_by_label("layer").select_option("accuracy1")
    until(lambda: maps(lens)[0]["high"] == 1, "accuracy goes to 1")
    assert maps(lens)[0]["value"] != mean["value"]
    lens.get_by_role("button", name="fit colours").click()
    until(lambda: maps(lens)[0]["high"] < 1, "the colours are fitted")
    first, second = maps(lens)
    assert first["high"] == second["high"] == pytest.approx(max(first["value"] + second["value"]))


def test_another_pair_and_other_kinds_of_map(lens, until):
    lens.get_by_label("task of the horizontal axis").select_option("hearts")
    until(lambda: "Hearts" in maps(lens)[0]["axes"][0], "another pair")
    lens.get_by_role("button", name="swap the axes").click()
    until(lambda: "Hearts" in maps(lens)[0]["axes"][1], "the axes are swapped")
    lens.get_by_role("button", name="Standard, LiNeS").click()
    until(lambda: len(maps(lens)) == 3, "a third map")
    before = maps(lens)[2]
    set_number(lens, "LiNeS alpha", "0.5")
    until(lambda: "α=0.5" in maps(lens)[2]["title"], "LiNeS follows its slider")
    wait_until_computed(lens)
    assert maps(lens)[2]["value"] != before["value"]


def test_a_pinned_map_stays_while_the_others_change(lens, until):
    lens.get_by_role("button", name="pin", exact=True).first.click()
    until(lambda: [m["title"] for m in maps(lens)][-1] == "Standard (pinned)", "it is pinned")
    kept = maps(lens)[-1]["value"]
    lens.get_by_label("task of the horizontal axis").select_option("hearts")
    until(lambda: "Hearts" in maps(lens)[0]["axes"][0], "the others change")
    assert "Digits" in maps(lens)[-1]["axes"][0]
    assert maps(lens)[-1]["value"] == kept
    lens.get_by_role("button", name="unpin").click()
    until(lambda: len(maps(lens)) == 2, "it is let go")


def test_the_address_restores_everything_on_screen(lens, until, page):
    lens.get_by_label("task of the vertical axis").select_option("hearts")
    lens.get_by_label("range").select_option("-1,1")
    lens.get_by_label("layer").select_option("normalized")
    set_number(lens, "Digits", "0.25")
    until(lambda: "view.point=0.25," in lens.evaluate("location.href"), "the address follows")
    wait_until_computed(lens)
    seen = maps(lens)
    address = lens.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    wait_until_computed(page)
    until(lambda: [m["value"] for m in maps(page)] == [m["value"] for m in seen], "as before")
    assert maps(page)[0]["point"] == [0.25, 0.6]
    assert page.get_by_label("layer").input_value() == "normalized"


def test_a_link_restores_pinned_maps(lens, until, page):
    lens.get_by_role("button", name="pin", exact=True).last.click()
    until(lambda: [m["title"] for m in maps(lens)][-1] == "Tangent (pinned)", "it is pinned")
    lens.get_by_label("task of the horizontal axis").select_option("hearts")
    until(lambda: "view.pin1=digits,letters:tangent" in lens.evaluate("location.href"), "the link")
    until(lambda: "Hearts" in maps(lens)[0]["axes"][0], "the others change")
    wait_until_computed(lens)
    seen = [(m["title"], m["axes"], m["value"]) for m in maps(lens)]
    address = lens.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    wait_until_computed(page)
    until(lambda: [(m["title"], m["axes"], m["value"]) for m in maps(page)] == seen, "as before")
    page.get_by_role("button", name="unpin").click()
    until(lambda: "view.pin1" not in page.evaluate("location.href"), "the link forgets it")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("view.pair=digits,nobody", "no task 'nobody'"),
        ("view.pair=digits,digits", "two different tasks"),
        ("view.point=9,0", "between -3 and 3"),
        ("view.points=1000", "9, 21, 41"),
        ("view.maps=%3Cimg%20src=x%20onerror=alert(1)%3E", "<img src=x"),
        ("view.colour=red", "does not know"),
        ("view.pin1=digits,letters:weights", "6 parts"),
    ],
)
def test_a_link_that_makes_no_sense_is_a_sentence(page, served, query, says):
    page.goto(f"{served.url}?{QUICK}&{query}")
    page.locator(".notices .list .sentence", has_text=says).first.wait_for()
    wait_until_computed(page)


def test_the_app_changes_lenses_and_the_recipe_goes_along(page, served, until):
    page.goto(served.url)
    page.wait_for_function(REPAINTED)
    page.locator(".tile[aria-label]").first.wait_for()
    set_number(page, "Digits", "0.9")
    until(lambda: "digits=0.9" in page.evaluate("location.href"), "the recipe is set")
    page.get_by_role("button", name="Weight disentanglement").click()
    until(lambda: maps(page) and maps(page)[0]["point"] == [0.9, 0.0], "the point is the recipe")
    until(lambda: "view.lens=dis" in page.evaluate("location.href"), "so does the address")
    field = page.get_by_role("spinbutton", name="Letters, exact value").locator("visible=true")
    field.fill("0.4")
    field.press("Enter")
    until(lambda: maps(page)[0]["point"] == [0.9, 0.4], "the point moves")
    page.get_by_role("button", name="Task arithmetic").click()
    until(lambda: "letters=0.4" in page.evaluate("location.href"), "and back")


def test_all_pairs_and_the_kernel_are_on_screen_when_their_tabs_are_opened(lens, until):
    lens.get_by_role("tab", name="All pairs").click()
    digits = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
        .flatMap((v) => v.model.renderers).map((r) => r.data_source)
        .filter((s) => s.columns().includes("search")).map((s) => [...s.get_array("digits")])[0]"""
    until(lambda: sum(map(bool, lens.evaluate(digits) or [])) == 6, "all pairs", 90)
    before = lens.evaluate(digits)
    space = lens.get_by_role("group", name="by the maps").get_by_role("button", name="Tangent")
    space.click()
    until(lambda: space.get_attribute("aria-pressed") == "true", "another space")
    until(lambda: lens.evaluate(digits) != before, "other pairs", 90)
    until(lambda: sum(map(bool, lens.evaluate(digits) or [])) == 6, "all pairs of it", 90)
    lens.get_by_role("tab", name="Kernel").click()
    lens.get_by_text("Ortiz-Jimenez").wait_for()
    energies = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
        .flatMap((v) => v.model.renderers).filter((r) => r.glyph.type === "VBar")
        .filter((r) => r.data_source.get_length() > 0).length"""
    until(
        lambda: lens.evaluate(energies) == 4, "the kernel's eigenfunctions, and what they carry", 90
    )


@pytest.mark.parametrize(
    ("item", "begins"),
    [("PNG", b"\x89PNG"), ("SVG", b"<?xml"), ("CSV", b"# Standard"), ("NetCDF", b"\x89HDF")],
)
def test_every_kind_of_file_can_be_saved(lens, item, begins, tmp_path):
    lens.get_by_role("button", name="save", exact=True).click()
    with lens.expect_download() as download:
        lens.get_by_role("menuitem", name=item).click()
    assert download.value.suggested_filename.startswith("tiny-digits-letters-disentanglement.")
    path = tmp_path / "file"
    download.value.save_as(path)
    assert path.read_bytes().startswith(begins)


def test_in_a_cell_maps_fill_in_the_point_and_the_images_follow(page, lab, until):
    lab.open(page, [LENS])
    wait_until_computed(page)
    until(lambda: len(maps(page)) == 2 and maps(page)[1]["veiled"] == 0, "both maps are there")
    page.locator(".difference .sentence").last.wait_for()  # the images, which move the maps
    until(lambda: lies_still(page), "the notebook has laid the cell out")
    drag(page, maps(page)[0], (0.6, 0.6), (-1.2, 1.5))
    until(lambda: abs(number(page, "Digits") + 1.2) < 0.06, "the slider follows the point")
    set_number(page, "Digits", "0.35")
    until(lambda: all(m["point"][0] == 0.35 for m in maps(page)), "the point follows the slider")
    page.mouse.click(*place(maps(page)[0], -2.25, -2.25))
    until(lambda: "(-2.25, -2.25)" in sentence(page), "the images of the cell clicked")
    page.get_by_label("layer").select_option("accuracy2")
    before = maps(page)[0]["value"]
    page.get_by_label("task of the vertical axis").select_option("hearts")
    until(lambda: "Hearts" in maps(page)[0]["axes"][1], "another pair")
    until(lambda: maps(page)[0]["value"] != before, "another map")
    assert_fits_narrow_and_wide_windows(page)
