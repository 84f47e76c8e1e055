"""Files and code a person takes home from the hierarchy lens. Figures are drawn with matplotlib,
in `figure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import xarray as xr

from explorer.app import saving
from explorer.app.tree.figure import figure
from explorer.app.tree.measured import AGAINST_LEVEL, NEAR_ONE, Measured
from explorer.app.tree.setting import MEASURED_LEVELS, CurveSpec, Setting
from explorer.app.tree.trajectory import Trajectory
from explorer.errors import UnknownNameError

__all__ = ["FILES", "MIME", "csv", "figure", "file_name", "kind", "netcdf", "python"]

FILES = (
    ["png", "Figure, PNG"],
    ["svg", "Figure, SVG"],
    ["csv", "Numbers of the curves, CSV"],
    ["nc", "Everything measured, NetCDF"],
)
MIME = {what: saving.MIME[what] for what, _ in FILES}


def kind(what: Any) -> str:
    """what, if it is a kind of file there is. Raises UnknownNameError."""
    if what not in MIME:
        raise UnknownNameError("kind of file", what, MIME)
    return what


def file_name(setting: Setting, what: str) -> str:
    """A name for the browser's download folder."""
    sizes = setting.sizes
    return saving.file_name(f"rhm-{sizes.v}-{sizes.m}-{sizes.s}-{sizes.L}", what, setting.process)


def python(setting: Setting) -> str:
    """Code that computes what is on screen, number for number."""
    sizes = setting.sizes
    first, last, n = MEASURED_LEVELS[0], MEASURED_LEVELS[-1], len(MEASURED_LEVELS)
    extra = [setting.level, *(NEAR_ONE if "mixture" in setting.controls else ())]
    given = "" if setting.grammar.seed is not None else "  # not the rules that the lens was given"
    lines = [
        "import numpy as np",
        "",
        "import explorer as ex",
        "",
        f"g = ex.hierarchy.Grammar.random(v={sizes.v}, m={sizes.m}, s={sizes.s}, L={sizes.L}, "
        f"seed={setting.grammar.seed or 0}){given}",
        f"levels = np.union1d(np.linspace({first:g}, {last:g}, {n}).round(3), {extra})",
        f"result = {_expression(setting.curves[0])}.result()",
    ]
    lines += [f"{spec.control} = {_expression(spec)}.result()" for spec in setting.curves[1:]]
    if setting.process == "epsilon":
        lines.append(
            f"theory = ex.hierarchy.mean_field({sizes.v}, {sizes.m}, {sizes.s}, {sizes.L}, levels)"
        )
    return "\n".join([*lines, ""])


def _expression(spec: CurveSpec) -> str:
    sizes = spec.grammar.sizes
    counts = f"data={spec.data}, samples={spec.samples}, seed={spec.seed}"
    if spec.control == "mixture":
        numbers = f"{sizes.v}, {min(sizes.m, sizes.v)}, {sizes.s}, {sizes.L}"
        return f"ex.hierarchy.flat_mixture({numbers}, levels, {counts})"
    if spec.control == "field":
        return f"ex.hierarchy.gaussian_field({sizes.s}, {sizes.L}, levels, {counts})"
    return f"ex.hierarchy.forward_backward(g, levels, process={spec.process!r}, {counts})"


def csv(setting: Setting, measured: Measured, controls: Mapping[str, Measured]) -> bytes:
    """One line a level and model: chi, length, C by distance, marginals by depth, with errors."""
    tables = []
    for found in (measured, *controls.values()):
        table = _table(found)
        table.insert(0, "model", found.spec.title)
        tables.append(table)
    comment = "".join(f"# {line}\n" for line in python(setting).splitlines() if line)
    return (comment + pd.concat(tables).to_csv(index=False)).encode("utf-8")


def _table(measured: Measured) -> pd.DataFrame:
    result = measured.dataset()
    columns = {"level": result["level"].values}
    for name in AGAINST_LEVEL:
        columns |= {f"{name}{end}": result[f"{name}{end}"].values for end in ("", "_error")}
    for over, names in (("distance", ("correlation",)), ("depth", ("marginal", "changed"))):
        for name in (f"{n}{suffix}" for n in names for suffix in ("", "_error")):
            if name in result:
                for place in result[over].values.tolist():
                    columns[f"{name}_{over}{place}"] = result[name].sel({over: place}).values
    if measured.theory is not None:
        theory = measured.theory.result.interp(epsilon=result["level"].values)
        columns |= {f"{name}_theory": theory[name].values for name in AGAINST_LEVEL}
    return pd.DataFrame(columns)


def netcdf(setting: Setting, measured: Measured, trajectory: Trajectory) -> bytes:
    """The measured Dataset, and beside it the tree on screen at every level of the slider."""
    over = ("tree_level", "node")
    tree = xr.Dataset(
        {
            "tree_before": ("node", trajectory.before, {"long_name": "symbols at the start"}),
            "tree_after": (over, trajectory.after, {"long_name": "symbols after denoising"}),
            "tree_marginal": (
                over,
                trajectory.marginal,
                {"long_name": "posterior of the symbol at the start"},
            ),
        },
        coords={"tree_level": trajectory.levels},
    )
    facts = {"python": python(setting), "datum": setting.datum, "noise": setting.noise}
    return saving.netcdf(measured.dataset().merge(tree).assign_attrs(facts))
