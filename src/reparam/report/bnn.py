"""What a Bayesian network predicts, beside what came."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.report import plane
from reparam.report.chart import INK, MUTED, SERIES, Chart
from reparam.report.images import grid
from reparam.report.pieces import ACROSS, Figure, Section, Subject
from reparam.report.tables import crossed

__all__ = ["asked", "predictions"]

# Test data that are looked at, draws of the weights, and responses with pictures of their own.
_ROWS, _DRAWS, _RESPONSES = 500, 100, 3
# Classes whose table has room in half the width of the page.
_HALF = 7


def asked(subject: Subject, x: Tensor, k: int) -> Any:
    """What the network predicts of data, from k draws of the weights; that it is too sure is said once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return subject.model.predict(x, k, subject.source)


def predictions(subject: Subject) -> Section:
    """Predictions beside what came."""
    model = subject.model
    x, y = (part[:_ROWS] for part in model.inputs(subject.splits.test))
    found = asked(subject, x, _DRAWS)
    if model.classes:
        return _of_classes(subject, x, y, found)
    low, high = (end.double().numpy() for end in found.interval(0.9))
    mean, total, truth = (part.double().numpy() for part in (found.mean, found.total, y))
    figures = []
    for i, name in enumerate(model.responses[:_RESPONSES]):
        told = _explained(truth[:, i], mean[:, i])
        parts = [_against(f"predicted-{i}", name, truth[:, i], mean[:, i], low[:, i], high[:, i])]
        parts.append(_residuals(f"residuals-{i}", mean[:, i], (truth[:, i] - mean[:, i]) / total[:, i]))
        inside = float(((low[:, i] <= truth[:, i]) & (truth[:, i] <= high[:, i])).mean())
        caption = (
            f"First a test datum each, with the range that should hold nine tenths of what comes; it holds {inside:.0%}. The "
            f"predictions explain {told:.0%} of the variance of {name}. Then the errors, in units of the standard deviation that "
            "was predicted: there should be no pattern, and nine tenths should lie between the dotted lines."
        )
        figures.append(Figure(caption, parts, wide=True))
    lead = (
        f"Test data, unseen in training, predicted by the average over {_DRAWS} networks, drawn from the posterior of the weights."
    )
    return Section("Predictions", lead + _too_sure(model), figures)


def _too_sure(model: Any) -> str:
    if not 0 < int(model.step) < model.config.annealing:
        return ""
    return " They are of a step at which the divergence had not its whole weight yet, and are surer than they may be."


def _explained(truth: np.ndarray, mean: np.ndarray) -> float:
    spread = float(((truth - truth.mean()) ** 2).mean())
    return 1 - float(((truth - mean) ** 2).mean()) / spread if spread > 0 else 0.0


def _against(name: str, title: str, truth: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    chart = Chart(name, f"{title}: what came across, what was predicted up, {len(truth)} test data", width=4.2, height=3.6)
    with chart as axis:
        axis.vlines(truth, low, high, color=SERIES[0], linewidth=0.8, alpha=0.35)
        axis.scatter(truth, mean, s=8, color=SERIES[0], linewidths=0, zorder=3)
        ends = [min(truth.min(), mean.min()), max(truth.max(), mean.max())]
        axis.plot(ends, ends, color=INK, linewidth=0.8)
        axis.set_xlabel(f"{title}, what came", parse_math=False)
        axis.set_ylabel("predicted")
    return chart.svg


def _residuals(name: str, mean: np.ndarray, error: np.ndarray) -> str:
    outside = float((np.abs(error) > 1.645).mean())
    chart = Chart(name, f"Standardised errors by prediction, {outside:.0%} beyond 1.645", width=4.2, height=3.6)
    with chart as axis:
        for level in (-1.645, 1.645):
            axis.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        axis.axhline(0, color=MUTED, linewidth=0.8)
        axis.scatter(mean, error, s=8, color=SERIES[0], alpha=0.7, linewidths=0)
        axis.set_xlabel("predicted")
        axis.set_ylabel("error in standard deviations")
    return chart.svg


def _of_classes(subject: Subject, x: Tensor, y: Tensor, found: Any) -> Section:
    model, guess = subject.model, found.mean.argmax(-1)
    right = guess == y
    table = crossed(y, guess, model.classes, model.classes, "test data", "predicted")
    counted = Figure(f"{int(right.sum())} of {len(y)} test data are predicted right.", [table], wide=len(model.classes) > _HALF)
    figures = []
    if subject.kind == "image":
        for title, order in (("surest", found.total.argsort()), ("least sure", found.total.argsort(descending=True))):
            chosen = order[: 2 * ACROSS]
            names = ", ".join(
                model.classes[int(k)] + ("" if right[i] else " ✗") for i, k in zip(chosen, guess[chosen], strict=True)
            )
            picture = grid(subject.pictures(x[chosen].float()), ACROSS, f"Test data of which the network is {title}")
            figures.append(Figure(f"Where it is {title}; it says {names}.", [picture]))
        figures.append(counted)
    else:
        figures += [counted, _entropies(found, right)]
    lead = f"Test data, unseen in training, by the average over {_DRAWS} networks, drawn from the posterior of the weights."
    return Section("Predictions", lead + _too_sure(model), figures)


def _entropies(found: Any, right: Tensor) -> Figure:
    """The two kinds of uncertainty of each datum, with mistakes marked."""
    points = torch.stack([found.aleatoric, found.epistemic], -1).double().numpy()
    wrong = points[~right.numpy()]
    axes = ("of the data, nats", "of the weights, nats")
    frame = (
        -0.02,
        float(points[:, 0].max()) * 1.06 + 0.02,
        -0.02 * float(points[:, 1].max()) - 1e-3,
        float(points[:, 1].max()) * 1.08 + 1e-3,
    )
    what = "Uncertainty of test data, of the data across and of the weights up"
    chart = plane.scatter("entropies", "", what, points, frame, ringed=wrong if len(wrong) else None, axes=axes)
    caption = "How unsure it is of each test datum: across what stays when the weights are known, up what more data would tell."
    return Figure(caption + (" Rings are mistakes." if len(wrong) else ""), [chart])
