"""Colours, marks and plot styling: one meaning, one colour, in every view of every lens.

The colours are told apart with the three common colour-vision deficiencies, and none stands alone:
the three accuracies differ in mark as well, flipped labels carry a sign and a border style.
"""

from __future__ import annotations

from bokeh.plotting import figure as Figure

ZERO_SHOT = "#8A94A0"
"""The model nobody edited: an open grey circle."""
FINE_TUNED = "#2F86D1"
"""Each task's own fine-tuned model, the ceiling: a blue square."""
EDITED = "#DC267F"
"""The model of the recipe on screen: a magenta diamond, and the sliders that make it."""
RIGHT = "#009E73"
"""A label that became right."""
WRONG = "#D55E00"
"""A label that became wrong."""

MARKS = {"zero_shot": "circle", "fine_tuned": "square", "edited": "diamond"}
COLOURS = {"zero_shot": ZERO_SHOT, "fine_tuned": FINE_TUNED, "edited": EDITED}

MATERIAL = {
    "light": {"palette": {"primary": {"main": "#1d3b5c"}}},
    "dark": {"palette": {"primary": {"main": "#6fa8dc", "contrastText": "#0b1622"}}},
}
"""Palette of the Material components, which have no meaning of their own to show."""
SLIM_BAR = {
    "& .MuiToolbar-root": {"minHeight": "46px !important"},
    "& .MuiAppBar-root": {"backgroundColor": "#1d3b5c !important", "color": "#fff !important"},
    "& .MuiAppBar-root .MuiIconButton-root": {"color": "#fff !important"},
    # A bar of progress that never moves here, and has no name for who cannot see it.
    "& .MuiLinearProgress-root": {"display": "none"},
}
"""A low title bar, the same in light and dark: the room belongs to the pictures."""

# Eight lines that stay apart: Okabe and Ito's palette without yellow, which vanishes on white.
LINES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8A94A0",
    "#7B4FB5",
)
DASHES = ("solid", "dashed")


def line_style(index: int) -> dict[str, str]:
    """Colour and dash of the index-th task's line, distinct for the first 16 tasks."""
    return {
        "line_color": LINES[index % len(LINES)],
        "line_dash": DASHES[(index // len(LINES)) % len(DASHES)],
    }


def plain(figure: Figure) -> Figure:
    """Quiet frame, readable sizes, no logo: the look all Bokeh figures of the app share."""
    figure.toolbar.logo = None
    figure.toolbar.autohide = True
    figure.outline_line_color = None
    figure.title.text_font_size = "15px"
    figure.title.text_font_style = "bold"
    for axis in (*figure.xaxis, *figure.yaxis):
        axis.axis_line_alpha = 0.35
        axis.major_tick_line_alpha = 0.35
        axis.minor_tick_line_color = None
        axis.major_label_text_font_size = "14px"
        axis.axis_label_text_font_size = "14px"
        axis.axis_label_text_font_style = "normal"
    for grid in (*figure.xgrid, *figure.ygrid):
        grid.grid_line_alpha = 0.25
    return figure


def names(base: str) -> dict[str, str]:
    """What the series are called, where the model nobody edited is called ``base``."""
    return {"zero_shot": base, "fine_tuned": "fine-tuned", "edited": "edited"}
