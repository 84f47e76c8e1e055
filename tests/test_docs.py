"""The documentation builds, without a warning and without asking anybody outside for anything."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import explorer

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_the_documentation_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    built = subprocess.run(
        [*command, "docs", tmp_path / "html"], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert built.returncode == 0, built.stdout + built.stderr
    reference = (tmp_path / "html" / "api.html").read_text("utf-8")
    missing = [
        name
        for name in explorer.__all__
        if callable(getattr(explorer, name))
        and isinstance(getattr(explorer, name), type | type(explorer.accuracy))
        and not re.search(rf'id="explorer[\w.]*\.{name}"', reference)
    ]
    assert missing == []
    for page in (tmp_path / "html").glob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text()
        )
        assert loaded == [], page.name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_its_lens_where_nothing_is_run(notebook):
    """Near its top, in words too, by a script of the repository, and with no one to ask for it."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"][:3]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    ((words, link),) = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", "\n".join(texts))
    assert len(words.split()) > 8
    assert link == f"images/{notebook.stem}.png"
    picture = notebook.parent / link
    assert picture.stat().st_size < 200_000
    assert min(Image.open(picture).size) > 500
    script = ast.parse((ROOT / "docs" / "notebook_figures.py").read_text("utf-8"))
    named = {node.value for node in ast.walk(script) if isinstance(node, ast.Constant)}
    assert notebook.stem in named


def test_the_citation_file_names_this_version_and_licence():
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == explorer.__version__
    assert cited["license"] == "BSD-3-Clause"
    for work in cited["references"]:
        assert {"type", "title", "year", "authors", "url"} <= set(work)
