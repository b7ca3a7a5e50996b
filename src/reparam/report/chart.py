"""A chart as inline SVG whose colours are the page's, so that it follows its light and dark themes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib
from cycler import cycler

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CARD", "HUES", "INK", "LINE", "MUTED", "SERIES", "Chart", "quoted"]

# Stand-ins that matplotlib can draw with, and the style sheet's names that replace them in the SVG.
INK, MUTED, LINE, CARD = "#010203", "#010204", "#010205", "#010206"
SERIES = ("#0102a1", "#0102a2", "#0102a3", "#0102a4")
_NAMES = {INK: "ink", MUTED: "muted", LINE: "line", CARD: "card", **{colour: f"series-{i}" for i, colour in enumerate(SERIES)}}
# Ten hues that can be told apart on white and on black (Paul Tol's "muted" and "bright" schemes).
HUES = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999", "#ee8866", "#44aa99", "#bb88dd")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reparam",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.prop_cycle": cycler(color=SERIES),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


class Chart:
    """A figure in the page's style; `svg` is the markup when the block ends."""

    def __init__(self, name: str, description: str, *, width: float = 4.4, height: float = 2.6) -> None:
        self._name, self._description = name, description
        self._size = width, height
        self.svg = ""

    def __enter__(self) -> Axes:
        from matplotlib.figure import Figure

        self._style = matplotlib.rc_context(_STYLE)
        self._style.__enter__()
        self._figure: Figure = Figure(figsize=self._size)
        return self._figure.subplots()

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.svg = self._markup()
        self._style.__exit__(*error)

    def _markup(self) -> str:
        text = io.StringIO()
        self._figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        for colour, name in _NAMES.items():
            svg = svg.replace(colour, f"var(--{name})")
        # Several figures share a page: their ids are kept apart.
        svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{self._name}-", svg)
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
        label = f'role="img" aria-label="{quoted(self._description)}"'
        return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg class="chart" {label} \1>', svg, count=1)


def quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
