"""How noisy the gradient of a model is, by estimator."""

from __future__ import annotations

import math

from torch import Tensor

from reparam.diagnostics import Moments, gradient_moments
from reparam.estimators import Estimator, LeaveOneOut, Pathwise, Score
from reparam.models.gradient import ESTIMATORS
from reparam.report import charts
from reparam.report.charts import rounded
from reparam.report.pieces import Figure, Section, Subject
from reparam.report.tables import table as table_of

__all__ = ["gradients"]

# Rows and draws of the gradient's variance: enough for two digits of a ratio, and seconds of work.
_ROWS, _DRAWS, _SAMPLES = 32, 100, 4
# Of texts, whose networks take a step for each token.
_FEWER_ROWS, _FEWER_DRAWS = 8, 30
# What a run's own estimator of discrete latents is compared with.
_BESIDE = ("score", "leave_one_out", "disarm", "stochastic_triple", "straight_through", "st_gumbel", "gumbel_softmax", "reinmax")


def gradients(subject: Subject) -> Section:
    """The variance of the encoder's gradient, estimated in several ways from equally many samples."""
    return _of_discrete(subject) if subject.discrete else _of_normal(subject)


def _of_normal(subject: Subject) -> Section:
    estimators: dict[str, Estimator] = {
        "pathwise (the trick)": Pathwise(),
        "score function, leave-one-out": LeaveOneOut(),
        "score function": Score(),
    }
    found = {name: _moments(subject, estimator).total_variance for name, estimator in estimators.items()}
    trick, plain, best = found["pathwise (the trick)"], found["score function"], found["score function, leave-one-out"]
    if min(found.values()) <= 0 or not all(map(math.isfinite, found.values())):
        return Section("What the trick buys", f"The gradients of this encoder do not vary ({_size(subject)}).", [])
    lead = (
        "The gradient of the ELBO in this encoder's weights, estimated three ways from equally many samples. The variance of the "
        f"score function is {rounded(plain / trick, 2)} times that of the reparameterised sample: it would take that many times "
        f"the samples to do as well. With leave-one-out baselines it is {rounded(best / trick, 2)} times."
    )
    chart = charts.bars(found, _LABEL)
    return Section(
        "What the trick buys", lead, [Figure(f"Shorter is better; the scale is logarithmic. {_size(subject)}.", [chart])]
    )


def _of_discrete(subject: Subject) -> Section:
    title, config = "How noisy the gradient is", subject.model.config
    seen = _rows(subject)
    estimators: dict[str, Estimator] = {}
    for name in _BESIDE:
        if config.latent in ESTIMATORS[name].latents:
            estimators[name] = ESTIMATORS[name].make(config.temperature, None, seen)
    if config.estimator is not None:
        estimators[config.estimator] = subject.model.estimator(seen)
    found = {name: _moments(subject, estimator) for name, estimator in estimators.items()}
    found = {name: m for name, m in found.items() if 0 < m.total_variance < math.inf}
    if not found:
        return Section(title, f"The gradients of this encoder do not vary ({_size(subject)}).", [])
    found = dict(sorted(found.items(), key=lambda entry: entry[1].total_variance))
    shown = {name + (" (this run)" if name == config.estimator else ""): m for name, m in found.items()}
    rows = [
        (name, rounded(m.total_variance, 3), f"{m.snr:.2f}", "biased" if estimators[key].bias else "unbiased")
        for key, (name, m) in zip(found, shown.items(), strict=True)
    ]
    lead = (
        "The gradient of the ELBO in this encoder's weights, by estimators that fit its latents, from equally many samples. Signal "
        "to noise is the norm of the expected gradient over the root of the variance; a biased estimator may be sure of a wrong "
        "direction."
    )
    caption = f"Shorter is better; the scale is logarithmic. {_size(subject)}."
    own = next((name for name in shown if name.endswith("(this run)")), None)
    chart = charts.bars({name: m.total_variance for name, m in shown.items()}, _LABEL, mark=own)
    table = table_of(("estimator", "variance", "signal to noise", ""), rows)
    return Section(title, lead, [Figure(caption, [chart, table])])


_LABEL = "total variance of the encoder's gradient, nats² per datum²"


def _rows(subject: Subject) -> Tensor:
    return subject.splits.test.x[: _FEWER_ROWS if subject.kind == "text" else _ROWS]


def _draws(subject: Subject) -> int:
    return min(_FEWER_DRAWS, _DRAWS) if subject.kind == "text" else _DRAWS


def _size(subject: Subject) -> str:
    return f"{_SAMPLES} samples a datum, {len(_rows(subject))} test data, {_draws(subject)} draws"


def _moments(subject: Subject, estimator: Estimator) -> Moments:
    x = _rows(subject)
    parameters = [p for p in subject.model.encoder.parameters() if p.requires_grad]

    def loss() -> Tensor:
        elbo: Tensor = subject.model.elbo(x, estimator=estimator, n=_SAMPLES, source=subject.source)
        return elbo.mean()

    return gradient_moments(loss, parameters, _draws(subject))
