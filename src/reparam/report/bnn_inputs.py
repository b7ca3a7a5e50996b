"""How sure a Bayesian network is by where it is asked, and which inputs its predictions rest on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reparam.report import charts, laws, plane
from reparam.report.bnn import asked
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["certainty", "inputs_that_matter"]

# Test data that are looked at, and draws of the weights; fewer where the network is asked often.
_ROWS, _DRAWS, _FEWER = 500, 100, 20
# Columns that are shuffled, those that are shown, points along a line, and cells along a side.
_COLUMNS, _SHOWN, _STEPS, _SIDE = 60, 12, 121, 45
# How far a line goes beyond the data, in their own width to each side.
_BEYOND = 1.0


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
