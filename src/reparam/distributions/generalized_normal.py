"""The generalized normal law, with a power for the square."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.gamma import log_gamma_push, log_gamma_sample
from reparam.paths.path import Path, noise_like, path
from reparam.special.gamma import log_gamma_hazard
from reparam.special.tails import LOG2

__all__ = ["GeneralizedNormal"]


class GeneralizedNormal(Univariate):
    """From Laplace's law (power 1) over the normal one (2) to the uniform one (infinity).

    Formula: `p(x) = power / (2 scale Gamma(1 / power)) exp(-|(x - loc) / scale|**power)`.

    Args:
        loc: mean, mode and median.
        scale: positive; `sqrt(2)` standard deviations at power 2.
        power: positive; the smaller, the heavier the tails.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Nadarajah (2005), A generalized normal distribution, Journal of Applied Statistics 32.

    Example:
        >>> import torch
        >>> q = GeneralizedNormal(torch.zeros(3), 1.0, torch.tensor([0.5, 1.0, 2.0]))
        >>> q.rsample((5,)).shape, q.variance
        (torch.Size([5, 3]), tensor([120.0000,   2.0000,   0.5000]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "power": constraints.positive}
    support = constraints.real
    loc: Tensor
    scale: Tensor
    power: Tensor

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, power: Tensor | float, validate_args: bool | None = None
    ) -> None:
        self._set(validate_args, loc=loc, scale=scale, power=power)

    def _log_height(self) -> Tensor:
        """The log-density at the mode."""
        return -LOG2 - self.scale.log() - torch.lgamma(1 + 1 / self.power)

    def _log_density(self, x: Tensor) -> Tensor:
        z = ((x - self.loc) / self.scale).abs()
        # At the cusp of powers below one the slope is infinite, and would make NaN of the zero slope in the scale.
        middle = z == 0
        return self._log_height() - torch.where(middle, 0.0, torch.where(middle, 1.0, z) ** self.power)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * torch.exp(torch.lgamma(3 / self.power) - torch.lgamma(1 / self.power))

    def entropy(self) -> Tensor:
        return 1 / self.power - self._log_height()


@path.register
def generalized_normal_path(d: GeneralizedNormal) -> Path:
    """`x = loc ± scale * G**(1 / power)`, `G` the quantile of Gamma(1 / power, 1) at twice the smaller tail."""
    dtype = d.loc.dtype
    loc, scale, power = d.loc.double(), d.scale.double(), d.power.double()
    info = torch.finfo(dtype)

    def finish(log_g: Tensor, upper: Tensor) -> Tensor:
        # The distance in float64, which holds all of them down to powers of 1/100.
        distance = torch.exp((log_g / power + scale.log()).clamp(max=math.log(info.max)))
        return torch.where(upper, loc + distance, loc - distance).clamp(info.min, info.max).to(dtype)

    def push(eps: Tensor) -> Tensor:
        eps = eps.double()
        upper = eps > LOG2
        tail = torch.where(upper, eps, reflect_exponential(torch.where(upper, 1.0, eps)))
        # At the median nothing is left of the hazard.
        return finish(log_gamma_push(1 / power, (tail - LOG2).clamp(min=torch.finfo(tail.dtype).tiny)), upper)

    def pull(x: Tensor) -> Tensor:
        z = (x.double() - loc) / scale
        log_distance = z.abs().clamp(min=torch.finfo(z.dtype).tiny).log()
        tail = log_gamma_hazard(1 / power, power * log_distance) + LOG2
        return torch.where(z > 0, tail, reflect_exponential(tail)).to(dtype)

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        log_g = log_gamma_sample(1 / power, rows, generator)
        with torch.no_grad():
            upper = torch.rand(log_g.shape, generator=generator, device=log_g.device) < 0.5
        return finish(log_g, upper)

    return Path(noise_like(d.loc, EXPONENTIAL), push, pull, sample)
