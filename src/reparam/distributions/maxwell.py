"""The Maxwell law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import euler_constant

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_exp, normal_range
from reparam.special.gamma import log_gamma_hazard, log_gamma_quantile
from reparam.special.tails import LOG2

__all__ = ["Maxwell"]


class Maxwell(Univariate):
    """The length of a normal vector in space: the speed of a particle of a gas.

    Formula: `p(x) = sqrt(2 / pi) x**2 exp(-(x / scale)**2 / 2) / scale**3`.

    Args:
        scale: positive; the standard deviation of each of the three coordinates.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions 1, chapter 18.

    Example:
        >>> import torch
        >>> q = Maxwell(torch.tensor([1.0, 2.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 2]), tensor([1.5958, 3.1915]))
    """

    arg_constraints = {"scale": constraints.positive}
    support = constraints.positive
    scale: Tensor

    def __init__(self, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, scale=scale)

    def _log_density(self, x: Tensor) -> Tensor:
        z = x / self.scale
        return 2 * (x.log() - self.scale.log()) - self.scale.log() - z.square() / 2 + math.log(2 / math.pi) / 2

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(8 / math.pi)

    @property
    def mode(self) -> Tensor:
        return self.scale * math.sqrt(2)

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (3 - 8 / math.pi)

    def entropy(self) -> Tensor:
        return self.scale.log() + (math.log(2 * math.pi) / 2 + euler_constant - 0.5)


@path.register
def maxwell_path(d: Maxwell) -> Path:
    """`x = scale * sqrt(2 y)`, `y` of law Gamma(3/2, 1); fresh samples are the lengths of normal vectors."""
    scale = d.scale

    def push(eps: Tensor) -> Tensor:
        return normal_exp(scale.log() + (LOG2 + log_gamma_quantile(1.5, eps)) / 2)

    def pull(x: Tensor) -> Tensor:
        return log_gamma_hazard(1.5, 2 * (x.log() - scale.log()) - LOG2)

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        eps = torch.randn((3, *rows, *scale.shape), generator=generator, dtype=scale.dtype, device=scale.device)
        return normal_range(scale * torch.linalg.vector_norm(eps, dim=0))

    return Path(noise_like(scale, EXPONENTIAL), push, pull, sample)


@register_kl(Maxwell, Maxwell)  # type: ignore[untyped-decorator]
def _kl(p: Maxwell, q: Maxwell) -> Tensor:
    log_ratio = 2 * (p.scale.log() - q.scale.log())
    return (torch.expm1(log_ratio) - log_ratio) * 1.5
