"""The variational Rényi bound: from the evidence lower bound to log p(x), and beyond it to upper bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import sum_to_cost
from reparam.noise import Source
from reparam.objectives.weights import LogDensity, grouped, log_joint, pathwise

__all__ = ["renyi"]


def renyi(
    log_density: LogDensity,
    q: Distribution,
    alpha: float,
    *,
    prior: Distribution | None = None,
    k: int,
    n: int = 1,
    source: Source | None = None,
) -> Tensor:
    """The Rényi bound of order α, log p(x) − D_α(q ‖ posterior), as 1/(1−α) log 1/k Σᵢ wᵢ^(1−α), wᵢ = p(x, zᵢ) / q(zᵢ); in nats.

    α = 1 is the evidence lower bound, α = 0 the bound of `iwae`, α > 1 seeks the mode harder: lower bounds, to be maximised.
    α < 0 gives upper bounds, to be minimised: α = −1 is the χ² upper bound, 1/2 log E wᵢ². With finitely many samples the
    logarithm of a mean is biased towards the evidence lower bound: down for α < 1, so that what is an upper bound for k → ∞ may
    lie below log p(x), and up for α > 1. The gradient is the pathwise one of the estimate.

    Args, returns and raises as `iwae`, and alpha, the order, which must be finite.

    Source: Li and Turner, arXiv:1602.02311; the χ upper bound: Dieng et al., arXiv:1611.00328, of whose order it is 1 − α.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal
        >>> log_density = lambda z: Normal(z, 1.0).log_prob(torch.ones(5))
        >>> q = p = Normal(torch.zeros(5), 1.0)
        >>> lower = rp.renyi(log_density, q, 0.5, prior=p, k=100)
        >>> upper = rp.renyi(log_density, q, -1.0, prior=p, k=100)
        >>> upper.shape
        torch.Size([5])
    """
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(
            f"renyi: the order alpha must be a finite number, got {alpha!r}; the evidence lower bound is alpha=1, iwae alpha=0"
        )
    power = 1.0 - alpha
    z = pathwise(q, k, n, source, "renyi")
    log_p = log_joint(log_density, q, prior, z)
    log_w = grouped(log_p - sum_to_cost(q.log_prob(z), log_p), k)
    return (log_w.mean(1) if power == 0 else _power_mean(log_w, power)).mean(0)


def _power_mean(log_w: Tensor, power: float) -> Tensor:
    """1/power log 1/k Σᵢ wᵢ^power of each group, to full precision for small powers too."""
    # Powers of at most 1, of ratios to the weight that dominates.
    top = (log_w.detach().amax if power > 0 else log_w.detach().amin)(1, keepdim=True)
    known = top > -math.inf
    ratio = torch.where(known, log_w - torch.where(known, top, 0.0), 0.0)
    found = top.squeeze(1) + (power * ratio).expm1().mean(1).log1p() / power
    return torch.where(known.squeeze(1), found, -math.inf)
