"""Text in a chart that grows with the chart, so that the back of the room can read it."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.model import Model
from bokeh.models import CustomJS
from bokeh.plotting import figure as Figure

Size = tuple[Model, str, int]
"""A model, its property that holds a size of text, and pixels above or below the usual size."""

SCALE = """
    const put = () => {
        const px = Math.round(Math.max(low, Math.min(high, chart.outer_width / per)))
        models.forEach((model, i) => {
            const size = `${px + more[i]}px`
            if (model[names[i]] !== size) model.setv({[names[i]]: size})
        })
    }
    put()
    setTimeout(put, 100)
"""


def scale_text(chart: Figure, sizes: Sequence[Size], per: float, low: int, high: int) -> None:
    """Keep the usual size of text at chart's width / per, between low and high pixels.

    The width is the outer one: the inner one depends on the size of the text, and the two would
    chase each other. The inner one says when to look: it changes with every layout, also when
    Material's theme sets sizes of its own, axis by axis; hence a second look when that is over.
    """
    models, names, more = (list(column) for column in zip(*sizes, strict=True))
    resize = CustomJS(
        args={
            "chart": chart,
            "models": models,
            "names": names,
            "more": more,
            "per": per,
            "low": low,
            "high": high,
        },
        code=SCALE,
    )
    chart.js_on_change("inner_width", resize)


def axis_sizes(chart: Figure) -> list[Size]:
    """The labels of a chart's axes and of their ticks, in the usual size."""
    names = ("major_label_text_font_size", "axis_label_text_font_size")
    return [(axis, name, 0) for axis in (*chart.xaxis, *chart.yaxis) for name in names]
