"""Gradient estimators side by side, as one self-contained page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reparam.diagnostics import Diagnosis, picture
from reparam.diagnostics.words import cells
from reparam.report.chart import SERIES, Chart
from reparam.report.page import render

__all__ = ["page"]

# As wide as the page: its 940 pixels make 13 of a letter of 7 points, the size of the tables.
_INCHES = 7.2
_PANELS = {
    "efficiency": (
        picture.efficiencies,
        "Longer is better; the scale is logarithmic. Exact ones have no bar.",
    ),
    "bias": (
        picture.biases,
        "An interval that is clear of zero is a bias, or chance in one case of twenty; red ones are no chance.",
    ),
    "variance": (picture.variances, "Shorter is better; the scale is logarithmic."),
    "draws": (picture.distributions, "A histogram each; the dotted line is the true gradient. Wide ones leave the frame."),
}


@dataclass(frozen=True)
class _Part:
    """One problem on the page."""

    title: str
    text: str
    found: Diagnosis
    heading: tuple[str, ...]
    rows: list[tuple[str, ...]]
    figures: list[tuple[str, str]]


def page(results: Sequence[tuple[str, str, Diagnosis]], seed: int) -> str:
    """The page of results, each with the title and the text of its problem. It needs nothing beside itself.

    Args:
        results: title, text and diagnosis of each problem.
        seed: of the noise, for the page to name.
    """
    parts = []
    for number, (title, text, found) in enumerate(results):
        heading, *rows = cells(found)
        figures = [(_figure(f"p{number}-{name}", title, name, found), caption) for name, (_, caption) in _PANELS.items()]
        parts.append(_Part(title, text, found, heading, rows, figures))
    versions = f"Python {'.'.join(map(str, sys.version_info[:3]))}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    return render("comparison.html.j2", parts=parts, seed=seed, versions=versions)


def _figure(identity: str, title: str, name: str, found: Diagnosis) -> str:
    draw, _ = _PANELS[name]
    described = {
        "efficiency": [f"{row.name} {row.relative:.2g}" for row in found],
        "bias": [f"{row.name} {row.bias:.2g} ± {row.bias_error:.2g}" for row in found],
        "variance": [f"{row.name} {row.variance:.2g}" for row in found],
        "draws": [row.name for row in found],
    }[name]
    chart = Chart(identity, f"{title}, {name}: {', '.join(described)}", width=_INCHES, height=0.7 + 0.18 * len(found.rows))
    with chart as axis:
        draw(axis, found, SERIES[0], SERIES[2])
    return chart.svg
