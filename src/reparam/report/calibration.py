"""Whether a network's predictions happen as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from reparam.report.bnn import asked
from reparam.report.chart import MUTED, SERIES, Chart
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["calibrated"]

_ROWS, _DRAWS, _RESPONSES = 2000, 100, 2
_BINS = 10


def calibrated(subject: Subject) -> Section:
    """The coverage of central intervals, or the share of right answers, by the probability that was given."""
    model = subject.model
    x, y = (part[:_ROWS] for part in model.inputs(subject.splits.test))
    found = asked(subject, x, _DRAWS)
    if model.classes:
        return _of_classes(found.mean, y)
    u = found.cdf(y).double().numpy()
    figures = []
    for i, name in enumerate(model.responses[:_RESPONSES]):
        parts = [_coverage(f"coverage-{i}", u[:, i]), _ranks(f"ranks-{i}", u[:, i])]
        of = f" Of {name}." if len(model.responses) > 1 else ""
        caption = (
            "First the share of test data in the central interval of each probability: on the diagonal the intervals are right, "
            f"below it they are too narrow. Then where in its predicted law each lies: all places should be as frequent.{of}"
        )
        figures.append(Figure(caption, parts, wide=True))
    lead = (
        f"Of {len(y)} test data. In grey where 19 of 20 test sets of this size would come out if the predictions were perfect, at "
        "each place by itself."
    )
    return Section("Is it right?", lead, figures)


def _coverage(name: str, u: np.ndarray) -> str:
    levels = np.linspace(0, 1, 101)
    inside = (2 * np.abs(u - 0.5))[:, None] <= levels
    share = inside.mean(0)
    sd = np.sqrt(levels * (1 - levels) / len(u))
    told = ", ".join(f"{level:.0%} intervals hold {share[round(100 * level)]:.0%}" for level in (0.5, 0.9))
    chart = Chart(name, f"Coverage: {told}", width=3.6, height=3.3)
    with chart as axis:
        axis.fill_between(
            levels, (levels - 1.96 * sd).clip(0), (levels + 1.96 * sd).clip(max=1), color=MUTED, alpha=0.25, linewidth=0
        )
        axis.plot(levels, levels, color=MUTED, linewidth=0.8)
        axis.plot(levels, share, color=SERIES[0])
        axis.set_title("coverage", parse_math=False)
        axis.set_xlabel("probability of the central interval")
        axis.set_ylabel("share of test data inside")
    return chart.svg


def _ranks(name: str, u: np.ndarray) -> str:
    heights, edges = np.histogram(u, bins=_BINS, range=(0, 1))
    share, sd = heights / len(u), np.sqrt(0.1 * 0.9 / len(u))
    chart = Chart(
        name, "Where test data lie in their predicted law: " + ", ".join(f"{s:.2f}" for s in share), width=3.6, height=3.3
    )
    with chart as axis:
        axis.axhspan(max(0, 0.1 - 1.96 * sd), 0.1 + 1.96 * sd, color=MUTED, alpha=0.25, linewidth=0)
        axis.axhline(0.1, color=MUTED, linewidth=0.8)
        axis.stairs(share, edges, fill=True, color=SERIES[0], alpha=0.35)
        axis.stairs(share, edges, color=SERIES[0], linewidth=1.4)
        axis.set_ylim(0, None)
        axis.set_title("place in the predicted law")
        axis.set_xlabel("predicted probability of less")
        axis.set_ylabel("share of test data")
    return chart.svg


def _of_classes(p: Tensor, y: Tensor) -> Section:
    best = p.max(-1)
    sure, right = best.values.double().numpy(), (best.indices == y).numpy()
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    filled = np.flatnonzero(counts)
    said, came = (np.array([part[place == k].mean() for k in filled]) for part in (sure, right))
    error = float((counts[filled] * np.abs(said - came)).sum() / len(y))
    parts = [_reliability(said, came, counts[filled]), _sureness(sure, right, 1 / p.shape[1])]
    caption = (
        f"First, by tenths of the probability that the answer got, the share that was right, with twice its standard error: on the "
        f"diagonal the two agree. Then how many answers got which probability; in orange those that were wrong. On average over "
        f"the test data the two differ by {error:.1%}, the expected calibration error."
    )
    return Section("Is it right?", f"Of {len(y)} test data, the most probable class of each.", [Figure(caption, parts, wide=True)])


def _reliability(said: np.ndarray, came: np.ndarray, counts: np.ndarray) -> str:
    # As if there were one more of each: a bin whose answers were all right is not beyond doubt.
    smooth = (came * counts + 1) / (counts + 2)
    spread = 2 * np.sqrt(smooth * (1 - smooth) / counts)
    told = ", ".join(f"said {a:.2f}, right {b:.2f}" for a, b in zip(said, came, strict=True))
    chart = Chart("reliability", f"Reliability: {told}", width=3.6, height=3.3)
    with chart as axis:
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        axis.vlines(said, (came - spread).clip(0), (came + spread).clip(max=1), color=SERIES[0], linewidth=1.4, alpha=0.6)
        axis.plot(said, came, color=SERIES[0], marker="o", markersize=4, linewidth=1.2)
        axis.set_xlim(max(0.0, float(said.min()) - 0.1), 1.02)
        axis.set_ylim(max(0.0, float(min((came - spread).min(), said.min())) - 0.05), 1.03)
        axis.set_title("reliability")
        axis.set_xlabel("probability that was given")
        axis.set_ylabel("share that was right")
    return chart.svg


def _sureness(sure: np.ndarray, right: np.ndarray, least: float) -> str:
    wrong = int((~right).sum())
    chart = Chart("sureness", f"Answers by their probability, {wrong} of {len(sure)} wrong", width=3.6, height=3.3)
    with chart as axis:
        values: list[Any] = [sure[~right], sure[right]]
        axis.hist(values, bins=20, range=(least, 1), stacked=True, color=[SERIES[1], SERIES[0]], alpha=0.75)
        axis.set_yscale("symlog", linthresh=2)
        axis.set_yticks([0, 1, *(10**k for k in range(1, 5) if 10**k <= len(sure))])
        axis.minorticks_off()
        axis.set_title("answers by their probability")
        axis.set_xlabel("probability that was given")
    return chart.svg
