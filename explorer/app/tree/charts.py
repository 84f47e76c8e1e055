"""The curves: marginals by depth, susceptibility, correlation length, correlation by distance.

Lines are theory, marks are measured, with error bars; a magenta line stands where the slider does.
"""

from __future__ import annotations

from collections.abc import Mapping

from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, Range1d, Span
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.tree.marks import (
    MEASURED_INK,
    ChartLegend,
    ControlMarks,
    growing,
    marks_with_bars,
    quiet_chart,
    slider_mark,
    threshold_mark,
)
from explorer.app.tree.measured import Columns, Measured, Theory
from explorer.app.tree.palette import depth_colours
from explorer.app.tree.setting import CONTROL_LEVELS, LEVEL_NAMES, LEVEL_SYMBOLS, Setting


class _AgainstLevel:
    """What the two charts over the level of noise share."""

    figure: figure
    slider: Span
    threshold: Span
    _drawn: Theory | None = None
    """The theory whose lines are on the chart: they are sent once, not with every new mark."""

    def _level_label(self, setting: Setting) -> str:
        return LEVEL_NAMES[setting.process]

    def _over_levels(self) -> None:
        self.slider, self.threshold = slider_mark(), threshold_mark()
        self.figure.add_layout(self.threshold)
        self.figure.add_layout(self.slider)

    def move(self, setting: Setting, theory: Theory | None) -> None:
        """Put the slider's line and the threshold's where they are."""
        self.slider.location = setting.level
        self.figure.xaxis.axis_label = self._level_label(setting)
        found = theory.threshold if theory is not None else float("nan")
        self.threshold.visible = found == found
        if found == found:
            self.threshold.location = found


class Marginals(_AgainstLevel):
    """Probability that a node keeps its symbol, by depth, against the level."""

    def __init__(self) -> None:
        self.figure = quiet_chart(
            "P(true symbol), by depth",
            x_range=Range1d(0, 1),
            y_range=Range1d(0, 1.02),
        )
        self.lines = ColumnDataSource({"xs": [], "ys": [], "colour": [], "depth": []})
        self.figure.multi_line(
            "xs", "ys", source=self.lines, line_color="colour", line_width=2, line_alpha=0.85
        )
        self.source, marks = marks_with_bars(
            self.figure,
            ["depth", "colour"],
            "level",
            "marginal",
            fill_color="colour",
            color={"field": "colour"},
        )
        hover = [
            ("depth", "@depth (0 is the root)"),
            ("level", "@level{0.00}"),
            ("P(true symbol)", "@marginal{0.000} ± @error{0.000}"),
        ]
        self.figure.add_tools(HoverTool(renderers=[marks], tooltips=hover))
        self.figure.yaxis.axis_label = "P(true symbol)"
        growing(self.figure)
        self._over_levels()

    def show(self, measured: Measured | None) -> None:
        """Draw what is measured, and its theory."""
        if measured is None:
            return
        colours = depth_colours(measured.spec.grammar.sizes.L)
        self.source.data = measured.marginals(colours)
        if self._drawn is not measured.theory:
            self._drawn = measured.theory
            self.lines.data = marginal_lines(measured.theory, colours)


class Statistic(_AgainstLevel):
    """One of `AGAINST_LEVEL` against the level, with its theory and the controls."""

    def __init__(self, name: str, title: str, label: str, names: str):
        """names: whether the legend names the "grammar"'s marks or the "controls": one chart has
        no room for both, and they look the same on all."""
        self._name = name
        self.figure = quiet_chart(title)
        self.figure.x_range = Range1d(0, 1)
        self.figure.y_range = DataRange1d(start=0, range_padding=0.08)
        self.line = ColumnDataSource({"level": [], "value": []})
        theory = self.figure.line(
            "level", "value", source=self.line, line_color=MEASURED_INK, line_width=2
        )
        self.source, marks = marks_with_bars(self.figure, [], "level", "value", color=MEASURED_INK)
        self.controls = ControlMarks(self.figure, "level", "value")
        hover = [("level", "@level{0.000}"), (label, "@value{0.00} ± @error{0.00}")]
        self.figure.add_tools(HoverTool(renderers=[marks, *self.controls.marks], tooltips=hover))
        self.figure.yaxis.axis_label = label
        self._over_levels()
        if names == "grammar":
            self._legend = ChartLegend(self.figure, theory, marks)
        else:
            self._legend = ChartLegend(self.figure, controls=self.controls)

    def show(self, measured: Measured | None, controls: Mapping[str, Measured]) -> None:
        """Draw what is measured, its theory, and the controls."""
        if measured is not None:
            self.source.data = measured.against_level(self._name)
            if self._drawn is not measured.theory:
                self._drawn = measured.theory
                self.line.data = theory_line(measured.theory, self._name)
            self._legend.theory(measured.theory is not None)
        columns = {name: found.against_level(self._name) for name, found in controls.items()}
        self.controls.show(columns)
        self._legend.controls(controls)

    def _level_label(self, setting: Setting) -> str:
        return level_label(setting)


class Correlation:
    """Correlation of two leaves' changes against their distance in the tree, both logarithmic."""

    def __init__(self) -> None:
        self.figure = quiet_chart(
            "Correlation of changes",
            x_axis_type="log",
            y_axis_type="log",
        )
        self.figure.y_range = Range1d(1e-3, 1.3)
        self.figure.x_range = Range1d(0.8, 160)
        self.law = ColumnDataSource({"r": [], "correlation": []})
        self._power = self.figure.line(
            "r",
            "correlation",
            source=self.law,
            line_color=theme.ZERO_SHOT,
            line_dash="dashed",
            line_width=2,
        )
        self.line = ColumnDataSource({"distance": [], "r": [], "correlation": []})
        theory = self.figure.line(
            "r", "correlation", source=self.line, line_color=MEASURED_INK, line_width=2
        )
        self.source, marks = marks_with_bars(
            self.figure, ["distance"], "r", "correlation", color=MEASURED_INK
        )
        self.controls = ControlMarks(self.figure, "r", "correlation", ["distance"])
        hover = [
            ("distance", "r = s^ℓ − 1 = @r, common ancestor ℓ = @distance up"),
            ("C(r) / C(0)", "@correlation{0.0000} ± @error{0.0000}"),
        ]
        self.figure.add_tools(HoverTool(renderers=[marks, *self.controls.marks], tooltips=hover))
        self.figure.xaxis.axis_label = "distance r of two leaves"
        self.figure.yaxis.axis_label = "C(r) / C(0)"
        self._legend = ChartLegend(self.figure, theory, marks, power=self._power)

    def show(
        self, setting: Setting, measured: Measured | None, controls: Mapping[str, Measured]
    ) -> None:
        """Draw the correlation at the measured level nearest to the slider's."""
        sizes, symbol = setting.sizes, LEVEL_SYMBOLS[setting.process]
        self.figure.x_range.update(start=0.8 * (sizes.s - 1), end=1.3 * (sizes.leaves - 1))
        theory = measured.theory if measured is not None else None
        level = measured.nearest(setting.level) if measured is not None else None
        if measured is None or level is None:
            self.source.data = {name: [] for name in self.source.data}
            self.figure.title.text = "Correlation of changes"
        else:
            self.source.data = measured.correlation(level)
            self.figure.title.text = f"Correlation at {symbol} = {level:.3g}"
        nothing: Columns = {"distance": [], "r": [], "correlation": []}
        self.line.data = theory.by_distance(setting.level) if theory is not None else nothing
        self.law.data = theory.power_law() if theory is not None else {"r": [], "correlation": []}
        at_widest = {
            name: found.correlation(widest)
            for name, found in controls.items()
            if (widest := found.widest()) is not None
        }
        self.controls.show(at_widest)
        # A control has a transition of its own, elsewhere: it is compared at that one.
        self.figure.xaxis.axis_label = (
            "r; controls: at χ peak" if at_widest else "distance r of two leaves"
        )
        self._legend.theory(theory is not None)
        self._legend.power(theory is not None and bool(self.law.data["r"]))


def level_label(setting: Setting) -> str:
    """What the level is, and what it is for those controls that are noised in another way."""
    symbol = LEVEL_SYMBOLS[setting.process]
    others = [f"{c}: {x}" for c in setting.controls if (x := CONTROL_LEVELS[c]) != symbol]
    # Three kinds of noise have no room for the long name of one.
    name = LEVEL_NAMES[setting.process] if len(others) < 2 else symbol
    return "; ".join([name, *others])


def marginal_lines(theory: Theory | None, colours: list[str]) -> Columns:
    """One line a depth, of the mean field."""
    if theory is None:
        return {"xs": [], "ys": [], "colour": [], "depth": []}
    marginal = theory.result["marginal"].transpose("depth", "epsilon").values
    levels = theory.result["epsilon"].values.tolist()
    return {
        "xs": [levels] * len(marginal),
        "ys": [line.tolist() for line in marginal],
        "colour": [*colours],
        "depth": [*range(len(marginal))],
    }


def theory_line(theory: Theory | None, name: str) -> Columns:
    """A statistic of the mean field at this number of levels."""
    if theory is None:
        return {"level": [], "value": []}
    found = theory.result[name]
    return {"level": found["epsilon"].values.tolist(), "value": found.values.tolist()}
