"""Help, keys and the tour in headless Chromium, on a page and in a cell."""

from __future__ import annotations

import pytest
from seeing import slider, wait_until_complete

from explorer.app.help import HELP, TOUR

LENSES = {
    "arithmetic": "Task arithmetic",
    "disentanglement": "Weight disentanglement",
    "schedule": "Schedules and merging",
    "hierarchy": "Random hierarchy model",
    "diffusion": "Noise and denoise",
}


@pytest.mark.parametrize("lens", LENSES)
def test_help_explains_the_measure_and_links_its_paper(page, served, lens):
    page.goto(f"{served.url}?view.lens={lens}")
    page.get_by_role("button", name="Help", exact=True).click()
    dialog = page.get_by_role("dialog", name=LENSES[lens])
    dialog.wait_for()
    for sentence in HELP[lens].sentences:
        assert sentence in dialog.inner_text()
    links = [a.get_attribute("href") for a in dialog.get_by_role("link").all()]
    assert links == [paper.link for paper in HELP[lens].papers]
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate(FOCUSED) == "Help", "the keyboard is where it was"


FOCUSED = """() => {
    let node = document.activeElement
    while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement
    return node.textContent
}"""


def test_a_question_mark_lists_the_keys_and_not_while_one_types(page, served, until):
    page.goto(served.url)
    wait_until_complete(page)
    slider(page, "Digits").focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    dialog.wait_for()
    assert "Ctrl+Z, Ctrl+Shift+Z\nundo, redo" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.get_by_role("button", name="Keys").click()
    dialog.wait_for()
    dialog.get_by_role("button", name="Close").click()
    dialog.wait_for(state="hidden")
    page.get_by_role("tab", name="Prompts").click()
    area = page.get_by_label("class names, one a line")
    area.focus()
    page.keyboard.press("?")
    until(lambda: "?" in area.input_value(), "it is typed")
    assert not dialog.is_visible()


@pytest.fixture
def newcomer(browser):
    """A page of somebody who has never been here."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(40_000)
    yield page
    context.close()


def test_the_tour_comes_once_and_can_be_walked_or_dismissed(newcomer, served):
    page = newcomer
    page.goto(served.url)
    tour = page.get_by_role("region", name="a short tour")
    for number, (_, title, text) in enumerate(TOUR, start=1):
        tour.get_by_text(f"{number} of {len(TOUR)}").wait_for()
        assert title in tour.inner_text()
        assert text in tour.inner_text()
        page.get_by_role("button", name="Done" if number == len(TOUR) else "Next").click()
    tour.wait_for(state="hidden")
    page.reload()
    wait_until_complete(page)
    assert tour.count() == 0, "it is remembered"
    page.evaluate("localStorage.clear()")
    page.reload()
    tour.wait_for()
    page.keyboard.press("Escape")
    tour.wait_for(state="hidden")
    assert page.evaluate("localStorage.getItem('explorer-tour')") == "seen"


def test_a_cell_has_help_and_keys_and_no_tour(page, lab):
    page.add_init_script("localStorage.removeItem('explorer-tour')")
    lab.open(page, ["import explorer as ex\nex.ArithmeticLens(ex.open_model('tiny'))"])
    wait_until_complete(page)
    assert page.get_by_role("region", name="a short tour").count() == 0
    page.keyboard.press("?")  # the focus is in the notebook, not in the lens
    page.wait_for_timeout(300)
    dialog = page.get_by_role("dialog", name="Keyboard")
    assert not dialog.is_visible()
    slider(page, "Digits").focus()
    page.keyboard.press("?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
