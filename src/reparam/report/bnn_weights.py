"""What a Bayesian network knows of its weights, and how noisy its gradient is by the way that they are drawn."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor

from reparam.diagnostics import gradient_moments
from reparam.nn.bayesian import bayesianize
from reparam.report import charts
from reparam.report.chart import MUTED, SERIES, Chart
from reparam.report.charts import rounded
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["draws_of_weights", "known_weights"]

_ROWS = 500
_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
# Batches by which the variance of the gradient is shown, and estimates of which it is taken; fewer of large networks.
_BATCHES, _DRAWS, _FEWER, _LARGE = (1, 8, 64), 50, 15, 20_000
_METHODS = {"local": "local reparameterization", "flipout": "flipout", "weights": "one draw of the weights"}


def known_weights(subject: Subject) -> Section:
    """The signal to noise of the weights, and what is lost when those that are known least are left out."""
    model = subject.model
    with torch.no_grad():
        found = {name: (q.mean.abs() / q.stddev).flatten() for name, q in model.net.posterior().items()}
    every = torch.cat(list(found.values()))
    below = float((every < 1).double().mean())
    shown = np.log10(every.double().clamp(min=1e-4).numpy())
    chart = Chart("signal", f"Signal to noise of {len(every):,} weights, {below:.0%} below one", width=4.2, height=2.8)
    with chart as axis:
        axis.hist(shown, bins=50, color=SERIES[0], alpha=0.7)
        axis.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        ticks = list(range(math.floor(shown.min()), math.ceil(shown.max()) + 1))
        axis.set_xticks(ticks, [f"{10.0**k:g}" for k in ticks])
        axis.set_title("weights by |mean| / standard deviation")
    figures = [
        Figure(
            "Left of the dotted line a weight's mean is less than its own standard deviation: it may as well be zero.", [chart.svg]
        )
    ]
    errors, words = _without(subject, found, every)
    at = [100 * share for share in _SHARES]
    figures.append(
        Figure(
            "The error on test data of the network at the means, when the weights of least signal to noise are set to zero.",
            [charts.lines("pruned", words, at, {words: errors}, "% of the weights left out")],
        )
    )
    lead = f"The posterior of each weight is a normal law. Of {len(every):,} weights, {below:.0%} have a mean below their sd."
    return Section("What is known of the weights", lead, figures)


@torch.no_grad()
def _without(subject: Subject, found: dict[str, Tensor], every: Tensor) -> tuple[list[float], str]:
    """The error when a share of the weights is left out, for each share, and what it is."""
    model = subject.model
    x, y = (part[:_ROWS] for part in model.inputs(subject.splits.test))
    z = model.units.standardise(x)
    means = dict(model.net.module.named_parameters())
    order = every.sort().values
    errors = []
    for share in _SHARES:
        least = order[int(share * len(order))]
        kept = {name: torch.where(ratio >= least, means[name].flatten(), 0.0).view_as(means[name]) for name, ratio in found.items()}
        law = model.response(model.net.at(kept, z))
        if model.classes:
            errors.append(float((law.probs.argmax(-1) != y).double().mean()))
        else:
            errors.append(float((law.mean - y)[:, 0].double().square().mean().sqrt()))
    return errors, "share of wrong answers" if model.classes else f"root mean squared error of {model.responses[0]}"


def draws_of_weights(subject: Subject) -> Section | None:
    """The variance of the gradient by the way that weights are drawn, and by the size of the batch."""
    model = subject.model
    x, y = model.inputs(subject.splits.train)
    size = sum(p.numel() for p in model.net.parameters())
    draws = _DRAWS if size < _LARGE else _FEWER
    batches = [n for n in _BATCHES if n <= len(x)]
    found: dict[str, list[float]] = {}
    for method, words in _METHODS.items():
        net = bayesianize(model.net.module, num_data=model.net.num_data, method=method, prior=model.net.prior)  # type: ignore[arg-type]
        net.load_state_dict(copy.deepcopy(model.net.state_dict()))
        parameters = [p for p in net.parameters() if p.requires_grad]
        key = words + (" (this run)" if method == model.config.method else "")
        found[key] = []
        for n in batches:
            z, labels = model.units.standardise(x[:n]), y[:n]

            def loss(net: torch.nn.Module = net, z: Tensor = z, labels: Tensor = labels) -> Tensor:
                log_p: Tensor = model.response.log_prob(net(z, source=subject.source), labels)
                return -log_p.mean()

            found[key].append(gradient_moments(loss, parameters, draws).total_variance)
    if min(min(row) for row in found.values()) <= 0 or not all(math.isfinite(v) for row in found.values() for v in row):
        return None
    last = {name: row[-1] for name, row in found.items()}
    local, flipout, weights = last.values()
    lead = (
        "Each way of drawing gives the same law of the output for one datum, and a gradient with the same mean. Noise that each "
        "datum has for itself averages out over a batch; that of one draw of the weights, which all of them share, does so only as "
        f"far as they respond to it differently. At {batches[-1]} data the variance of shared weights is "
        f"{rounded(weights / local, 2)} times that of local reparameterization, that of flipout {rounded(flipout / local, 2)}."
    )
    label = "total variance of the gradient of the likelihood"
    own = next((name for name in last if name.endswith("(this run)")), None)
    figures = [
        Figure(
            f"With {batches[-1]} data a batch; shorter is better, and the scale is logarithmic. {draws} draws.",
            [charts.bars(last, label, mark=own)],
        )
    ]
    if len(batches) > 1:
        curve = charts.lines("by-batch", "variance", batches, found, "data in a batch", log="xy")
        figures.append(Figure("The same by the size of the batch, on logarithmic scales.", [curve], tuple(found)))
    return Section("What the trick buys", lead, figures)
