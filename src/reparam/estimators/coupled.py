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
from reparam.noise import UNIFORM, Source
from reparam.paths import noise_like

__all__ = ["DisARM"]


@dataclass(frozen=True)
class _Pairs(Draw):
    """Attributes: logits: of each coin, `batch + inner`; sign: b − b̃, `pairs + batch + inner`."""

    logits: Tensor | None = None
    sign: Tensor | None = None


@dataclass(frozen=True)
class DisARM:
    """Antithetic pairs of coins, integrated over what does not change them; for Bernoulli laws, Independent ones too.

    With b = 1[u < θ], b̃ = 1[1 − u < θ], θ = sigmoid(φ), the gradient in each logit φ is

        ½ (f(b) − f(b̃)) (−1)^b̃ 1[b ≠ b̃] sigmoid(|φ|),

    unbiased. Half of the n rows are b and half b̃. First derivatives only.

    Raises:
        ValueError: for an odd number of rows.
        NotImplementedError: for a law that is not made of coins.

    Source: Dong et al., arXiv:2006.10680; Yin et al., "U2G", arXiv:2006.00895.

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
        if n % 2:
            raise ValueError(f"DisARM draws pairs: n={n} must be even")
        coins = factors(q, "DisARM", coins=True)
        logits = coins.logits
        theta = logits.detach().sigmoid()
        u = noise_like(theta, UNIFORM).draw((n // 2,), source=source)
        b, other = (u < theta).to(theta.dtype), (1 - u < theta).to(theta.dtype)
        return _Pairs(torch.cat([b, other]), q.batch_shape, logits=logits, sign=b - other)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not isinstance(draw, _Pairs) or draw.logits is None or draw.sign is None:
            raise ValueError("this draw is not of pairs: weigh it with the estimator that drew it")
        first, second = cost.detach().chunk(2)
        slope = 0.5 * draw.sign * draw.logits.detach().abs().sigmoid()
        return first_order(cost.mean(0), draw.logits, (aligned(first - second, slope) * slope).mean(0))
