"""Importance-weighted bounds: tighter than the evidence lower bound, for k times its cost."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution

from reparam.noise import Source
from reparam.paths import rsample

__all__ = ["iwae"]


def iwae(
    log_density: Callable[[Tensor], Tensor],
    q: Distribution,
    *,
    prior: Distribution | None = None,
    k: int,
    source: Source | None = None,
) -> Tensor:
    """The importance-weighted bound, E log 1/k Σᵢ p(x, zᵢ) / q(zᵢ) ≤ log p(x), with its pathwise gradient."""
    z = rsample(q, (k,), source=source)
    log_p = log_density(z) if prior is None else log_density(z) + prior.log_prob(z)
    return (log_p - q.log_prob(z)).logsumexp(0) - math.log(k)
