"""The documentation builds, without a warning and without asking anybody outside for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import explorer

ROOT = Path(__file__).parent.parent


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


def test_the_citation_file_names_this_version_and_licence():
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == explorer.__version__
    assert cited["license"] == "BSD-3-Clause"
    for work in cited["references"]:
        assert {"type", "title", "year", "authors", "url"} <= set(work)
