"""What a person sees of the app: the chart's numbers, the gallery's labels, the status line."""

from __future__ import annotations

CHART = """() => {
    const found = []
    for (const document of Bokeh.documents)
        for (const model of document._all_models.values())
            if (model.type === "ColumnDataSource" && model.columns().includes("digits"))
                found.push({
                    task: [...model.get_column("task")],
                    edited: [...model.get_column("edited")],
                    zero_shot: [...model.get_column("zero_shot")],
                    n: [...model.get_column("n")],
                    coefficient: [...model.get_column("coefficient")],
                })
    return found
}"""
REPAINTED = "() => window.Bokeh && [...Bokeh.index.query((view) => view.repainted)].length > 0"

IDLE = """() => {
    const found = []
    const walk = (root) => {
        for (const element of root.querySelectorAll("*")) {
            if (element.matches(".line") && element.checkVisibility()) found.push(element)
            if (element.shadowRoot) walk(element.shadowRoot)
        }
    }
    walk(document)
    return found.length > 0 && found.every((line) => !line.classList.contains("busy"))
}"""
LOOK_MS = 250
TITLES_CUT = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
    .filter((v) => v.el.getClientRects().length).map((v) => {
    const title = v.model.title, context = document.createElement("canvas").getContext("2d")
    const [, number, unit] = title.text_font_size.match(/([\\d.]+)(.*)/)
    const size = unit === "em" ? number * parseFloat(getComputedStyle(v.el).fontSize) : number
    context.font = `${title.text_font_style} ${size}px ${title.text_font}`
    const from = v.frame.bbox.left + title.offset
    return [title.text, from, from + context.measureText(title.text).width, v.bbox.width]
}).filter(([text, from, to, width]) => text && (from < 0 || to > width))"""


def comes_to_rest(page, looks: int, longest: float = 120.0) -> bool:
    """Whether, within so many seconds, nothing was under way in so many looks in a row, a quarter
    of a second apart."""
    idle = 0
    for _ in range(int(1000 * longest / LOOK_MS)):
        page.wait_for_timeout(LOOK_MS)
        idle = idle + 1 if page.evaluate(IDLE) else 0
        if idle >= looks:
            return True
    return False


def chart(page) -> dict[str, list]:
    """The dumbbell chart's columns, as the browser holds them (of the last display)."""
    return page.evaluate(CHART)[-1]


def edited(page, task: str) -> float:
    """The edited accuracy on the chart."""
    columns = chart(page)
    return columns["edited"][columns["task"].index(task)]


def tiles(page) -> list[str]:
    """What every image of the gallery says about itself, in order."""
    labels = page.locator(".tile").evaluate_all(
        "tiles => tiles.map((tile) => tile.getAttribute('aria-label'))"
    )
    return [label or "" for label in labels]


def status(page) -> str:
    """The line that says which images stand behind the figures."""
    return page.locator(".notices .text").last.inner_text()


def wait_until_complete(page) -> None:
    """Until all images are measured and on screen."""
    page.wait_for_function(REPAINTED)
    page.locator(".notices .text", has_text="all ").last.wait_for()
    page.locator(".tile[aria-label]").first.wait_for()


def slider(page, name: str):
    """The slider of a task, or of "all tasks"."""
    return page.get_by_role("slider", name=name, exact=True)


def set_number(page, name: str, value: str) -> None:
    """Type into the number field beside a slider."""
    field = page.get_by_role("spinbutton", name=f"{name}, exact value", exact=True)
    field.fill(value)
    field.press("Enter")


def assert_fits_narrow_and_wide_windows(page) -> None:
    """The last output of a notebook is no wider than its cell, in windows of three widths."""
    for width in (1000, 1270, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        output = page.locator(".jp-OutputArea-output").last
        for _ in range(50):  # until the plots have their new width: on a busy machine seconds later
            overflow = output.evaluate("o => o.scrollWidth - o.clientWidth")
            if overflow <= 2:
                break
            page.wait_for_timeout(200)
        assert overflow <= 2, f"the lens overflows a window of {width} px by {overflow} px"


def titles_cut(page) -> list[list]:
    """Charts on screen whose title begins or ends outside of the figure: [title, from, to, width],
    in pixels."""
    return page.evaluate(TITLES_CUT)


def widget_is_observed_and_set(page, until) -> None:
    """The ipywidget of the cell on screen: a label follows the slider, a button sets it."""
    slider(page, "Digits").focus()
    page.keyboard.press("End")
    page.locator(".widget-label", has_text="{'digits': 2.0}").wait_for()
    page.get_by_role("button", name="halve").click()
    page.locator(".widget-label", has_text="{'digits': 1.0}").wait_for()
    until(lambda: slider(page, "Digits").input_value() == "1", "the slider follows the widget")
