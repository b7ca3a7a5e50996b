"""The evidence lower bound of sequences, step by step, and how it is charged."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from reparam.errors import BadInputError
from reparam.estimators import LeaveOneOut
from reparam.estimators.estimator import Draw
from reparam.nn.state_space import Observed
from reparam.noise import Source
from reparam.paths import detached

__all__ = ["Terms", "divergence", "independent", "score"]


class Terms(NamedTuple):
    """Log-densities given samples of the states, each samples * B x T: zero where nothing is known, None of what is not there."""

    reconstruction: Tensor
    reward: Tensor | None
    continuation: Tensor | None

    def named(self) -> dict[str, Tensor]:
        """Those that there are."""
        return {name: term for name, term in self._asdict().items() if term is not None}

    def total(self) -> Tensor:
        """Of all that there is at a step."""
        return torch.stack(list(self.named().values())).sum(0)


def divergence(seen: Observed, there: Tensor, dynamics: float, representation: float, free: float) -> tuple[Tensor, Tensor]:
    """The divergence of the posterior from the prior at each step, and what it costs, with weights d and r:

        d max(free, KL(sg(q) || p)) + r max(free, KL(q || sg(p)))

    sg stops the gradient: the first term moves the prior, the second the posterior. Its value is half of that, so that where d = r
    it is d max(free, KL(q || p)), the value that the bound has, and what a score function weighs.

    Source: Hafner et al., arXiv:2010.02193 (KL balancing), arXiv:2301.04104.
    """
    q, p = seen.posterior, seen.prior
    plain = kl_divergence(q, p).masked_fill(~there, 0.0)
    if dynamics == representation:
        charged = dynamics * (plain.clamp(min=free) if free else plain)
    else:
        charged = dynamics * kl_divergence(detached(q), p).clamp(min=free)
        charged = charged + representation * kl_divergence(q, detached(p)).clamp(min=free)
        charged = charged - charged.detach() / 2
    return plain, charged.masked_fill(~there, 0.0)


def score(seen: Observed, cost: Tensor, charged: Tensor, samples: int) -> Tensor:
    """Zero, with the gradient of the expected cost that passes through the probabilities of the samples.

    What a sample at step t leads to is the cost of the data there, and all of the steps after it; of it the mean of the other
    samples' is taken off (leave-one-out).

    Args:
        seen: with samples that pass no gradient.
        cost: of each step, samples * B x T.
        charged: the part of it that the divergences cost.
        samples: of each sequence, at least 2.
    """
    later = (cost.flip(1).cumsum(1).flip(1) - charged).detach().unflatten(0, (samples, -1))
    z = seen.state.stochastic.detach()
    log_prob = seen.posterior.log_prob(z).unflatten(0, (samples, -1))
    value = LeaveOneOut().weigh(Draw(z.unflatten(0, (samples, -1)), log_prob.shape[1:], log_prob), later)
    return samples * (value - value.detach()).sum()


def independent(source: Source | None) -> None:
    """Refuse noise whose rows depend on each other.

    Raises:
        BadInputError: saying why.
    """
    if not getattr(source, "independent", True):
        raise BadInputError(
            "estimator='leave_one_out' compares samples with each other, which those of this noise are not independent of: take "
            "noise='fresh', or another estimator"
        )
