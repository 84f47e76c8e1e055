"""Tree and curves as one figure for a paper: matplotlib, imported on first use."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from explorer.app import saving, theme
from explorer.app.tree.charts import level_label
from explorer.app.tree.measured import Measured
from explorer.app.tree.palette import CONTROL_LINES, depth_colours
from explorer.app.tree.setting import CONTROLS, LEVEL_NAMES, LEVEL_SYMBOLS, Setting
from explorer.app.tree.shape import UNCHANGED, positions, sentence, starts
from explorer.app.tree.trajectory import Trajectory


def figure(
    setting: Setting,
    measured: Measured,
    controls: Mapping[str, Measured],
    trajectory: Trajectory,
    kind: str,
) -> bytes:
    """The tree at the slider's level over the three curves, as PNG or SVG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chart = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(chart)
    curves = ("marginals", "chi", "length", "C")
    places = chart.subplot_mosaic([["tree"] * 4, [*curves]], height_ratios=[1.3, 1])
    _tree(places["tree"], setting, trajectory)
    _marginals(places["marginals"], setting, measured)
    _statistic(places["chi"], "susceptibility", setting, measured, controls)
    places["chi"].set_title("susceptibility χ", fontsize=9)
    places["chi"].legend(frameon=False, fontsize=7)
    _statistic(places["length"], "correlation_length", setting, measured, controls)
    places["length"].set_title("correlation length in leaves", fontsize=9)
    _correlation(places["C"], setting, measured, controls)
    for name in curves:
        places[name].spines[["top", "right"]].set_visible(False)
    counts = f"{setting.data} strings × {setting.samples} trajectories, seed {setting.seed}"
    chart.suptitle(f"Random Hierarchy Model, {setting.sizes}; {counts}", fontsize=11)
    out = io.BytesIO()
    note = "Description" if kind == "png" else "Title"
    from explorer.app.tree.saving import python

    chart.savefig(out, format=kind, dpi=saving.DOTS_PER_INCH, metadata={note: python(setting)})
    return out.getvalue()


def _tree(axes: Any, setting: Setting, trajectory: Trajectory) -> None:
    from matplotlib.collections import LineCollection

    s, L = setting.sizes.s, setting.sizes.L
    x, y = positions(s, L)
    at, colours = starts(s, L), depth_colours(L)
    here = trajectory.nearest(setting.level)
    begins = trajectory.begins[here]
    lines, inks, widths = [], [], []
    for depth in range(1, L + 1):
        for i in range(s**depth):
            node, parent = at[depth] + i, at[depth - 1] + i // s
            joined = begins[node] < depth
            lines.append([(x[parent], y[parent]), (x[node], y[node])])
            inks.append(colours[begins[node]] if joined else theme.ZERO_SHOT)
            widths.append(1.8 if joined else 0.4)
    axes.add_collection(LineCollection(lines, colors=inks, linewidths=widths))
    changed = begins != UNCHANGED
    axes.scatter(x[~changed], y[~changed], s=3, color=theme.ZERO_SHOT)
    axes.scatter(x[changed], y[changed], s=12, c=[colours[b] for b in begins[changed]], zorder=3)
    found = trajectory.bands(setting.level)
    leaves = s**L
    for band in found:
        width = (band.stop - band.first) / leaves
        axes.barh(1.12, width, 0.06, band.first / leaves, color=colours[band.depth], alpha=0.25)
        moved = np.array(band.moved) / leaves
        axes.barh(1.12, 1 / leaves, 0.06, moved, align="center", color=colours[band.depth])
    axes.set_ylim(1.2, -0.05)
    axes.set_xlim(0, 1)
    axes.set_yticks(np.arange(L + 1) / L, ["root", *map(str, range(1, L)), "leaves"])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    symbol, level = LEVEL_SYMBOLS[setting.process], trajectory.levels[here]
    axes.set_title(f"{symbol} = {level:.2f}: {sentence(found, leaves)}", fontsize=10)


def _marginals(axes: Any, setting: Setting, measured: Measured) -> None:
    colours = depth_colours(setting.sizes.L)
    columns = measured.marginals(colours)
    axes.errorbar(
        columns["level"],
        columns["marginal"],
        columns["error"],
        fmt="none",
        ecolor=columns["colour"],
    )
    axes.scatter(columns["level"], columns["marginal"], s=8, c=columns["colour"], zorder=3)
    if measured.theory is not None:
        found = measured.theory.result["marginal"].transpose("depth", "epsilon")
        for line, colour in zip(found.values, colours, strict=True):
            axes.plot(found["epsilon"], line, color=colour, lw=1.2)
    _over_levels(axes, setting, measured)
    axes.set_title("P(true symbol): orange root, blue leaves", fontsize=9)


def _statistic(
    axes: Any, name: str, setting: Setting, measured: Measured, controls: Mapping[str, Measured]
) -> None:
    if measured.theory is not None:
        found = measured.theory.result[name]
        axes.plot(found["epsilon"], found, color=theme.FINE_TUNED, lw=1.2, label="mean field")
    series = {"measured": (measured, theme.FINE_TUNED)}
    series |= {CONTROLS[control]: (c, CONTROL_LINES[control]) for control, c in controls.items()}
    for label, (of, colour) in series.items():
        columns = of.against_level(name)
        bars = {"fmt": "o", "ms": 3, "color": colour, "label": label}
        axes.errorbar(columns["level"], columns["value"], columns["error"], **bars)
    _over_levels(axes, setting, measured)
    axes.set_xlabel(level_label(setting), fontsize=8)


def _correlation(
    axes: Any, setting: Setting, measured: Measured, controls: Mapping[str, Measured]
) -> None:
    level = measured.nearest(setting.level)
    assert level is not None  # the caller has seen rows
    series = [(measured.correlation(level), theme.FINE_TUNED)]
    for name, of in controls.items():
        widest = of.widest()
        if widest is not None:
            series.append((of.correlation(widest), CONTROL_LINES[name]))
    for columns, colour in series:
        axes.errorbar(
            columns["r"], columns["correlation"], columns["error"], fmt="o", ms=3, color=colour
        )
    if measured.theory is not None:
        line, law = measured.theory.by_distance(setting.level), measured.theory.power_law()
        axes.plot(line["r"], line["correlation"], color=theme.FINE_TUNED, lw=1.2)
        axes.plot(law["r"], law["correlation"], "--", color=theme.ZERO_SHOT, lw=1.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 1.3)
    axes.set_xlabel("distance r = s^ℓ − 1")
    axes.set_title(f"C(r) / C(0) at {LEVEL_SYMBOLS[setting.process]} = {level:.3g}", fontsize=9)


def _over_levels(axes: Any, setting: Setting, measured: Measured) -> None:
    axes.axvline(setting.level, color=theme.EDITED, lw=1.2)
    if measured.theory is not None and np.isfinite(measured.theory.threshold):
        axes.axvline(measured.theory.threshold, color=theme.ZERO_SHOT, ls="--", lw=1.2)
    axes.set_xlim(0, 1)
    axes.set_xlabel(LEVEL_NAMES[setting.process])
