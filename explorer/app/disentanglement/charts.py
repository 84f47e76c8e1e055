"""Charts of the lens's tabs: the matrix of all pairs, and the tangent kernel's eigenfunctions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    FactorRange,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    LinearColorMapper,
    NumeralTickFormatter,
    Range1d,
    Title,
)
from bokeh.plotting import figure
from bokeh.transform import dodge

from explorer.app import theme
from explorer.app.disentanglement.palette import ERROR
from explorer.app.disentanglement.picture import extent

PAIRS = "Disentanglement maps of every pair, with their mean error (%)"
SIDE = 0.94
"""Of a map in its place of side 1."""
WAITING = "The kernel is computed after the maps"


def behind_pairs(result: xr.Dataset) -> str:
    """ "17 of 28 pairs · 9 × 9 cells each, −3 to 3, the row's task to the right · 128 images a task
    · seed 0"."""
    attrs = result.attrs
    low, high = (f"{float(result['alpha1'][i]):g}".replace("-", "−") for i in (0, -1))
    images = extent([int(n) for n in result["n"].values])
    cells = attrs["resolution"].partition(" of ")[2].replace("x", "×")
    pairs = f"{attrs['pairs_done']} of {attrs['pairs']} pairs"
    each = f"{cells} cells each, {low} to {high}, the row's task to the right"
    return f"{pairs} · {each} · {images} images a task · seed {attrs['seed']}"


def behind_kernel(result: xr.Dataset) -> str:
    """ "the 24 largest · 100 images a task · seed 0"."""
    images = extent([int(n) for n in result["n"].values])
    seed = result.attrs["seed"]
    return f"the {result.sizes['rank']} largest · {images} images a task · seed {seed}"


def _subtitled(chart: figure) -> Title:
    """A line of smaller text between a chart and its title."""
    line = Title(text="", text_font_size="12px", text_font_style="normal", standoff=2)
    chart.add_layout(line, "above")
    return line


class PairMatrix:
    """The map of every pair of tasks, with its mean in digits; fills in while one watches."""

    def __init__(self, titles: Mapping[str, str]):
        """titles: task -> title, of the tasks with a vector."""
        self.names = [*titles]
        self._titles = [*titles.values()]
        # The colours of the maps that a click opens.
        self.colours = LinearColorMapper(palette=ERROR, low=0, high=1, nan_color="rgba(0,0,0,0)")
        self.source = ColumnDataSource(self._columns(None))
        self.figure = self._figure()
        self.subtitle = _subtitled(self.figure)

    def _figure(self) -> figure:
        chart = theme.plain(
            figure(
                x_range=FactorRange(*self._titles),
                y_range=FactorRange(*reversed(self._titles)),
                sizing_mode="stretch_width",
                height=560,
                tools="save",
                toolbar_location="above",
                title=PAIRS,
            )
        )
        chart.image(
            "map", "left", "bottom", SIDE, SIDE, source=self.source, color_mapper=self.colours
        )
        squares = chart.rect(
            "x",
            "y",
            SIDE,
            SIDE,
            source=self.source,
            line_color=theme.ZERO_SHOT,
            line_alpha=0.35,
            fill_alpha=0.0,
            nonselection_fill_alpha=0.0,
        )
        chart.text(
            "left",
            "bottom",
            text="digits",
            text_color="#16202b",
            background_fill_color="#ffffff",
            background_fill_alpha=0.8,
            padding=2,
            source=self.source,
            text_baseline="bottom",
            text_font_size="13px",
            x_offset=2,
            y_offset=-2,
        )
        chart.add_tools(
            HoverTool(
                renderers=[squares],
                tooltips=[
                    ("pair", "@y, @x"),
                    ("mean over the map", "@error{0.0%}"),
                    ("mean over [0, 1]²", "@search{0.0%}"),
                    ("", "click: open it"),
                ],
            )
        )
        bar = ColorBar(color_mapper=self.colours, width=10, bar_line_color=None)
        bar.formatter = NumeralTickFormatter(format="0%")
        chart.add_layout(bar, "right")
        chart.xaxis.major_label_orientation = 0.7
        chart.grid.grid_line_color = None
        return chart

    def _columns(self, result: xr.Dataset | None) -> dict[str, list]:
        k = len(self.names)
        error = search = np.full((k, k), np.nan)
        maps = np.full((k, k, 1, 1), np.nan, np.float32)
        if result is not None:
            order = {"task1": self.names, "task2": self.names}
            found = result.reindex(order)
            error, search = found["mean_error"].values, found["search_region_error"].values
            maps = found["error"].values.astype(np.float32)
        rows, columns = (index.ravel() for index in np.indices((k, k)))
        margin = (1 - SIDE) / 2
        return {
            "x": [self._titles[j] for j in columns],
            "y": [self._titles[i] for i in rows],
            "left": (columns + margin).tolist(),
            "bottom": (k - 1 - rows + margin).tolist(),
            # As in the map that a click opens: the row's task to the right, the other one upwards.
            "map": [np.ascontiguousarray(maps[i, j].T) for i, j in zip(rows, columns, strict=True)],
            "error": error.ravel().tolist(),
            "search": search.ravel().tolist(),
            "digits": ["" if np.isnan(e) else f"{100 * e:.0f}" for e in error.ravel()],
        }

    def show(self, result: xr.Dataset | None, space: str) -> None:
        """Put measured pairs on screen. space: what the kind of their maps is called."""
        self.figure.title.text = f"{PAIRS}: {space}"
        self.subtitle.text = "" if result is None else behind_pairs(result)
        self.source.data = self._columns(result)

    def pair_at(self, x: float, y: float) -> tuple[str, str] | None:
        """The pair of a click at figure coordinates; None on the diagonal and outside."""
        column, row = int(np.floor(x)), len(self.names) - 1 - int(np.floor(y))
        if not (0 <= column < len(self.names) and 0 <= row < len(self.names)) or column == row:
            return None
        return self.names[row], self.names[column]


class _RankChart:
    """Two shares of every eigenfunction of the tangent kernel, one a task, against its rank."""

    names: tuple[str, str]

    def __init__(self, title: str, axis: str, height: int, top: float):
        self.source = ColumnDataSource({name: [] for name in ("rank", "eigenvalue", *self.names)})
        self.figure = theme.plain(
            figure(
                sizing_mode="stretch_width",
                height=height,
                tools="save",
                toolbar_location="above",
                title=title,
                x_range=Range1d(0.3, 24.7),
                y_range=Range1d(0, top),
            )
        )
        bars = self._bars(theme.LINES[:2])
        self._items = [LegendItem(label="", renderers=[bar]) for bar in bars]
        legend = Legend(
            items=self._items,
            orientation="horizontal",
            border_line_color=None,
            background_fill_alpha=0.0,
            label_text_font_size="13px",
        )
        self.figure.add_layout(legend, "above")
        self.subtitle = _subtitled(self.figure)
        self._hover = HoverTool(renderers=bars, tooltips=[])
        self.figure.add_tools(self._hover)
        self.figure.xaxis.axis_label = "rank of the eigenfunction, largest eigenvalue first"
        self.figure.yaxis.axis_label = axis
        self.figure.yaxis.formatter = NumeralTickFormatter(format="0%")

    def _bars(self, colours: Sequence[str]) -> list[GlyphRenderer]:
        """Draw one set of bars for each task."""
        raise NotImplementedError

    def _clear(self, title: str) -> None:
        """There is nothing to show."""
        self.figure.title.text, self.subtitle.text = title, ""
        self.source.data = {name: [] for name in self.source.data}

    def _put(self, result: xr.Dataset, shares: np.ndarray, titles: tuple[str, str]) -> None:
        """Draw shares (task, rank) of a result, with the tasks' titles in legend and hover box."""
        self.subtitle.text = behind_kernel(result)
        for item, title in zip(self._items, titles, strict=True):
            item.label = {"value": title}
        self._hover.tooltips = [
            ("eigenfunction", "@rank{0}"),
            *((title, f"@{name}{{0.0%}}") for name, title in zip(self.names, titles, strict=True)),
            ("eigenvalue", "@eigenvalue{0.000a}"),
        ]
        rank = result["rank"].values.astype(float)
        self.figure.x_range.end = max(24.0, float(rank.max())) + 0.7
        self.source.data = {
            "rank": rank,
            "eigenvalue": result["eigenvalue"].values,
            **dict(zip(self.names, shares, strict=True)),
        }


class Eigenfunctions(_RankChart):
    """Energy of each eigenfunction of the tangent kernel on each task's images, against rank."""

    names = ("energy0", "energy1")

    def __init__(self) -> None:
        super().__init__(WAITING, "share of its energy", 330, 1.02)

    def _bars(self, colours: Sequence[str]) -> list[GlyphRenderer]:
        return self.figure.vbar_stack(
            [*self.names], x="rank", width=0.82, source=self.source, color=[*colours], alpha=0.9
        )

    def show(self, result: xr.Dataset | None, titles: tuple[str, str]) -> None:
        """Put a result on screen; None: there is none of these two tasks yet."""
        if result is None:
            self._clear(WAITING)
            return
        self.figure.title.text = "Energy of the kernel's eigenfunctions on each task's images"
        self._put(result, result["energy"].values, titles)


class Carried(_RankChart):
    """Share of each task vector's effect that each eigenfunction carries, against rank."""

    names = ("carried0", "carried1")

    def __init__(self) -> None:
        super().__init__("", "share it carries", 270, 0.1)

    def _bars(self, colours: Sequence[str]) -> list[GlyphRenderer]:
        places = zip(self.names, (-0.2, 0.2), colours, strict=True)
        return [
            self.figure.vbar(
                x=dodge("rank", beside),
                top=name,
                width=0.38,
                source=self.source,
                color=colour,
                alpha=0.9,
            )
            for name, beside, colour in places
        ]

    def show(self, result: xr.Dataset | None, titles: tuple[str, str]) -> None:
        """Put a result on screen; None: there is none of these two tasks yet."""
        if result is None:
            self._clear("")
            return
        carried = result["carried"].values
        shares = zip(carried.sum(1), titles, strict=True)
        together = ", ".join(f"{share:.0%} for {title}" for share, title in shares)
        self.figure.title.text = f"What they carry of each task vector's effect: {together}"
        self.figure.y_range.end = 1.05 * max(0.01, float(carried.max()))
        self._put(result, carried, titles)
