"""axe-core over every lens, light and dark: contrast, names, roles (WCAG 2, levels A and AA)."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from seeing import comes_to_rest
from test_guide import LENSES

DARKER = re.compile("theme|dark|light", re.IGNORECASE)
OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
QUERIES = {
    "arithmetic": "&base=tiny&digits=2&letters=-1",  # pictures change their label
    "hierarchy": "&view.grammar=8,2,2,4&view.n=6,8&view.level=0.6",
    "disentanglement": "&view.maps=weights&view.n=16",
    "diffusion": "&view.model=digits&view.picture=3&view.level=0.7&view.n=2,4,1",
}


def violations(page) -> list[str]:
    """What axe-core finds, one line an element: rule, element, what is wrong."""
    found = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['html'][:160]} -- {node['failureSummary'][:240]}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("lens", LENSES)
def test_axe_finds_nothing_in_a_lens(page, served, lens, dark):
    page.goto(f"{served.url}?view.lens={lens}{QUERIES.get(lens, '')}")
    page.get_by_role("button", name="Help", exact=True).wait_for()
    if dark:
        page.get_by_role("button", name=DARKER).last.click()
    assert comes_to_rest(page, looks=6), "the lens never came to rest"
    assert violations(page) == []


def test_axe_finds_nothing_in_help_keys_and_tour(page, served):
    page.goto(served.url)
    page.get_by_role("button", name="Help", exact=True).click()
    page.get_by_role("dialog").wait_for()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keys").click()
    page.get_by_role("dialog").wait_for()
    assert violations(page) == []
    page.add_init_script("localStorage.removeItem('explorer-tour')")
    page.reload()
    page.get_by_role("region", name="a short tour").wait_for()
    assert comes_to_rest(page, looks=6), "the lens never came to rest"
    assert violations(page) == []
