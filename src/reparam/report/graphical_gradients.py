"""How noisy the gradient of a guide is, by where its noise comes from, and without a path through the samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.diagnostics import gradient_moments
from reparam.noise import Antithetic, Fresh, Sobol, Source
from reparam.report import charts
from reparam.report.charts import rounded
from reparam.report.graphical import View, view
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["guide_gradients"]

# Estimates of the gradient of which its variance is taken.
_DRAWS = 40
_NAMES = {"fresh": "fresh noise", "antithetic": "mirrored pairs", "sobol": "Sobol points"}


def guide_gradients(subject: Subject) -> Section | None:
    """The variance of the gradient of the ELBO in the parameters of the guide."""
    seen = view(subject)
    model = seen.model
    if model.guide is None:
        return None
    parameters = [p for p in model.guide.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(0)
    sources: dict[str, Source] = {"fresh": Fresh(generator)}
    if model.config.samples > 1:
        sources |= {"antithetic": Antithetic(Fresh(generator)), "sobol": Sobol(0)}
    ways: dict[str, Callable[[], Tensor]] = {}
    ways |= {_NAMES[name]: partial(_path, model, source) for name, source in sources.items()}
    if model.guide.startable and model.config.guide != "flow" and len(seen.x) == model.size and not model.guide.apart:
        ways["score function"] = partial(_scored, seen, generator, baseline=False)
        if model.config.samples > 1:
            ways["score function, leave-one-out"] = partial(_scored, seen, generator, baseline=True)
    if len(ways) < 2:
        return None
    found = {name: gradient_moments(loss, parameters, _DRAWS).total_variance for name, loss in ways.items()}
    if min(found.values()) <= 0 or not all(map(math.isfinite, found.values())):
        return None
    fresh = found["fresh noise"]
    lead = (
        "Each draw of the latents is a function of the parameters of the guide and of noise, so that the noise can be chosen. The "
        f"gradient of the ELBO is of {model.config.samples} draws. "
    )
    if "mirrored pairs" in found:
        best = min(("mirrored pairs", "Sobol points"), key=lambda name: found[name])
        lead += (
            f"With {best} its variance is {rounded(fresh / found[best], 2)} times smaller than with fresh noise. "
            if found[best] < 0.95 * fresh
            else "For this model neither mirrored pairs nor Sobol points make its variance smaller. "
        )
    if "score function" in found:
        lead += (
            f"The score function, which needs no path through the draws, has {rounded(found['score function'] / fresh, 2)} times "
        )
        lead += "the variance of fresh noise with a path."
    chart = charts.bars(found, "total variance of the gradient, nats² per row²")
    caption = f"Shorter is better; the scale is logarithmic. {_DRAWS} estimates of {len(seen.x)} rows."
    return Section("What the trick buys", lead, [Figure(caption, [chart])])


def _path(model: Any, source: Source) -> Tensor:
    loss: Tensor = model.loss(model.rows, source).total
    return loss


def _scored(seen: View, generator: torch.Generator, *, baseline: bool) -> Tensor:
    """A cost per row whose gradient in the guide is the score function's, for a guide that is one normal law."""
    model: Any = seen.model
    rows, k = model.rows, model.config.samples
    scores: list[Tensor] = []

    def draw(name: str, law: Distribution) -> Tensor:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            value = law.sample((k,))
        scores.append(law.log_prob(value).reshape(k))
        return value

    drawn = model.guide.sample(draw, model.columns.seen(rows[0]), rows[1], {})
    with torch.no_grad():
        joint = model.joint(rows, drawn.values)
        log_p = joint.rows().expand(k, len(rows[0])).sum(-1) + joint.shared().reshape(-1)
        gain = (log_p - drawn.log_q_shared.reshape(-1)) / model.size
        gain = gain - (gain.sum() - gain) / (k - 1) if baseline else gain
    cost: Tensor = -(gain * torch.stack(scores).sum(0)).mean()
    return cost
