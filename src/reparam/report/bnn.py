"""What a report shows of a Bayesian network: its predictions, how sure it is of them, and which inputs they rest on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.report import charts, laws, plane
from reparam.report.chart import INK, MUTED, SERIES, Chart
from reparam.report.images import grid
from reparam.report.pieces import ACROSS, Figure, Section, Subject
from reparam.report.tables import crossed

__all__ = ["asked", "certainty", "inputs_that_matter", "predictions"]

# Test data that are looked at, and draws of the weights; fewer where the network is asked often.
_ROWS, _DRAWS, _FEWER = 500, 100, 20
# Responses with pictures of their own, columns that are shuffled, those that are shown, and points along a line.
_RESPONSES, _COLUMNS, _SHOWN, _STEPS, _SIDE = 3, 60, 12, 121, 45
# How far a line goes beyond the data, in their own width to each side.
_BEYOND = 1.0


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
            f"Left a test datum each, with the range that should hold nine tenths of what comes; it holds {inside:.0%}. The "
            f"predictions explain {told:.0%} of the variance of {name}. Right the errors, in units of the standard deviation that "
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
    counted = Figure(f"{int(right.sum())} of {len(y)} test data are predicted right.", [table])
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


def certainty(subject: Subject) -> Section | None:
    """How sure the network is by where it is asked: in the midst of the data and beyond."""
    model = subject.model
    x = subject.splits.train.x.float()
    dim = x[0].numel()
    lead = (
        "Aleatoric uncertainty is the noise of what is predicted, and stays; epistemic uncertainty is that of the weights, which "
        "more data would tell. It should grow where there are no data."
    )
    figures = [_plane(subject, x)] if dim == 2 and model.classes else []
    for title, label, direction in _directions(subject, x)[: 1 if figures else 2]:
        figures.append(_along(subject, x, title, label, direction))
    return Section("How sure it is", lead, figures) if figures else None


def _directions(subject: Subject, x: Tensor) -> list[tuple[str, str, Tensor]]:
    """Ways through the mean of the data: their first principal direction, and the column that predictions rest on most."""
    flat = x.flatten(1).double()
    centred, scale = flat - flat.mean(0), flat.std(0, correction=0)
    moving = scale > 0
    if not bool(moving.any()):
        return []
    names = charts.short(subject.splits.train.columns, flat.shape[1])
    if flat.shape[1] == 1:
        return [("along", names[0], torch.ones(1, dtype=torch.float64))]
    # Columns to one scale, as the network has them; of pictures their own.
    unit = torch.where(moving, scale, 1.0) if subject.kind == "vector" else torch.ones_like(scale)
    _, _, main = torch.linalg.svd((centred / unit)[:2000], full_matrices=False)
    ways = [("pca", "standard deviations along the direction in which the data vary most", main[0] * unit)]
    if subject.kind == "vector" and flat.shape[1] <= _COLUMNS and len(best := _importance(subject)):
        place = int(np.argmax(best))
        ways.insert(0, ("column", names[place], torch.eye(flat.shape[1], dtype=torch.float64)[place]))
    return ways


def _along(subject: Subject, x: Tensor, name: str, label: str, direction: Tensor) -> Figure:
    """The prediction and its uncertainties on a line through the mean of the data."""
    model = subject.model
    flat = x.flatten(1).double()
    mean = flat.mean(0)
    place = (flat - mean) @ direction / direction.square().sum()
    offset, unit = (float(mean[direction != 0][0]), 1.0) if name != "pca" else (0.0, float(place.std()) or 1.0)
    low, high = place.min(), place.max()
    steps = torch.linspace(0, 1, _STEPS, dtype=torch.float64) * (1 + 2 * _BEYOND) - _BEYOND
    at = low + steps * (high - low)
    line = (mean + at[:, None] * direction).to(x.dtype).reshape(-1, *x.shape[1:])
    found = asked(subject, line, _DRAWS)
    shown, rug = (offset + at.numpy() / unit, offset + place.numpy()[:200] / unit)
    if model.classes:
        curves = {"epistemic": found.epistemic.numpy(), "aleatoric": found.aleatoric.numpy()}
        picture = laws.stacked(f"sure-{name}", "uncertainty, nats", shown, curves, label, rug=rug)
        return Figure(f"{_where(name)} The marks are training data.", [picture], tuple(curves))
    middle, epistemic, total = (part[:, 0].double().numpy() for part in (found.mean, found.epistemic, found.total))
    ranges = [(middle - 1.645 * total, middle + 1.645 * total), (middle - 1.645 * epistemic, middle + 1.645 * epistemic)]
    points = None
    if flat.shape[1] == 1:
        points = (flat[:500, 0].numpy(), subject.splits.train.response[:500, 0].double().numpy())  # type: ignore[index]
    picture = laws.bands(f"sure-{name}", model.responses[0], shown, middle, ranges, label, rug=rug, points=points)
    growth = _growth(shown, epistemic, rug)
    caption = f"{_where(name)} Blue what is not known of the weights, orange the noise besides; nine tenths each. {growth}"
    return Figure(caption, [picture])


def _where(name: str) -> str:
    return {"along": "", "pca": "Through the mean of the data.", "column": "Other columns are at their mean."}[name]


def _growth(at: np.ndarray, epistemic: np.ndarray, rug: np.ndarray) -> str:
    inside = epistemic[(at >= np.quantile(rug, 0.1)) & (at <= np.quantile(rug, 0.9))].mean()
    ratio = (epistemic[0] + epistemic[-1]) / (2 * inside) if inside > 0 else 1.0
    return f"At the ends the epistemic standard deviation is {charts.rounded(ratio, 2)} times that in the midst of the data."


def _plane(subject: Subject, x: Tensor) -> Figure:
    """Classes of the plane: what is predicted, and how sure."""
    model, points = subject.model, x.flatten(1)[:400].double().numpy()
    frame = plane.window(points)
    wide = [(frame[2 * i + 1] - frame[2 * i]) * 0.5 for i in range(2)]
    frame = (frame[0] - wide[0], frame[1] + wide[0], frame[2] - wide[1], frame[3] + wide[1])
    at = torch.from_numpy(plane.lattice(frame, _SIDE)).float().reshape(-1, *x.shape[1:])
    found = asked(subject, at, _DRAWS)
    kinds = np.array(model.classes)[subject.splits.train.places[:400].numpy()]
    blocks = [plane.scatter("sure-data", "training data", "Training data by class", points, frame, labels=kinds)]
    for name, values in (("aleatoric", found.aleatoric), ("epistemic", found.epistemic)):
        heat = values.reshape(_SIDE, _SIDE).double().numpy()
        blocks.append(
            plane.heat(
                f"sure-{name}", f"{name}, to {heat.max():.2g} nats", f"Heat map of {name} uncertainty", heat, frame, points[:150]
            )
        )
    return Figure("From blue to orange: more, each to its own greatest value.", blocks, wide=True)


def inputs_that_matter(subject: Subject) -> Section | None:
    """How much worse test data are predicted when a column is shuffled."""
    worse = _importance(subject)
    if len(worse) < 2:
        return None
    names = charts.short(subject.splits.train.columns, len(worse))
    order = np.argsort(-worse)[:_SHOWN]
    rows = {names[i]: float(worse[i]) for i in order}
    picture = laws.levels("inputs", "log-likelihood lost when shuffled, nats per datum", rows)
    shown = f" The first {len(order)} of {len(worse)} are drawn." if len(order) < len(worse) else ""
    lead = (
        "Each column of the test data is shuffled in turn, which cuts what it says of the rest: the more the log-likelihood falls, "
        f"the more predictions rest on it. Columns that say the same share what is lost.{shown}"
    )
    return Section("Which inputs matter", lead, [Figure("Below zero is chance.", [picture])])


def _importance(subject: Subject) -> np.ndarray:
    """By column, the log-likelihood of test data that is lost when it is shuffled, in nats; empty for pictures and the like."""
    model = subject.model
    x, y = (part[:_ROWS] for part in model.inputs(subject.splits.test))
    if x.dim() != 2 or not 2 <= x.shape[1] <= _COLUMNS or len(x) < 10:
        return np.zeros(0)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    every = [x]
    for i in range(x.shape[1]):
        shuffled = x.clone()
        shuffled[:, i] = x[order, i]
        every.append(shuffled)
    # All with the same networks, so that their differences are not chance.
    found = asked(subject, torch.cat(every), _FEWER)
    score = found.log_prob(y.repeat(len(every), *(1 for _ in y.shape[1:]))).double().reshape(len(every), -1).mean(1)
    lost: np.ndarray = (score[0] - score[1:]).numpy()
    return lost
