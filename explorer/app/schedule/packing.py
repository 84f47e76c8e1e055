"""What the browser gets of a recipe: its schedule as a curve, its method's options, its norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from explorer.app import theme
from explorer.app.schedule import curve
from explorer.editing.schedule import FACTOR_RANGE
from explorer.recipe import Recipe


def packed(
    recipe: Recipe,
    n_layers: int,
    titles: Mapping[str, str],
    geometry: xr.Dataset | None,
) -> dict[str, Any]:
    """The curve component's data. Norms are those of c_t tau_t over those of the base, by depth.

    titles: task -> title, in the order that gives each task its colour.
    """
    schedule = recipe.schedule
    lines: list[dict[str, Any]] = []
    if geometry is not None:
        lines = [
            {
                "title": titles[task],
                "norms": norms_by_depth(geometry, task, n_layers, abs(coefficient)),
                **_style([*titles].index(task)),
            }
            for task, coefficient in recipe.active.items()
        ]
    return {
        "kind": curve.kind_of(schedule),
        "range": FACTOR_RANGE,
        "depths": ["input", *(f"block {i + 1}" for i in range(n_layers)), "output"],
        "outside_names": ["input", "output"],
        "basis": curve.basis(schedule, n_layers),
        "handles": [
            {"name": handle.name, "place": handle.place, "value": handle.value}
            for handle in curve.handles(schedule, n_layers)
        ],
        "lines": sorted(lines, key=lambda line: [*titles.values()].index(line["title"])),
    }


def norms_by_depth(
    geometry: xr.Dataset, task: str, n_layers: int, factor: float = 1.0
) -> list[float]:
    """factor ||tau|| / ||theta_0|| of a task at every depth; 0 where the tower has nothing."""
    known = geometry["norm_by_layer"].sel(task=task).to_series()
    depths = ["input", *(f"block {i + 1}" for i in range(n_layers)), "output"]
    return [factor * float(known.get(depth, 0.0)) for depth in depths]


def option_fields(recipe: Recipe, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The method's options as sliders and menus, from its signature and its bounds."""
    from explorer.editing.methods import find_method

    given = dict(recipe.options)
    fields = []
    for name, option in find_method(recipe.method).options.items():
        choices: Sequence[Sequence[str]] = [[choice, choice] for choice in option.choices]
        if name == "task":
            choices = [[task, titles[task]] for task in recipe.active]
        fields.append(
            {
                "name": name,
                "text": option.text,
                "low": option.low,
                "high": option.high,
                "step": option.step,
                "whole": option.kind is int,
                "written": option.kind is str and not option.choices,
                "scale": option.scale,
                "choices": choices,
                "value": given.get(name, option.default),
            }
        )
    return fields


def _style(index: int) -> dict[str, Any]:
    look = theme.line_style(index)
    return {"colour": look["line_color"], "dashed": look["line_dash"] == "dashed"}
