"""Help: every lens says what it measures and whose paper that is, in one registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explorer.app.guide import guide_for
from explorer.app.help import HELP, KEYS, TOUR
from explorer.app.lenses import TITLES, make

ROOT = Path(__file__).parent.parent


def test_every_lens_has_help_under_its_own_name_and_title():
    assert {name: found.title for name, found in HELP.items()} == TITLES


@pytest.mark.parametrize("name", HELP)
def test_the_measure_is_told_in_three_to_five_sentences_with_a_paper(name):
    found = HELP[name]
    text = " ".join(found.sentences)
    assert 3 <= len(re.findall(r"[.?!](?:\s|$)", text)) <= 6, text
    assert 3 <= len(found.sentences) <= 5
    assert found.papers
    for paper in found.papers:
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", paper.link)


@pytest.mark.parametrize("name", TITLES)
def test_every_lens_shows_its_guide_first_in_the_sidebar(name, tiny_model):
    lens = make(name, tiny_model)
    guide = lens.display().side()[0]
    assert guide.title == TITLES[name]
    assert guide.keys[-len(KEYS) :] == [[*pair] for pair in KEYS]
    assert guide.tour == [], "no tour in a notebook's cell"
    lens.close()


def test_a_lens_without_help_is_an_error():
    with pytest.raises(KeyError):
        guide_for("nothing")


def test_the_tour_has_three_to_five_steps():
    assert 3 <= len(TOUR) <= 5


def test_papers_of_the_help_are_those_of_the_citation_file():
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    numbers = {entry["identifiers"][0]["value"].removeprefix("arXiv:") for entry in cited}
    assert {paper.number for found in HELP.values() for paper in found.papers} <= numbers
