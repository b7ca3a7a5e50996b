"""Straight-through estimators: the slope of the cost at a value of the law stands for its differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw
from reparam.estimators.factors import Factors, factors
from reparam.estimators.gumbel import softened
from reparam.estimators.relaxation import Relaxed, mean_of_relaxed
from reparam.estimators.surrogate import straight_through
from reparam.noise import Source
from reparam.paths import sample
from reparam.paths.relaxed import check_temperature

__all__ = ["ReinMax", "StraightThrough"]


@dataclass(frozen=True)
class StraightThrough:
    """The slope of the cost at a value of the law, passed to its mean: ∇f(z) ∂p/∂φ, with p the probabilities of the outcomes.

    For a coin its expectation is θ(1 − θ) [θ f′(1) + (1 − θ) f′(0)] in the logit, where the truth is θ(1 − θ) [f(1) − f(0)].
    The cost must be differentiable, and is evaluated at values of the law only. First derivatives only.

    Raises:
        ValueError: for a cost without a gradient in the rows.
        NotImplementedError: for a law that is not made of coins or one-hot choices.

    Source: Bengio et al., arXiv:1308.3432.

    Example:
        >>> import torch, reparam as rp
        >>> probs = torch.tensor(0.3, requires_grad=True)
        >>> q = torch.distributions.Bernoulli(probs=probs)
        >>> rp.expect(lambda z: 2 * z, q, estimator=rp.StraightThrough(), n=10).backward()
        >>> torch.allclose(probs.grad, torch.tensor(2.0))      # exact: the cost is linear
        True
    """

    bias: ClassVar[str | None] = (
        "The value is unbiased; the gradient takes the slope of the cost at a value of the law for its difference between values, "
        "which is exact only for costs that are linear in each coin or choice."
    )

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        factors(q, "StraightThrough", soft=True)  # refuses other laws
        return Relaxed(straight_through(sample(q, (n,), source=source), q.mean), q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return mean_of_relaxed(draw, cost)


@dataclass(frozen=True)
class ReinMax:
    """The straight-through gradient to second order: exact for every cost that is quadratic in each coin or choice, at τ = 1.

    The slope of the cost at a value z of the law is multiplied by 2 J(½ (z + p_τ)) − ½ J(p), where J(p) = diag(p) − p pᵀ, p are
    the probabilities and p_τ those of logits / τ. At τ = 1 this is ½ Σ_k p_k (z − e_k)(z − e_k)ᵀ: a difference of costs is the
    mean of the slopes at its two ends, the trapezoidal rule (Heun's method), where straight-through takes one end (Euler's).
    For a coin its expectation is then θ(1 − θ) [f′(0) + f′(1)] / 2. First derivatives only.

    Args:
        temperature: a positive number. One is the method; any other, which its authors tune, is biased for quadratic costs too.

    Raises:
        ValueError: for a temperature that is not positive and finite, or needs a gradient, as there is none; for a cost without
            a gradient in the rows.
        NotImplementedError: for a law that is not made of coins or one-hot choices.

    Source: Liu et al., arXiv:2304.08612.

    Example:
        >>> import torch, reparam as rp
        >>> logit = torch.zeros((), requires_grad=True)
        >>> coin = torch.distributions.Bernoulli(logits=logit)
        >>> rp.expect(lambda z: (z - 0.25) ** 2, coin, estimator=rp.ReinMax(), n=100_000).backward()
        >>> bool((logit.grad - 0.125).abs() < 0.01)
        True
    """

    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if isinstance(check_temperature(self.temperature), Tensor) and self.temperature.requires_grad:  # type: ignore[union-attr]
            raise ValueError("the temperature of ReinMax needs a gradient, and has none: give a number")

    @property
    def bias(self) -> str:
        return (
            "The value is unbiased; the gradient takes the mean slope of the cost at two values of the law for its difference "
            "between them, which at temperature 1 is exact for costs that are quadratic in each coin or choice."
        )

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "ReinMax", soft=True)
        value = sample(q, (n,), source=source)
        p, warm = (softened(law, law.logits.detach(), t) for t in (1.0, check_temperature(self.temperature)))
        soft = 2 * _sloped(law, (value + warm) / 2) - 0.5 * _sloped(law, p)
        return Relaxed(straight_through(value, soft), q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return mean_of_relaxed(draw, cost)


def _sloped(law: Factors, p: Tensor) -> Tensor:
    """Values that do not matter, with the derivative in the logits that probabilities have where they are `p`."""
    if law.kind == "coins":
        return p * (1 - p) * law.logits
    logits = law.logits.clamp(min=torch.finfo(law.logits.dtype).min)  # for p = 0, minus infinity
    return p * (logits - (p * logits).sum(-1, keepdim=True))
