"""Sphinx's settings: `make docs` writes docs/_build/html."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import explorer

project = "Weight explorer"
author = "The explorer authors"
copyright = author
version = release = explorer.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
# Docstrings are prose for a person at a prompt: single backticks are names, not references.
default_role = "code"
# Names in `all` come from many rooms; a type without a page of its own is no mistake.
nitpicky = False

html_theme = "furo"
html_title = f"{project} {version}"


def facade(_app: object, page: str, source: list[str]) -> None:
    """Put a directive for every public name of `explorer` into the page of the reference."""
    if page != "api":
        return
    directives = []
    for name in sorted(explorer.__all__, key=str.lower):
        thing = getattr(explorer, name)
        if isinstance(thing, type):
            kind, where = "class", f"{thing.__module__}.{thing.__qualname__}"
        elif callable(thing) and not name.startswith("__") and hasattr(thing, "__module__"):
            kind, where = "function", f"{thing.__module__}.{name}"
        else:
            continue  # rooms and constants, which the introduction names
        directives.append(f".. auto{kind}:: {where}\n")
    source[0] = source[0].replace("THE FACADE", "\n".join(directives))


def as_written(
    _app: object, _kind: str, _name: str, _thing: object, _opts: object, lines: list[str]
):
    """Docstrings are plain text for a prompt: bars are bars, and what is indented is code."""
    text = [line if line.startswith(" ") else line.replace("|", r"\|") for line in lines]
    lines[:] = []
    for before, line in zip(["", *text], text, strict=False):
        begins = line.startswith("    ") and not before.startswith((" ", "-", "*"))
        lines += ["", "::", "", line] if begins else [line]


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("source-read", facade)
    app.connect("autodoc-process-docstring", as_written)
