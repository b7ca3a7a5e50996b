"""What a report shows of a flow that was fitted to a density: the two side by side, the weights, and what the trick buys."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reparam.diagnostics import gradient_moments
from reparam.estimators import Estimator, LeaveOneOut, Pathwise, Score
from reparam.objectives import elbo, sampled, sticking
from reparam.paths import sample_and_log_prob
from reparam.report import charts, plane
from reparam.report.charts import rounded
from reparam.report.pieces import Figure, Section, Subject
from reparam.report.samples import beside

__all__ = ["fit_to_target", "target_gradients"]

_SIDE, _SAMPLES = 110, 4000
# Samples of an estimate of the gradient, and estimates of which the variance is taken.
_N, _DRAWS = 32, 40
# A flow takes a pass for each column: of more columns than these fewer estimates are made.
_FEW, _FEWER_DRAWS = 4, 16


def fit_to_target(subject: Subject) -> Section | None:
    """The flow beside the density that it was fitted to, and how evenly its samples weigh."""
    model = subject.model
    if model.config.target is None:
        return None
    target = model.target
    with torch.no_grad():
        x, log_q = sample_and_log_prob(model.law(), (_SAMPLES,), source=subject.source)
    points = x.double().numpy()
    lead = "No data were given: the flow learned from the density alone, known up to a factor."
    if target is None:
        lead += " This density is a function of your own, and files import nothing: only the samples of the flow are shown."
        return Section("Fit", lead, beside(points[::2], points[1::2], names=("samples", "other samples")))
    if target.text:
        lead += f" It is {target.text}."
    with torch.no_grad():
        log_p = target.log_density(x)
    weight = (log_p - log_q).double()
    weights = _weights(weight.numpy())
    one = (
        "a perfect fit has one value"
        if target.log_normaliser is None
        else f"a perfect fit has one value, {target.log_normaliser:.3f}"
    )
    caption = f"Last the cost of each sample, log f(x) − log p(x): {one}, the log-normaliser."
    if target.dim != 2:
        found = beside(_resampled(points, weight.numpy()), points, names=("weighted samples", "samples"))
        caption = f"Samples, and the same drawn again by their weights, f(x) / p(x): alike where the fit is good. {caption}"
        blocks, key = [block for figure in found for block in figure.pictures], ("weighted samples", "samples")
        return Section("Fit", lead, [Figure(caption, [*blocks, weights], key, wide=True)])
    frame = plane.window(points)
    at = torch.from_numpy(plane.lattice(frame, _SIDE)).float()
    with torch.no_grad():
        shown = {"the target": target.log_density(at), "the flow": model.law().log_prob(at)}
    blocks = [
        plane.heat(f"target-{i}", title, f"Heat map of {title}", _relative(values), frame)
        for i, (title, values) in enumerate(shown.items())
    ]
    blocks.append(plane.scatter("target-2", "samples of the flow", "Samples of the flow", points[:800], frame))
    caption = f"First what was asked for, then what was learned: the flow is normalised, the target need not be. {caption}"
    return Section("Fit", lead, [Figure(caption, [*blocks, weights], wide=True)])


def _relative(log_density: Tensor) -> np.ndarray:
    shown: np.ndarray = (log_density - log_density.max()).exp().reshape(_SIDE, _SIDE).numpy()
    return shown


def _resampled(points: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Points drawn by their weights, evenly spaced along the sum of weights."""
    share = np.exp(log_weight - log_weight.max())
    ends = np.cumsum(share) / share.sum()
    places = np.searchsorted(ends, (np.arange(len(points)) + 0.5) / len(points)).clip(max=len(points) - 1)
    # In the order of the draws they would come in runs of the same.
    drawn: np.ndarray = points[np.random.default_rng(0).permutation(places)]
    return drawn


def _weights(log_weight: np.ndarray) -> str:
    finite = log_weight[np.isfinite(log_weight)]
    low, high = np.quantile(finite, [0.005, 0.995]) if len(finite) else (0.0, 1.0)
    room = 0.1 * max(high - low, 0.05)
    heights, edges = np.histogram(finite, bins=60, range=(low - room, high + room))
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    return charts.lines("weights", "samples by cost", middles, {"samples": heights.tolist()}, "nats")


def target_gradients(subject: Subject) -> Section | None:
    """The variance of the gradient of the evidence lower bound, by several estimators."""
    model = subject.model
    target = model.target if model.config.target is not None else None
    if target is None:
        return None
    ways: dict[str, tuple[Estimator, bool]] = {
        "pathwise, log p held (the trick)": (Pathwise(), True),
        "pathwise": (Pathwise(), False),
        "score function, leave-one-out": (LeaveOneOut(), False),
        "score function": (Score(), False),
    }
    own = {"pathwise": 0, "leave_one_out": 2, "score": 3}[model.config.estimator]
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = {}
    draws = _DRAWS if target.dim <= _FEW else _FEWER_DRAWS
    for i, (name, (estimator, held)) in enumerate(ways.items()):

        def loss(estimator: Estimator = estimator, held: bool = held) -> Tensor:
            kl = sticking if held else sampled
            bound: Tensor = elbo(target.log_density, model.law(), kl=kl, estimator=estimator, n=_N, source=subject.source)
            return -bound

        moments = gradient_moments(loss, parameters, draws)
        found[name + (" · this run" if i == own else "")] = moments.total_variance
    if min(found.values()) <= 0 or not all(map(math.isfinite, found.values())):
        return None
    trick, _, best, plain = found.values()
    lead = (
        "The gradient of the ELBO in the weights of the flow, estimated four ways from equally many samples. The variance of the "
        f"score function is {rounded(plain / trick, 2)} times that of the reparameterised sample, with leave-one-out baselines "
        f"{rounded(best / trick, 2)} times. With log p held, its own slope left out, the noise vanishes as the fit becomes perfect."
    )
    chart = charts.bars(found, "total variance of the gradient")
    return Section(
        "What the trick buys",
        lead,
        [Figure(f"Shorter is better; the scale is logarithmic. {_N} samples an estimate, {draws} estimates.", [chart])],
    )
