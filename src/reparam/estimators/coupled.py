"""Coupled rows: pairs whose difference is small when the gradient is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw
from reparam.estimators.factors import factors
from reparam.estimators.surrogate import aligned, first_order
from reparam.estimators.tree import nodes, walk
from reparam.noise import UNIFORM, Noise, Source

__all__ = ["ARM", "DisARM"]


@dataclass(frozen=True)
class _Pairs(Draw):
    """Attributes: logits: of each coin, `batch + any`; slope: what multiplies f(b) − f(b̃), `pairs + batch + any`."""

    logits: Tensor | None = None
    slope: Tensor | None = None


@dataclass(frozen=True)
class ARM:
    """Antithetic pairs of coins, weighed by the noise that they come from; for Bernoulli laws, Independent ones too.

    With u uniform, b = 1[u < θ], b̃ = 1[1 − u < θ], θ = sigmoid(φ), the gradient in each logit φ is

        (f(b) − f(b̃)) (½ − u),

    unbiased. `DisARM` is its average over the noise at given pairs: less variance for the same rows. Half of the n rows
    are b and half b̃. First derivatives only.

    Raises:
        ValueError: for an odd number of rows.
        NotImplementedError: for a law that is not made of coins.

    Source: Yin and Zhou, arXiv:1807.11143.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(5, requires_grad=True)
        >>> q = torch.distributions.Independent(torch.distributions.Bernoulli(logits=w), 1)
        >>> rp.expect(lambda z: (z.sum(-1) - 2.0) ** 2, q, estimator=rp.ARM(), n=8).backward()
        >>> w.grad.shape
        torch.Size([5])
    """

    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        coins = factors(q, "ARM", coins=True)
        u, b, other = _antithetic("ARM", coins.logits, n, source)
        return _Pairs(torch.cat([b, other]), q.batch_shape, logits=coins.logits, slope=(0.5 - u).to(b.dtype))

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weighed(draw, cost)


@dataclass(frozen=True)
class DisARM:
    """Antithetic pairs of coins or choices, averaged over the noise that does not change them.

    With b = 1[u < θ], b̃ = 1[1 − u < θ], θ = sigmoid(φ), the gradient in each logit φ of a coin is

        ½ (f(b) − f(b̃)) (−1)^b̃ 1[b ≠ b̃] sigmoid(|φ|),

    unbiased. A choice among K is a walk down a binary tree with a coin at each of its K − 1 nodes. Nodes that both walks pass
    have this gradient; those that only the walk of b passes ½ (f(b) − f(b̃)) (b − θ), likewise for b̃; others none.
    Serves Bernoulli, Categorical, OneHotCategorical and Independent of these. Half of the n rows are b and half b̃. First
    derivatives only.

    Raises:
        ValueError: for an odd number of rows.
        NotImplementedError: for a law that is not made of coins or choices.

    Source: Dong et al., arXiv:2006.10680 and, of choices, arXiv:2106.08056; Yin et al., "U2G", arXiv:2006.00895.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(5, requires_grad=True)
        >>> q = torch.distributions.Independent(torch.distributions.Bernoulli(logits=w), 1)
        >>> rp.expect(lambda z: (z.sum(-1) - 2.0) ** 2, q, estimator=rp.DisARM(), n=8).backward()
        >>> w.grad.shape
        torch.Size([5])
    """

    bias: ClassVar[str | None] = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "DisARM")
        logits = nodes(law)
        _, b, other = _antithetic("DisARM", logits, n, source)
        outcome, passed = walk(law, b)
        other_outcome, other_passed = walk(law, other)
        slope = torch.where(
            passed == other_passed,
            0.5 * passed * (b - other) * logits.detach().abs().sigmoid(),
            0.5 * (passed * _score(logits, b) - other_passed * _score(logits, other)),
        )
        return _Pairs(law.value(torch.cat([outcome, other_outcome])), q.batch_shape, logits=logits, slope=slope)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weighed(draw, cost)


def _antithetic(name: str, logits: Tensor, n: int, source: Source | None) -> tuple[Tensor, Tensor, Tensor]:
    """The uniforms, the coins and their antithetic twins, each `n / 2` rows of the shape of the logits."""
    if n % 2:
        raise ValueError(f"{name} draws pairs: the number of rows n={n} must be even, such as n={n + 1}")
    theta = logits.detach().double().sigmoid()
    # In double: 1 - u is then as fine near zero as a rare outcome needs.
    u = Noise(UNIFORM, theta.shape, theta.dtype, theta.device).draw((n // 2,), source=source)
    return u, (u < theta).to(logits.dtype), (1 - u < theta).to(logits.dtype)


def _score(logits: Tensor, b: Tensor) -> Tensor:
    """The score of each coin, b − θ, without cancellation."""
    sign = 2 * b - 1
    return sign * torch.sigmoid(-sign * logits.detach())


def _weighed(draw: Draw, cost: Tensor) -> Tensor:
    if not isinstance(draw, _Pairs) or draw.logits is None or draw.slope is None:
        raise ValueError("this draw is not of pairs: weigh it with the estimator that drew it")
    first, second = cost.detach().chunk(2)
    value = cost.mean(0)
    whole = value.shape + draw.logits.shape[value.dim() :]  # in a graph a law may share its rows between those before it
    gradient = (aligned(first - second, draw.slope) * draw.slope).mean(0)
    return first_order(value, draw.logits.expand(whole), gradient.expand(whole))
