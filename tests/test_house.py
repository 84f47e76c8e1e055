"""Claims about the house: what is shipped, what is imported when, what files may hold."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "explorer"
ZOO_LIMIT_MB = 64
VIEW_LIBRARIES = {"panel", "panel_material_ui", "holoviews", "bokeh", "ipywidgets"}
HEAVY = {"torch", "torchvision", "open_clip", "diffusers", "transformers", *VIEW_LIBRARIES}
# conda-forge's names where they are not the registry's.
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "open_clip_torch": "open-clip-torch",
}


def tracked(pattern: str) -> list[Path]:
    """Files of the repository that match; in an unpacked source archive, files of the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        return [file for file in ROOT.rglob(pattern) if ".venv" not in file.parts]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def imports_of(file: Path) -> set[str]:
    """Top-level modules named by any import statement of a file, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lock_names_no_host_and_pins_every_package():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    for line in packages:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+( ;.*)?$", line), line
        assert "://" not in line


def test_the_lock_holds_a_version_allowed_by_every_declared_dependency():
    from packaging.requirements import Requirement

    pinned: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, _, rest = line.partition("==")
        pinned.setdefault(name.replace("-", "_").lower(), []).append(rest.split(" ;")[0])
    for text in project()["dependencies"]:
        requirement = Requirement(text)
        versions = pinned[requirement.name.replace("-", "_").lower()]
        assert all(requirement.specifier.contains(version) for version in versions), text


@pytest.mark.parametrize("file", ["environment.yml", "binder/environment.yml"])
def test_conda_users_get_the_same_dependencies(file):
    declared = set()
    for text in project()["dependencies"]:
        name, bounds = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", text).groups()
        declared.add(CONDA_NAMES.get(name, name) + bounds)
    listed = set(re.findall(r"^  - ([a-z_A-Z0-9-]+(?:[<>=].*)?)$", (ROOT / file).read_text(), re.M))
    listed = {re.sub(r"^pytorch-cpu", "pytorch", line) for line in listed}
    assert declared <= listed, f"missing from {file}: {sorted(declared - listed)}"


def test_only_the_app_knows_of_panel_and_its_kin():
    offenders = {
        str(file.relative_to(ROOT)): sorted(found)
        for file in PACKAGE.rglob("*.py")
        if PACKAGE / "app" not in file.parents and (found := imports_of(file) & VIEW_LIBRARIES)
    }
    assert not offenders


def test_importing_explorer_loads_no_heavy_library():
    assert not imported_by("import explorer") & HEAVY


def test_the_command_line_loads_no_heavy_library():
    assert not imported_by("import explorer.cli; explorer.cli._parser()") & HEAVY


def test_the_package_imports_neither_tests_nor_training():
    for file in PACKAGE.rglob("*.py"):
        assert not imports_of(file) & {"tests", "training", "benchmarks"}, file


def test_notebooks_are_tracked_without_outputs():
    notebooks = tracked("*.ipynb")
    assert notebooks
    for notebook in notebooks:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [], notebook
                assert cell["execution_count"] is None, notebook


def test_notebooks_do_not_load_scripts_from_a_cdn():
    for notebook in tracked("*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        assert "hv.extension" not in text, f"{notebook}: it fetches its own scripts"
        assert "PANEL_INLINE" not in text, f"{notebook}: `explorer lab` sets it"


def test_the_embedded_zoo_stays_small():
    size = sum(file.stat().st_size for file in (PACKAGE / "zoo").rglob("*") if file.is_file())
    assert 0 < size <= ZOO_LIMIT_MB * 2**20


def test_the_embedded_zoo_holds_no_executable_format():
    allowed = {".safetensors", ".npz", ".png", ".json", ".md", ".txt", ".py"}
    files = [file for file in (PACKAGE / "zoo").rglob("*") if file.is_file()]
    strange = [file.name for file in files if file.suffix not in allowed]
    assert not [name for name in strange if not name.endswith(".pyc")]


def test_every_package_folder_says_what_it_is_for():
    for file in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file


def test_no_file_is_called_utils():
    dull = {"utils.py", "helpers.py", "misc.py", "common.py"}
    assert not [file for file in tracked("*.py") if file.name in dull]


def test_binder_serves_only_the_app_and_not_in_development_mode():
    text = (ROOT / "binder" / "jupyter-panel-proxy.yml").read_text()
    assert "apps:\n  - binder/app.py" in text
    for flag in ("dev", "admin", "autoreload"):
        assert f'\n{flag}: ""' in text, "any word, even false, would switch it on"
    for script in ("postBuild", "start"):
        assert (ROOT / "binder" / script).stat().st_mode & 0o111, script
    assert (ROOT / "binder" / "start").read_text().rstrip().endswith('exec "$@"')


def test_the_version_is_in_the_change_log():
    import explorer

    assert f"## {explorer.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_examples_in_the_readme_run_one_after_the_other():
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(examples) == 2
    names: dict[str, object] = {}
    for example in examples:
        assert len(example.splitlines()) <= 10
        exec(compile(example, "README.md", "exec"), names)


def test_the_table_in_the_readme_is_what_is_measured():
    done = subprocess.run(
        [sys.executable, "docs/zoo_table.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
