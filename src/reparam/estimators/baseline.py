"""Baselines for the score function: what a cost is compared with."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage", "check_baseline", "read", "update"]


class MovingAverage(nn.Module):
    """The average of past costs, newer ones counting more: the cost of t estimates ago with weight ∝ decayᵗ.

    Past costs do not depend on the rows at hand, so the gradient stays unbiased. `rp.Score` reads it when it draws and updates it
    when it has weighed, in training mode only. A submodule of the model is saved with it, by `state_dict`.

    Args:
        decay: in [0, 1).
        shape: of the average: `()` is one number for all elements; otherwise it broadcasts to the cost without its rows, for an
            average of each element.

    Raises:
        ValueError: for another decay.

    Example:
        >>> import torch, reparam as rp
        >>> average = rp.MovingAverage(0.9)
        >>> estimator = rp.Score(baseline=average)
        >>> p = torch.tensor(0.3, requires_grad=True)
        >>> for _ in range(3):
        ...     rp.expect(lambda z: z + 5.0 - z, torch.distributions.Bernoulli(p), estimator=estimator, n=4).backward()
        >>> average()
        tensor(5.)
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.9, shape: int | tuple[int, ...] = ()) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"the decay of a moving average is {decay!r}; it must lie in [0, 1), for example 0.9")
        self.decay = float(decay)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("weight", torch.zeros(shape))

    def forward(self) -> Tensor:
        """The average so far; zero before the first update."""
        return self.mean.clone()

    @torch.no_grad()
    def update(self, cost: Tensor) -> None:
        """Count in the costs of one estimate, `rows + S`, where `shape` broadcasts to S. A cost that is not finite is left out."""
        if not self.training:
            return
        mean, shape = cost.mean(0), self.mean.shape
        extra = tuple(range(mean.dim() - len(shape)))
        mean = mean.mean(extra) if extra else mean
        kept = tuple(i for i, (have, want) in enumerate(zip(mean.shape, shape, strict=True)) if have != want)
        mean = mean.mean(kept, keepdim=True) if kept else mean
        mean = mean.to(self.mean)
        counts = mean.isfinite()
        # Weights that sum to one from the first cost on.
        weight = self.decay * self.weight + (1 - self.decay)
        step = (mean - self.mean) * (1 - self.decay) / weight
        self.mean.add_(torch.where(counts, step, 0.0))
        self.weight.copy_(torch.where(counts, weight, self.weight))

    def extra_repr(self) -> str:
        return f"decay={self.decay}, shape={tuple(self.mean.shape)}"


def read(baseline: float | Tensor | nn.Module | None) -> float | Tensor:
    """The baseline as it is now: what a module returns, zero for none."""
    if baseline is None:
        return 0.0
    if isinstance(baseline, type) or not isinstance(baseline, Real | Tensor | nn.Module):
        raise TypeError(f"the baseline is {baseline!r}: give a number, a tensor, or a module such as rp.MovingAverage()")
    if not isinstance(baseline, nn.Module):
        return baseline
    value = baseline()
    if not isinstance(value, Tensor):
        raise TypeError(f"the baseline {type(baseline).__name__} returned {type(value).__name__}; called alone it returns a tensor")
    return value


def update(baseline: object, cost: Tensor) -> None:
    """Give the costs, detached, to a module that wants to know them."""
    follow = getattr(baseline, "update", None)
    if isinstance(baseline, nn.Module) and callable(follow):
        follow(cost)


def check_baseline(baseline: Tensor, cost: Tensor) -> None:
    """Refuse a baseline that does not broadcast to the cost without its rows."""
    have, want = baseline.shape, cost.shape[1:]
    if len(have) > len(want) or any(a not in (1, b) for a, b in zip(have[::-1], want[::-1], strict=False)):
        raise ValueError(
            f"the baseline has shape {tuple(have)}, the cost without its rows {tuple(want)}: it must "
            "broadcast to that, and must not depend on the row"
        )
