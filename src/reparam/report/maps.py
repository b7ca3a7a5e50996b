"""Values over a plane as colours, with a scale beside them and dots on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reparam.report.chart import HUES, INK, Chart
from reparam.report.plane import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Map", "Scale", "around", "rising"]

# Two hues that meet in nothing, so that the page shows through where there is nothing to show; readable on white and on black.
_LESS, _MORE = np.array([52.0, 110.0, 214.0]), np.array([221.0, 110.0, 30.0])
# From little to much: blue, violet, red, orange.
_SHADES = np.array([[40, 60, 140], [96, 84, 206], [163, 69, 172], [214, 78, 104], [244, 164, 80]], dtype=float)
_SIZE = 3.4, 2.9


class Scale(NamedTuple):
    """From values to colours: from low to high, and around a middle that has none where there is a `centre`."""

    low: float
    high: float
    centre: float | None = None

    def colours(self, values: np.ndarray) -> np.ndarray:
        """RGBA bytes."""
        span = (self.high - self.low) or 1.0
        share = np.clip((values - self.low) / span, 0, 1)
        if self.centre is None:
            place = share * (len(_SHADES) - 1)
            lower = np.minimum(place.astype(int), len(_SHADES) - 2)
            colour = _SHADES[lower] + (place - lower)[..., None] * (_SHADES[lower + 1] - _SHADES[lower])
            alpha = np.full(share.shape, 255.0)
        else:
            away = 2 * share - 1
            colour = np.where(away[..., None] < 0, _LESS, _MORE)
            alpha = 255 * np.abs(away) ** 0.7
        return np.concatenate([colour, alpha[..., None]], -1).round().astype(np.uint8)


def around(bound: float, *, centre: float = 0.0) -> Scale:
    """A scale with a middle: from -bound to bound around 0, or from 0 to 1 around a half."""
    return Scale(2 * centre - bound, bound, centre)


def rising(values: np.ndarray, *, low: float | None = None, high: float | None = None) -> Scale:
    """A scale from the least to the most of values, or between the ends that are given."""
    bottom, top = values.min() if low is None else low, values.max() if high is None else high
    return Scale(float(bottom), float(top if top > bottom else bottom + 1.0))


@dataclass(frozen=True)
class Map:
    """What pictures of one plane share.

    Attributes:
        axes: what its coordinates are called.
        frame: their range.
        points: dots that are shown on it, N x 2.
    """

    axes: tuple[str, str]
    frame: Window
    points: np.ndarray

    def draw(self, name: str, title: str, values: np.ndarray, scale: Scale) -> str:
        """Values on a square lattice, row by row from below, with their scale."""
        from matplotlib.colors import ListedColormap, Normalize

        described = f"{title} over {self.axes[0]} across and {self.axes[1]} up: from {values.min():.3g} to {values.max():.3g}"
        chart = Chart(name, described, width=_SIZE[0], height=_SIZE[1])
        with chart as axis:
            ladder = scale.colours(np.linspace(scale.low, scale.high, 64)) / 255.0
            image = axis.imshow(
                values,
                cmap=ListedColormap(ladder),
                norm=Normalize(scale.low, scale.high),
                extent=self.frame,
                origin="lower",
                interpolation="none",
                aspect="auto",
            )
            bar = axis.figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02, aspect=22)
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0)
            self._finish(axis, title)
        return chart.svg

    def kinds(self, name: str, title: str, places: np.ndarray, names: Sequence[str]) -> str:
        """Kinds on a square lattice, each in a hue, with its name in the largest patch of it."""
        shares = ", ".join(f"{kind} {np.mean(places == i):.0%}" for i, kind in enumerate(names))
        chart = Chart(name, f"{title} over {self.axes[0]} across and {self.axes[1]} up: {shares}", width=_SIZE[0], height=_SIZE[1])
        with chart as axis:
            hues = np.array([[int(hue[i : i + 2], 16) for i in (1, 3, 5)] for hue in HUES])
            axis.imshow(
                np.concatenate([hues[places % len(hues)], np.full((*places.shape, 1), 170)], -1).astype(np.uint8),
                extent=self.frame,
                origin="lower",
                interpolation="none",
                aspect="auto",
            )
            handles: list[Any] = []
            for i, kind in enumerate(names):
                if (places == i).any() and len(handles) < len(hues):
                    handles.append(axis.scatter([], [], marker="s", s=30, color=HUES[i % len(hues)], label=kind))
            axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2, fontsize=7, labelcolor=INK)
            self._finish(axis, title)
        return chart.svg

    def _finish(self, axis: Axes, title: str) -> None:
        if len(self.points):
            axis.scatter(self.points[:, 0], self.points[:, 1], s=1.6, color=INK, alpha=0.35, linewidths=0)
        axis.set_xlim(self.frame[0], self.frame[1])
        axis.set_ylim(self.frame[2], self.frame[3])
        axis.set_title(title, parse_math=False)
        axis.set_xlabel(self.axes[0], parse_math=False)
        axis.set_ylabel(self.axes[1], parse_math=False)
        axis.grid(visible=False)
