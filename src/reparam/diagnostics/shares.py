"""Whose noise a gradient has: the minibatch's, or the samples'."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from reparam.diagnostics.gradient import gradient_moments

__all__ = ["NoiseShares", "noise_shares"]

Batch = TypeVar("Batch")
# A share of the variance that is not worth the trouble.
_LITTLE = 0.3


@dataclass(frozen=True)
class NoiseShares:
    """The total variance of a gradient, by where it comes from.

    Attributes:
        sampling: variance at a fixed minibatch: of the samples that the loss draws.
        minibatch: variance of the expected gradient over minibatches.
        batches: how many were looked at.
    """

    sampling: float
    minibatch: float
    batches: int

    @property
    def sampling_share(self) -> float:
        """Of the whole variance: what a better estimator, or better noise, can take away at most. NaN without any."""
        total = self.sampling + self.minibatch
        return self.sampling / total if total else float("nan")

    def __str__(self) -> str:
        share = self.sampling_share
        if share != share:
            return "The gradient has no noise."
        advice = "both count."
        if share < _LITTLE:
            advice = "larger minibatches are what helps; estimators and noise sources can win little."
        elif share > 1 - _LITTLE:
            advice = "a better estimator or noise source helps more than larger minibatches."
        return (
            f"{share:.0%} of the gradient's variance comes from the samples, {1 - share:.0%} from the minibatch "
            f"({self.batches} of them): {advice}"
        )


def noise_shares(
    loss: Callable[[Batch], Tensor], batches: Sequence[Batch], parameters: Iterable[Tensor], *, draws: int = 10
) -> NoiseShares:
    """Split the variance of a stochastic gradient into that of its samples and that of its minibatch.

    Per minibatch the gradient is drawn several times; the variance within gives the samples' part, and the variance of the means,
    less what the samples add to it, the minibatch's: an analysis of variance, both unbiased (the second is cut at zero).

    Args:
        loss: a scalar of a minibatch, with fresh noise at each call.
        batches: minibatches as training draws them, two at least and twenty for a figure.
        parameters: what to differentiate in.
        draws: of each minibatch, two at least.

    Raises:
        ValueError: for fewer than two minibatches or draws.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(5, requires_grad=True)
        >>> def loss(x):
        ...     z = rp.rsample(torch.distributions.Normal(w, 0.1))
        ...     return ((x - z) ** 2).sum(-1).mean()
        >>> shares = rp.diagnostics.noise_shares(loss, [3 * torch.randn(8, 5) for _ in range(20)], [w])
        >>> shares.sampling_share < 0.1
        True
    """
    of = list(parameters)
    if len(batches) < 2:
        raise ValueError(f"the variance over minibatches needs at least 2 of them, got {len(batches)}")
    moments = [gradient_moments(lambda batch=batch: loss(batch), of, draws) for batch in batches]  # type: ignore[misc]
    sampling = sum(m.total_variance for m in moments) / len(moments)
    means = torch.stack([torch.cat([mean.double().flatten() for mean in m.mean]) for m in moments])
    between = means.var(0).sum().item() - sampling / draws
    return NoiseShares(sampling, max(between, 0.0), len(batches))
