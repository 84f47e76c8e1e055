"""The served app in headless Chromium: every control does what it says, and nothing else breaks."""

from __future__ import annotations

import json
import re
import urllib.parse

import pytest
from seeing import chart, edited, set_number, slider, status, tiles, wait_until_complete

EVIL = "<img src=x onerror=\"document.title='evil'\">"


@pytest.fixture
def app(page, served):
    """The app, measured to the end."""
    page.goto(served.url)
    wait_until_complete(page)
    return page


def number(page, name: str) -> str:
    return page.get_by_role("spinbutton", name=f"{name}, exact value", exact=True).input_value()


def address(page) -> str:
    return page.evaluate("location.href")


def drag(page, name: str, to: float) -> None:
    """Drag a slider's thumb from where it stands to a value, in many small moves."""
    handle = slider(page, name)
    box, value = handle.bounding_box(), float(handle.input_value())
    thumb = 14
    at = [box["x"] + thumb / 2 + (v + 1) / 3 * (box["width"] - thumb) for v in (value, to)]
    y = box["y"] + box["height"] / 2
    page.mouse.move(at[0], y)
    page.mouse.down()
    page.mouse.move(at[1], y, steps=15)
    page.mouse.up()


def test_dragging_a_slider_changes_chart_and_gallery_and_undo_brings_both_back(app, until):
    before, labels = chart(app), tiles(app)
    drag(app, "Digits", 1.6)
    until(lambda: edited(app, "Digits") != before["edited"][0], "the chart follows the slider")
    until(lambda: tiles(app) != labels, "the gallery follows the slider")
    wait_until_complete(app)
    assert 1.4 < float(number(app, "Digits")) < 1.8
    assert any("became" in label for label in tiles(app))
    assert app.locator(".tile.became_right, .tile.became_wrong").count() > 0
    app.get_by_role("button", name="undo").click()
    until(lambda: chart(app)["edited"] == before["edited"], "undo restores the chart")
    assert number(app, "Digits") == "0.00"
    assert app.get_by_role("button", name="undo").is_disabled()


def test_the_screen_says_how_many_images_stand_behind_the_figures(app):
    assert status(app) == "all 48–70 test images a task"
    assert chart(app)["n"] == [70, 48, 60, 178, 64]


def test_keys_move_a_slider_and_undo_and_redo(app, until):
    for step in range(1, 6):
        slider(app, "Letters").press("ArrowRight")
        until(lambda step=step: number(app, "Letters") == f"0.0{step}", "a step to the right")
    # One step of undo, unless the machine paused between two presses (test_app_state has the rule).
    until(lambda: undone(app, "Control+z") == "0.00", "Ctrl+Z undoes")
    until(lambda: undone(app, "Control+Shift+Z") == "0.05", "Ctrl+Shift+Z redoes")


def undone(app, keys: str) -> str:
    app.keyboard.press(keys)
    app.wait_for_timeout(300)
    return number(app, "Letters")


def test_double_click_resets_switch_and_solo_silence_and_all_moves_all(app, until):
    set_number(app, "all tasks", "0.4")
    until(lambda: number(app, "Hearts") == "0.40", "the slider for all moves all")
    slider(app, "Hearts").dblclick()
    until(lambda: number(app, "Hearts") == "0.00", "double click resets")
    app.get_by_role("button", name="solo Digits").click()
    off = app.locator(".row.off")
    until(lambda: off.count() == 2, "solo switches the others off")
    assert number(app, "Letters") == "0.40"
    app.get_by_role("button", name="solo Digits").click()
    until(lambda: off.count() == 0, "solo again brings them back")
    app.get_by_role("switch", name="Digits on").click()
    until(lambda: off.count() == 1, "the switch silences a task")


def test_the_address_restores_everything_on_screen(app, until, page):
    set_number(app, "Digits", "0.7")
    app.get_by_role("button", name="Letters", exact=True).click()
    app.get_by_role("button", name="normalized").click()
    until(lambda: "view.chart=normalized" in address(app), "the address follows")
    wait_until_complete(app)
    seen = chart(app)
    app.goto("about:blank")
    app.go_back()
    wait_until_complete(app)
    assert number(app, "Digits") == "0.70"
    assert chart(app) == seen
    assert app.get_by_label("task shown").input_value() == "letters"
    assert "Letters" in app.locator(".row.focus").inner_text()


def test_python_and_link_reach_the_clipboard(app, until):
    set_number(app, "Digits", "0.7")
    until(lambda: "digits=0.7" in address(app), "the address follows")
    app.get_by_role("button", name="copy as link").click()
    app.get_by_text("link copied").wait_for()
    assert app.evaluate("navigator.clipboard.readText()") == address(app)
    app.get_by_role("button", name="copy as Python").click()
    app.get_by_text("Python copied").wait_for()
    assert "coefficients={'digits': 0.7}" in app.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize(
    ("item", "name", "begins"),
    [
        ("Figure, PNG", "tiny-task-arithmetic.png", b"\x89PNG"),
        ("Figure, SVG", "tiny-task-arithmetic.svg", b"<?xml"),
        ("Accuracies, CSV", "tiny-task-arithmetic.csv", b"# {"),
        ("Everything measured, NetCDF", "tiny-task-arithmetic.nc", b"\x89HDF"),
        ("Recipe, JSON", "tiny-recipe.json", b"{"),
    ],
)
def test_every_kind_of_file_can_be_saved(app, item, name, begins, tmp_path):
    app.get_by_role("button", name="save", exact=True).click()
    with app.expect_download() as download:
        app.get_by_role("menuitem", name=item).click()
    assert download.value.suggested_filename == name
    path = tmp_path / name
    download.value.save_as(path)
    assert path.read_bytes().startswith(begins)


def test_a_recipe_file_loads_and_a_bad_one_is_a_sentence(app, until, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"base": "tiny", "coefficients": {"hearts": 0.3}}))
    bad.write_text('{"base": "tiny", "coefficients": {"' + EVIL.replace('"', "'") + '": 1}}')
    app.get_by_label("recipe file").set_input_files(good)
    until(lambda: number(app, "Hearts") == "0.30", "the recipe is loaded")
    app.get_by_label("recipe file").set_input_files(bad)
    sentence = app.locator(".sentence")
    sentence.wait_for()
    assert "bad.json cannot be used" in sentence.inner_text() or "no task" in sentence.inner_text()
    assert "<img" in sentence.inner_text()
    assert number(app, "Hearts") == "0.30"
    assert app.title() != "evil"
    app.get_by_role("button", name="dismiss").click()
    until(lambda: sentence.count() == 0, "a sentence can be dismissed")


def test_typing_a_value_out_of_range_is_a_sentence_and_the_field_goes_back(app, until):
    set_number(app, "Digits", "7")
    app.locator(".sentence", has_text="between -1 and 2").wait_for()
    until(lambda: number(app, "Digits") == "0.00", "the field tells the truth again")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("base=tiny&nobody=0.4", "no task 'nobody'"),
        ("base=tiny&digits=9", "between -1 and 2"),
        ("base=tinny", "'tinny'"),
        ("view.focus=" + urllib.parse.quote(EVIL), "<img src=x"),
    ],
)
def test_a_link_that_makes_no_sense_is_a_sentence_and_the_session_works(
    page, served, until, query, says
):
    page.goto(f"{served.url}?{query}")
    page.locator(".sentence", has_text=says).first.wait_for()
    wait_until_complete(page)
    set_number(page, "Digits", "0.5")
    until(lambda: number(page, "Digits") == "0.50", "the session is intact")
    assert page.title() != "evil"


def test_presets_set_the_sliders(app, until):
    app.get_by_label("fine-tuned on one task").select_option("letters")
    until(lambda: number(app, "Letters") == "1.00", "only letters")
    app.get_by_label("forget one task").select_option("digits")
    until(lambda: number(app, "Digits") == "-0.50", "forget digits")
    app.get_by_text("add all", exact=False).click()
    until(lambda: number(app, "Hearts") == number(app, "Digits") != "0.00", "add all")
    for label, task in [("analogy: A", "digits"), ("plus B", "letters"), ("minus C", "hearts")]:
        app.get_by_label(label).select_option(task)
    app.get_by_role("button", name="apply").click()
    until(lambda: number(app, "Hearts").startswith("-"), "analogy")
    presets = app.get_by_role("group", name="presets")
    presets.get_by_role("button", name="zero-shot").click()
    until(lambda: number(app, "Hearts") == "0.00", "zero-shot")


def test_a_search_runs_in_its_own_tab_and_sets_the_sliders(app, until):
    app.get_by_role("button", name="search", exact=True).click()
    app.get_by_role("tab", name="Search").wait_for()
    until(lambda: app.get_by_role("button", name="search", exact=True).count() == 1, "it ends", 90)
    until(lambda: number(app, "Hearts") == number(app, "Digits"), "one coefficient for all")


def test_geometry_is_drawn_when_its_tab_is_opened(app, until):
    app.get_by_role("tab", name="Vectors").click()
    titles = """() => [...Bokeh.documents].flatMap((d) => [...d._all_models.values()])
        .filter((m) => m.type === "Title").map((m) => m.text)"""
    until(
        lambda: any("Cosine" in title for title in app.evaluate(titles)),
        "the cosine matrix is drawn",
    )


def test_prompts_change_the_labels_and_unknown_words_are_a_sentence(app, until):
    before = chart(app)["zero_shot"][0]
    app.get_by_role("tab", name="Prompts").click()
    names = app.get_by_label("class names, one a line")
    names.fill("four\nthree\ntwo\none\nzero")
    names.blur()
    until(lambda: chart(app)["zero_shot"][0] != before, "the head changes")
    until(lambda: "view.classes.digits=" in address(app), "the address follows")
    names.fill("xylophone\nthree\ntwo\none\nzero")
    names.blur()
    app.locator(".sentence", has_text="xylophone").wait_for()


def test_only_changed_images_can_be_shown_and_pages_turned(app, until):
    set_number(app, "Digits", "2")
    wait_until_complete(app)
    shown = "tiles => tiles.filter((tile) => !tile.hidden).length"
    app.get_by_role("button", name="changed only").click()
    until(lambda: app.locator(".tile").evaluate_all(shown) < 48, "unchanged images are hidden")
    app.get_by_role("button", name="later images").click()
    app.get_by_text("49–70 of 70").wait_for()


def test_light_and_dark_and_a_projector(app, page, until):
    app.get_by_role("button", name=re.compile("theme|dark|light", re.IGNORECASE)).last.click()
    page.set_viewport_size({"width": 1920, "height": 1080})
    background = "main => getComputedStyle(main).backgroundColor"
    until(
        lambda: app.locator("main").first.evaluate(background) != "rgb(255, 255, 255)",
        "the page is dark",
    )
    width = app.evaluate("document.documentElement.scrollWidth")
    assert width <= 1920


def test_sessions_that_end_let_go_of_their_documents(browser, counting, until):
    """pmui.Page keeps every document alive that held a HoloViews pane; ours must be freed."""

    def documents() -> int:
        counted = re.findall(r"^documents (\d+)$", counting.log.read_text(), re.MULTILINE)
        return int(counted[-1]) if counted else 0

    for _ in range(4):
        visitor = browser.new_page()
        visitor.goto(counting.url)
        wait_until_complete(visitor)
        visitor.close()
    # One document is bokeh's own, and one may be of the session that ended last.
    assert until(documents, "documents are counted")
    until(lambda: documents() <= 2, "documents of closed pages are freed", 90)
