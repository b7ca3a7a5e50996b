"""How noisy a gradient is: its moments over repeated draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "gradient_moments"]


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a gradient over `n` independent draws.

    Attributes:
        mean: one tensor a parameter, of its shape.
        variance: of one draw, likewise; unbiased.
        n: number of draws.
    """

    mean: list[Tensor]
    variance: list[Tensor]
    n: int

    @property
    def total_variance(self) -> float:
        """Sum over all elements of all parameters: the mean squared distance of a draw from the expectation."""
        return sum(v.double().sum().item() for v in self.variance)

    @property
    def squared_norm(self) -> float:
        """An unbiased estimate of the squared norm of the expectation; negative when noise drowns it."""
        return sum(m.double().square().sum().item() for m in self.mean) - self.total_variance / self.n

    @property
    def snr(self) -> float:
        """Signal to noise of one draw: the norm of the expectation over the root of the total variance; infinite without noise."""
        signal, noise = max(self.squared_norm, 0.0), self.total_variance
        return (signal / noise) ** 0.5 if noise else float("inf")

    @property
    def snr_by_parameter(self) -> list[Tensor]:
        """`|mean| / sqrt(variance)` of each element; NaN where a gradient is always zero."""
        return [m.abs() / v.sqrt() for m, v in zip(self.mean, self.variance, strict=True)]


def gradient_moments(loss_fn: Callable[[], Tensor], parameters: Iterable[Tensor], n: int) -> Moments:
    """Mean, variance and signal-to-noise ratio of a stochastic gradient.

    Args:
        loss_fn: a scalar with fresh noise at each call; everything that is to stay fixed (the batch, say) it holds fixed.
        parameters: what to differentiate in; those that the loss does not reach have gradient zero.
        n: number of draws, at least 2.

    Raises:
        ValueError: for n < 2, and for parameters that need no gradient.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.diagnostics import gradient_moments
        >>> mu = torch.tensor(2.0, requires_grad=True)
        >>> q = torch.distributions.Normal(mu, 0.1)
        >>> f = lambda z: (z - 1.0) ** 2
        >>> noise = [
        ...     gradient_moments(lambda: rp.expect(f, q, estimator=estimator), [mu], n=100).total_variance
        ...     for estimator in (rp.Pathwise(), rp.Score())
        ... ]
        >>> noise[0] < noise[1] / 100
        True
    """
    parameters = list(parameters)
    if n < 2:
        raise ValueError(f"a variance needs at least 2 draws, got n={n}")
    if not parameters or not all(p.requires_grad for p in parameters):
        raise ValueError("give at least one parameter, and only such that require a gradient")
    mean = [torch.zeros_like(p) for p in parameters]
    square = [torch.zeros_like(p) for p in parameters]
    for i in range(1, n + 1):
        gradients = torch.autograd.grad(loss_fn(), parameters, allow_unused=True, materialize_grads=True)
        for m, s, g in zip(mean, square, gradients, strict=True):  # Welford's update
            delta = g - m
            m += delta / i
            s += delta * (g - m)
    return Moments(mean, [s / (n - 1) for s in square], n)
