"""Whether a prior fits a posterior: their shapes and their supports."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from reparam.noise import readable
from reparam.paths.parameters import check_distribution
from reparam.paths.path import bounds, is_discrete, support_of

__all__ = ["check_prior"]


def check_prior(q: Distribution, prior: Distribution) -> None:
    """Refuse a prior that broadcasting would count more than once, or that has no mass where q has some."""
    check_distribution(prior)
    batch = q.batch_shape[len(q.batch_shape) - len(prior.batch_shape) :]
    fits = len(prior.batch_shape) <= len(q.batch_shape) and all(
        have in (1, want) for have, want in zip(prior.batch_shape, batch, strict=True)
    )
    if prior.event_shape != q.event_shape or not fits:
        raise ValueError(
            f"q has batch shape {tuple(q.batch_shape)} and event shape {tuple(q.event_shape)}, the prior "
            f"{tuple(prior.batch_shape)} and {tuple(prior.event_shape)}: event shapes must be equal "
            "(torch.distributions.Independent makes batch dimensions one event), and the prior's batch must broadcast to that of q"
        )
    _check_support(q, prior)


def _check_support(q: Distribution, prior: Distribution) -> None:
    """Refuse a q that has mass where the prior has none, where that can be seen: the bound would be minus infinity, silently."""
    names = f"q is {type(q).__name__}, the prior {type(prior).__name__}"
    if is_discrete(q) and support_of(prior) is not None and not is_discrete(prior):
        raise ValueError(f"{names}: one is discrete and the other is not, so that they have no densities to compare")
    for (have, reach), beyond in zip(zip(_ends(q), _ends(prior), strict=True), (torch.lt, torch.gt), strict=True):
        if have is None or reach is None or (isinstance(reach, float) and math.isinf(reach)):
            continue
        have, reach = torch.as_tensor(have), torch.as_tensor(reach)
        if readable(have) and readable(reach) and beyond(have, reach).any():
            raise ValueError(
                f"{names}, whose support ends where q goes on, so that the bound is minus infinity: choose a q with the support of "
                "the prior, for example by torch.distributions.TransformedDistribution, or a prior with that of q"
            )


def _ends(d: Distribution) -> tuple[Tensor | float | None, Tensor | float | None]:
    """The lower and the upper end of the support, infinite ones too; None where they are not known."""
    support = support_of(d)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real:
        return -math.inf, math.inf
    if support is constraints.simplex:
        return 0.0, 1.0
    low, high = bounds(support)
    if low is None and high is None:
        return None, None
    return -math.inf if low is None else low, math.inf if high is None else high
