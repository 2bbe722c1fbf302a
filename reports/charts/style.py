"""How every chart looks: sizes in px, colours as CSS variables of the page, shapes and dashes that carry whatever a colour does."""

from typing import Any

WIDTH = 650  # the plot of a chart alone; the names of cells and the column of figures come beside it
PANEL = 285  # each of two plots side by side
STEP = 24  # a cell
LOG_FROM = 8  # largest over smallest value from which an axis is logarithmic
SERIES = ["var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)"]
SHAPES = ["circle", "diamond", "triangle-up", "square"]
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"  # alike in width, so that what is drawn here fits there


def style() -> dict[str, Any]:
    """The `config` of every specification."""
    ink, muted, line = "var(--ink)", "var(--muted)", "var(--line)"
    text = {"labelColor": ink, "titleColor": muted, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "aria": False,  # the page names each chart and has a table of its numbers beside it
        "background": "transparent",
        "font": FONT,
        "padding": {"left": 5, "right": 20, "top": 5, "bottom": 5},
        "axis": {**text, "gridColor": line, "domainColor": line, "tickColor": line, "labelLimit": 0},
        "axisY": {"domain": False, "ticks": False, "grid": False, "labelPadding": 8},
        "legend": {**text, "orient": "top", "symbolSize": 90, "symbolStrokeWidth": 2, "symbolOpacity": 1, "columnPadding": 18},
        "text": {"color": ink, "fontSize": 12},
        "view": {"stroke": None},
    }
