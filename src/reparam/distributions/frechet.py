"""The Frechet law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.distributions.utils import euler_constant

from reparam.distributions.generalized_extreme_value import GeneralizedExtremeValue
from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_exp

__all__ = ["Frechet"]


class Frechet(Univariate):
    """The law of large maxima with a power tail; the inverse of a Weibull one.

    Formula: `P(X <= x) = exp(-(x / scale)**-concentration)`.

    Args:
        scale: positive.
        concentration: positive; moments of this order and above are infinite.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions 2, chapter 22.

    Example:
        >>> import torch
        >>> q = Frechet(torch.ones(3), torch.tensor([1.0, 2.0, 4.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([   inf, 1.7725, 1.2254]))
    """

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    scale: Tensor
    concentration: Tensor

    def __init__(self, scale: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, scale=scale, concentration=concentration)

    def _log_density(self, x: Tensor) -> Tensor:
        g = self.concentration * (x.log() - self.scale.log())
        return self.concentration.log() - x.log() - g - torch.exp(-g)

    @property
    def mean(self) -> Tensor:
        exists = self.concentration > 1
        c = torch.where(exists, self.concentration, 2.0)
        return torch.where(exists, self.scale * torch.lgamma(1 - 1 / c).exp(), torch.inf)

    @property
    def mode(self) -> Tensor:
        c = self.concentration
        return self.scale * torch.exp(-torch.log1p(1 / c) / c)

    @property
    def variance(self) -> Tensor:
        # Of an extreme value law, whose variance is a series near a shape of zero: here the difference of moments would cancel.
        shape = 1 / self.concentration
        return GeneralizedExtremeValue(0.0, self.scale * shape, shape, validate_args=False).variance

    def entropy(self) -> Tensor:
        c = self.concentration
        return 1 + euler_constant + euler_constant / c + self.scale.log() - c.log()


@path.register
def frechet_path(d: Frechet) -> Path:
    """`log x = log scale - log(r) / concentration`, `r = -log P(X <= x)`."""
    scale, concentration = d.scale, d.concentration

    def push(eps: Tensor) -> Tensor:
        return normal_exp(scale.log() - reflect_exponential(eps).log() / concentration)

    def pull(x: Tensor) -> Tensor:
        return reflect_exponential(torch.exp(concentration * (scale.log() - x.log())))

    return Path(noise_like(scale, EXPONENTIAL), push, pull)


@register_kl(Frechet, Frechet)  # type: ignore[untyped-decorator]
def _kl(p: Frechet, q: Frechet) -> Tensor:
    # With g = c (log x - log s), exp(-g) is exponential under p: E g = Euler's constant.
    ratio = q.concentration / p.concentration
    shift = q.concentration * (p.scale.log() - q.scale.log())
    power = torch.exp(torch.lgamma(1 + ratio) - shift)
    return ratio * euler_constant + shift + power - ratio.log() - euler_constant - 1
