"""The schedule lens in headless Chromium: served, in the app, and in a JupyterLab cell."""

from __future__ import annotations

import pytest
from seeing import REPAINTED, assert_fits_narrow_and_wide_windows, chart, set_number

QUICK = "base=tiny&digits=1.0&schedule=lines:0.1,0.9&view.lens=schedule&view.n=20"
LENS = "import explorer as ex\nlens = ex.ScheduleLens(ex.open_model('tiny'))\nlens"
FACTORS = """() => {
    const found = []
    const walk = (node) => {
        for (const mark of node.querySelectorAll?.("[data-factor]") ?? [])
            if (mark.getBoundingClientRect().width) found.push(Number(mark.dataset.factor))
        for (const child of node.querySelectorAll?.("*") ?? [])
            if (child.shadowRoot) walk(child.shadowRoot)
    }
    walk(document)
    return found
}"""
SOURCES = """(column) => Bokeh.documents.flatMap((d) => [...d._all_models.values()])
    .filter((m) => m.type === "ColumnDataSource" && m.columns().includes(column))
    .map((m) => Object.fromEntries(m.columns().map((c) => [c, [...m.get_array(c)]])))"""
PLANE_IS_LAID_OUT = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
    .some((v) => v.model.title.text.includes("LiNeS on") && v.model.inner_width > 0)"""
TICKS = """([title, low, high]) => {
    const chart = [...Bokeh.index.query((v) => v.model.type === "Figure")]
        .map((v) => v.model).filter((m) => m.title.text.includes(title)).at(-1)
    const ticks = Array.from({length: 11}, (_, i) => low + (i * (high - low)) / 10)
    return chart.left[0].formatter.doFormat(ticks, {loc: 0})
}"""
PLACE = """([title, x, y]) => {
    const view = [...Bokeh.index.query((v) => v.model.type === "Figure")]
        .filter((v) => v.model.title.text.includes(title)).at(-1)
    const box = view.el.getBoundingClientRect()
    return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)]
}"""


def wait_until_measured(page) -> None:
    """Until the accuracies of the recipe on screen are complete."""
    page.wait_for_function(REPAINTED, timeout=120_000)
    page.locator(".notices .text", has_text="all 48").last.wait_for(timeout=120_000)


def factors(page) -> list[float]:
    """The factor of every depth, as it is drawn: outside, blocks, outside."""
    return page.evaluate(FACTORS)


def handle(page, name: str):
    return page.get_by_role("slider", name=name, exact=True)


def drag(page, name: str, up: float) -> None:
    """Drag a handle upwards by so many pixels, in small moves; the button stays down."""
    box = handle(page, name).locator(".knob").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - up, steps=10)


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def address(page) -> str:
    return page.evaluate("location.href")


@pytest.fixture
def lens(page, served):
    """The app on a link of this lens, measured to the end."""
    page.goto(f"{served.url}?{QUICK}")
    wait_until_measured(page)
    return page


def test_the_curve_follows_the_hand_the_accuracies_follow_and_undo_brings_both_back(lens, until):
    assert factors(lens) == pytest.approx([0.1, 0.1, 0.55, 1.0, 0.1])
    before = chart(lens)["edited"]
    drag(lens, "alpha", 60)
    until(lambda: factors(lens)[1] > 0.3, "the curve moves under the hand", 3)
    moved = factors(lens)
    assert moved[0] == moved[1] == moved[4]
    assert moved[2] == pytest.approx((moved[1] + moved[3]) / 2)
    lens.mouse.up()
    until(lambda: chart(lens)["edited"] != before, "the accuracies follow")
    until(lambda: f"lines:{moved[1]}," in address(lens), "so does the address")
    wait_until_measured(lens)
    lens.get_by_role("button", name="undo").click()
    until(lambda: factors(lens)[1] == 0.1, "undo brings the curve back")
    until(lambda: chart(lens)["edited"] == before, "and the accuracies")


FRAMES = """async (knob) => {
    const frame = () => new Promise(requestAnimationFrame)
    const read = FACTORS
    const box = knob.getBoundingClientRect()
    const clientX = box.left + box.width / 2, y = box.top + box.height / 2
    let last = JSON.stringify(read()), changed = 0
    const began = performance.now()
    for (let i = 1; i <= 60; i++) {
        const place = {clientX, clientY: y - i, bubbles: true}
        knob.dispatchEvent(new PointerEvent("pointermove", place))
        await frame()
        await new Promise((done) => setTimeout(done))      // the repaint of this frame is over
        const now = JSON.stringify(read())
        changed += now !== last
        last = now
    }
    return [changed, 60000 / (performance.now() - began)]
}""".replace("FACTORS", FACTORS)


def test_every_frame_of_a_drag_shows_the_curve_where_the_hand_is(lens):
    """How often a second that is depends on the machine; no frame waits for Python."""
    drag(lens, "alpha", 5)
    changed, rate = handle(lens, "alpha").evaluate(FRAMES)
    lens.mouse.up()
    print(f"{rate:.0f} pictures of the curve a second")
    # A hundredth is more than a pixel high, so some steps of one pixel change nothing.
    assert changed > 40


def test_where_no_task_takes_part_the_axis_of_norms_has_nothing_but_zero(page, served, until):
    page.goto(f"{served.url}?base=tiny&view.lens=schedule")
    wait_until_measured(page)
    until(lambda: page.locator("svg text", has_text="factor of the edit").count(), "it is drawn")
    found = page.locator("svg text", has_text=" %").all_text_contents()
    assert found == ["0.0 %"]


def test_keys_move_a_handle(lens, until):
    handle(lens, "alpha + beta").focus()
    lens.keyboard.press("ArrowDown")
    lens.keyboard.press("ArrowDown")
    until(lambda: factors(lens)[3] == 0.98, "two steps down")
    lens.keyboard.press("PageDown")
    until(lambda: factors(lens)[3] == 0.88, "a large step")
    lens.keyboard.press("Home")
    until(lambda: factors(lens)[3] == 0, "nothing for the last block")
    until(lambda: "lines:0.1,-0.1" in address(lens), "Python hears of it")
    assert handle(lens, "alpha + beta").get_attribute("aria-valuenow") == "0"


def test_every_kind_of_schedule_has_its_handles(lens, until):
    for name, n in (("inverse", 2), ("shuffled", 2), ("piecewise", 3), ("by layer", 4)):
        lens.get_by_role("button", name=name, exact=True).click()
        handles = lens.locator(".curve .handle")
        until(lambda handles=handles, n=n: handles.count() == n, f"{name}: {n} handles")
    handle(lens, "block 2").focus()
    lens.keyboard.press("End")
    until(lambda: factors(lens)[2] == 1, "one layer alone")
    until(lambda: "per_layer:" in address(lens), "Python hears of it")
    lens.get_by_role("button", name="none", exact=True).click()
    until(lambda: factors(lens) == [1] * 5, "the whole edit at every depth")


def test_a_factor_that_a_search_chose_beyond_two_can_be_dragged(page, served, until):
    page.goto(f"{served.url}?{QUICK.replace('0.1,0.9', '0.4,2.4')}")
    wait_until_measured(page)
    assert float(handle(page, "alpha + beta").get_attribute("aria-valuemax")) == 3
    drag(page, "alpha", 12)
    page.mouse.up()
    alpha, last = factors(page)[1], factors(page)[-2]
    assert alpha > 0.45
    assert last == 2.8
    until(lambda: f"lines:{alpha}," in address(page), "the server agrees")
    assert page.locator(".notices .text", has_text="between").count() == 0


def test_wudis_step_is_set_on_a_logarithmic_slider(page, served, until):
    page.goto(f"{served.url}?{QUICK.replace('lines:0.1,0.9', 'lines:1.0,0.0')}&method=wudi")
    wait_until_measured(page)
    slider = page.get_by_role("slider", name="learning_rate", exact=True)
    assert slider.get_attribute("aria-valuetext") == "0.00001"
    slider.focus()
    for _ in range(30):
        slider.press("ArrowRight")
    until(lambda: "option.learning_rate=2e-05" in address(page), "a tenth of a decade a step")
    field = page.get_by_role("spinbutton", name="learning_rate, exact value")
    assert float(field.input_value()) == 2e-5


def test_the_drawn_schedule_is_painted_with_the_pointer(lens, until):
    lens.get_by_role("button", name="by layer", exact=True).click()
    until(lambda: lens.locator(".curve .handle").count() == 4, "a handle a layer")
    first, last = (handle(lens, f"block {i}").bounding_box() for i in (1, 3))
    y = min(first["y"], last["y"]) + 4
    lens.mouse.move(first["x"] + 40, y)
    lens.mouse.down()
    lens.mouse.move(last["x"] + 10, y, steps=25)
    lens.mouse.up()
    until(lambda: len({*factors(lens)[1:4]}) == 1, "all blocks are as high as the hand was")


def test_a_method_has_its_options_as_sliders(lens, until):
    lens.get_by_role("button", name="Digits", exact=True).wait_for()
    lens.get_by_label("merging method").select_option("ties")
    density = lens.get_by_role("slider", name="density", exact=True)
    density.wait_for()
    lens.get_by_text("Yadav").wait_for()
    before = chart(lens)["edited"]
    field = lens.get_by_role("spinbutton", name="density, exact value")
    field.fill("0.05")
    field.press("Enter")
    until(lambda: "option.density=0.05" in address(lens), "the option is in the recipe")
    until(lambda: chart(lens)["edited"] != before, "the accuracies follow")
    lens.get_by_role("combobox", name="merge", exact=True).select_option("sum")
    until(lambda: "option.merge" in address(lens), "a choice is a menu")
    density.focus()
    lens.keyboard.press("ArrowRight")
    until(lambda: "option.density=0.06" in address(lens), "the slider moves by a key")


def test_forgetting_streams_and_a_point_opens_its_schedule(lens, until):
    ramps = f"() => ({SOURCES})('alpha').map((s) => s.x.length)"
    until(lambda: max(lens.evaluate(ramps)) == 1, "the schedule on screen is a point")
    set_number_of_images(lens, 40)
    lens.get_by_role("button", name="measure forgetting").click()
    until(lambda: 1 < max(lens.evaluate(ramps)) < 12, "points stream in")
    until(lambda: max(lens.evaluate(ramps)) >= 11, "all eleven of the paper", 90)
    labels = lens.evaluate(TICKS, ["what is kept", 0.95, 1.0])
    assert (labels[0], labels[1], labels[-1]) == ("95%", "95.5%", "100%"), "all of them differ"
    columns = max(lens.evaluate(SOURCES, "alpha"), key=lambda s: len(s["x"]))
    i = next(i for i, alpha in enumerate(columns["alpha"]) if alpha == 1.0)
    lens.mouse.click(*lens.evaluate(PLACE, ["what is kept", columns["x"][i], columns["y"][i]]))
    at = (columns["x"][i], columns["y"][i])
    same = [
        a
        for a, x, y in zip(columns["alpha"], columns["x"], columns["y"], strict=True)
        if (x, y) == at
    ]
    until(
        lambda: any(f"lines:{float(a)}," in address(lens) for a in same),
        "the point's schedule opens",
    )


def set_number_of_images(page, n: int) -> None:
    field = page.get_by_role("spinbutton", name="images a task").locator("visible=true")
    field.fill(str(n))
    field.press("Enter")


# Work that cannot be over before it is stopped, however fast the machine is: the embedded model,
# all of its validation images, a thousand steps for a single merge.
LONG = "base=glyphs&mnist=1.0&view.lens=schedule&view.n=600"
LONGER = f"{LONG}&letters=1.0&method=wudi&option.steps=1000&view.tab=search"


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def test_a_search_is_stopped_while_it_merges_and_another_begins(page, served, until):
    page.goto(f"{served.url}?{LONGER}")
    page.wait_for_function(REPAINTED, timeout=120_000)
    button(page, "search α and β").click()
    button(page, "stop").click()
    until(lambda: button(page, "stop").count() == 0, "it stops")
    assert button(page, "search α and β").count() == 1
    cells = f"() => ({SOURCES})('left').some((source) => source.x.length > 0)"
    assert not page.evaluate(cells), "nothing is measured yet"
    page.get_by_label("merging method").select_option("weight_averaging")
    set_number_of_images(page, 10)
    button(page, "search α and β").click()
    until(lambda: page.evaluate(cells), "the other one begins", 120)
    button(page, "stop").click()
    until(lambda: button(page, "stop").count() == 0, "it stops")


def test_forgetting_is_stopped_and_keeps_its_points(page, served, until):
    page.goto(f"{served.url}?{LONG}")
    page.wait_for_function(REPAINTED, timeout=120_000)
    button(page, "measure forgetting").click()
    ramps = f"() => Math.max(...({SOURCES})('alpha').map((s) => s.x.length))"
    until(lambda: page.evaluate(ramps) >= 2, "points stream in", 120)
    button(page, "stop").click()
    until(lambda: button(page, "stop").count() == 0, "it stops")
    page.wait_for_timeout(500)
    seen = page.evaluate(ramps)
    assert 2 <= seen < 11, "it keeps its points, and is not over"
    page.wait_for_timeout(3000)
    assert page.evaluate(ramps) == seen, "no point comes afterwards"


def test_the_plane_fills_in_and_a_cell_opens_its_recipe(lens, until):
    tab(lens, "Alpha × beta")
    lens.get_by_role("button", name="search α and β").click()
    lens.get_by_text("Paper's choice α = 0.333").wait_for()
    until(lambda: lens.get_by_role("button", name="search α and β").count() == 1, "it ends", 90)
    lens.get_by_text("Without LiNeS the best factor").wait_for()
    until(lambda: lens.evaluate(SOURCES, "left"), "the cells are drawn")
    lens.wait_for_timeout(500)
    lens.mouse.click(*lens.evaluate(PLACE, ["normalized accuracy", 0.5, 0.5]))
    until(lambda: "schedule=lines:0.5,0.5" in address(lens), "the cell's schedule")
    assert "letters=1.0" in address(lens)
    until(lambda: factors(lens)[3] == 1.0, "the curve is the cell's")


def test_the_table_streams_is_sorted_and_a_row_opens(lens, until):
    tab(lens, "Compare")
    set_number_of_images(lens, 10)
    # AdaMerging's five hundred steps come last: the table is not complete when it is stopped.
    lens.get_by_role("combobox", name="AdaMerging").select_option("with")
    until(lambda: "view.adamerging=with" in address(lens), "it is asked for")
    lens.get_by_role("button", name="compare methods").click()
    rows = lens.locator(".board tbody tr")
    until(lambda: rows.count() >= 6, "rows stream in", 90)
    lens.get_by_role("button", name="stop", exact=True).click()
    until(lambda: lens.get_by_role("button", name="stop", exact=True).count() == 0, "it stops")
    lens.get_by_text("seed 0. LiNeS against").wait_for()
    lens.get_by_text("500 steps on unlabelled test images").wait_for()
    lens.get_by_role("columnheader", name="normalized").get_by_role("button").click()
    values = [float(t.split()[0]) for t in lens.locator("td.mean").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    lens.locator(".board tr", has_text="weight averaging").first.click()
    until(lambda: "method=weight_averaging" in address(lens), "the row's recipe opens")
    with lens.expect_download() as download:
        lens.get_by_role("button", name="Markdown").click()
    assert download.value.suggested_filename == "tiny-schedule-comparison.md"


def test_the_address_restores_everything_on_screen(lens, until, page):
    lens.get_by_role("button", name="piecewise", exact=True).click()
    lens.get_by_label("merging method").select_option("dare")
    lens.get_by_role("spinbutton", name="drop_rate, exact value").fill("0.3")
    lens.get_by_role("spinbutton", name="drop_rate, exact value").press("Enter")
    lens.get_by_role("button", name="Letters", exact=True).click()
    lens.get_by_role("button", name="normalized", exact=True).click()
    set_number(lens, "Letters", "0.4")
    tab(lens, "Compare")
    until(lambda: "view.tab=compare" in address(lens), "the address follows")
    until(lambda: "letters=0.4" in address(lens), "the recipe too")
    wait_until_measured(lens)
    seen, drawn, link = chart(lens)["edited"], factors(lens), address(lens)
    page.goto("about:blank")
    page.goto(link)
    wait_until_measured(page)
    assert factors(page) == drawn
    assert chart(page)["edited"] == seen
    assert page.get_by_label("merging method").input_value() == "dare"
    assert page.get_by_role("spinbutton", name="drop_rate, exact value").input_value() == "0.3"
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("base=tiny&schedule=per_layer:1,1,outside:1", "2 blocks"),
        ("base=tiny&digits=1&method=magic", "magic"),
        ("base=tiny&digits=1&method=ties&option.density=7", "density"),
        ("base=tiny&view.tab=%3Cimg%20src=x%20onerror=alert(1)%3E", "<img src=x"),
        ("base=tiny&view.n=none", "no whole number"),
    ],
)
def test_a_link_that_makes_no_sense_is_a_sentence(page, served, query, says):
    page.goto(f"{served.url}?{query}&view.lens=schedule")
    page.locator(".notices .list .sentence", has_text=says).first.wait_for()
    wait_until_measured(page)


@pytest.mark.parametrize(
    ("item", "name", "begins"),
    [
        ("Figure, PNG", "tiny-schedule.png", b"\x89PNG"),
        ("Figure, SVG", "tiny-schedule.svg", b"<?xml"),
        ("Accuracies, CSV", "tiny-schedule.csv", b"# {"),
        ("Recipe, JSON", "tiny-recipe.json", b"{"),
        ("Model, safetensors", "tiny-edited.safetensors", b""),
    ],
)
def test_files_can_be_saved(lens, item, name, begins, tmp_path):
    lens.get_by_role("button", name="save", exact=True).click()
    with lens.expect_download() as download:
        lens.get_by_role("menuitem", name=item).click()
    assert download.value.suggested_filename == name
    path = tmp_path / "file"
    download.value.save_as(path)
    assert path.read_bytes().startswith(begins)


def test_the_recipe_goes_along_between_lenses(page, served, until):
    page.goto(f"{served.url}?{QUICK}")
    wait_until_measured(page)
    page.get_by_role("button", name="Task arithmetic").click()
    page.locator(".sentence", has_text="schedule or a merging method").wait_for()
    until(lambda: "schedule=lines:0.1,0.9" in address(page), "the whole recipe goes along")
    page.get_by_role("button", name="Schedules and merging").click()
    until(lambda: "view.lens=schedule" in address(page), "and back")
    assert factors(page)[:2] == [0.1, 0.1]


def test_in_a_cell_the_curve_moves_and_the_accuracies_follow(page, lab, until):
    lab.open(page, [LENS])
    wait_until_measured(page)
    until(lambda: len(factors(page)) == 5, "the curve is there")
    before = chart(page)["edited"]
    page.wait_for_timeout(1500)
    drag(page, "alpha", 70)
    until(lambda: factors(page)[1] > 0.3, "the curve moves under the hand", 5)
    page.mouse.up()
    until(lambda: chart(page)["edited"] != before, "the accuracies follow")
    page.get_by_role("button", name="undo").click()
    until(lambda: factors(page)[1] == 0.1, "undo brings it back")
    tab(page, "Alpha × beta")
    page.get_by_role("button", name="search α and β").click()
    page.get_by_text("Paper's choice α =").wait_for()
    page.wait_for_function(PLANE_IS_LAID_OUT)
    assert_fits_narrow_and_wide_windows(page)
