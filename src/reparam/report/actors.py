"""How noisy the gradient of an actor is, by estimator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reparam.diagnostics import gradient_moments
from reparam.estimators import Estimator, LeaveOneOut, MeasureValued, Pathwise, Score, expect
from reparam.report import charts
from reparam.report.agent import Agent
from reparam.report.charts import rounded
from reparam.report.pieces import Figure, Section
from reparam.special.tails import log_sech_squared

__all__ = ["actor_gradients"]

# States, actions that are drawn in each, and draws of the gradient: enough for two digits of a ratio, in a second or two.
_STATES, _SAMPLES, _DRAWS = 64, 4, 100


def actor_gradients(agent: Agent) -> Section | None:
    """The variance of the policy's gradient, estimated in several ways; None of an agent without critics of actions."""
    if not hasattr(agent.model, "critics") or not hasattr(agent.model, "temperature"):
        return None
    estimators: dict[str, Estimator] = {
        "pathwise (the trick)": Pathwise(),
        "measure-valued": MeasureValued(),
        "score function, leave-one-out": LeaveOneOut(),
        "score function": Score(),
    }
    found = {name: _variance(agent, estimator) for name, estimator in estimators.items()}
    size = f"{_SAMPLES} actions a state, {_STATES} states of test episodes, {_DRAWS} draws"
    if min(found.values()) <= 0 or not all(map(math.isfinite, found.values())):
        return None
    trick, plain, best = (found[name] for name in ("pathwise (the trick)", "score function", "score function, leave-one-out"))
    lead = (
        "The gradient of the actor's loss in the policy's weights, estimated in several ways from equally many actions. The "
        f"variance of the score function is {rounded(plain / trick, 2)} times that of the gradient through the actions: it would "
        f"take that many times the actions to do as well. With leave-one-out baselines it is {rounded(best / trick, 2)} times."
    )
    caption = (
        f"Shorter is better; the scale is logarithmic. {size}. Measure-valued differences ask the critics several times an action."
    )
    chart = charts.bars(found, "total variance of the policy's gradient")
    return Section("What the trick buys", lead, [Figure(caption, [chart])])


def _variance(agent: Agent, estimator: Estimator) -> float:
    model, source = agent.model, agent.source()
    places = torch.linspace(0, len(agent.visited) - 1, min(_STATES, len(agent.visited))).round().long()
    seen = agent.visited[places]
    if model.config.normalise_observations:
        seen = model.observations.standardise(seen)
    layers, temperature = model.critics.layers(constant=True), model.temperature.detach()

    def loss() -> Tensor:
        outputs = model.policy(seen)
        fixed = model.head.normal(outputs.detach())

        def cost(u: Tensor) -> Tensor:
            inputs = torch.cat([seen.expand(*u.shape[:-1], -1), torch.tanh(u)], -1)
            # The density is a constant here: the mean of its own gradient is zero.
            log_prob = fixed.log_prob(u) - log_sech_squared(u).sum(-1)
            found: Tensor = temperature * log_prob - model.critics(inputs, layers).amin(0)
            return found

        return expect(cost, model.head.normal(outputs), estimator=estimator, n=_SAMPLES, source=source).mean()

    return gradient_moments(loss, list(model.policy.parameters()), _DRAWS).total_variance
