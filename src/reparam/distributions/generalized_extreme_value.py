"""The generalized extreme value law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint
from torch.distributions.utils import euler_constant

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, Source, reflect_exponential
from reparam.paths.joint import sample_and_log_prob
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special import exprel, log1prel

__all__ = ["GeneralizedExtremeValue"]


class GeneralizedExtremeValue(Univariate):
    """The law of large maxima: Gumbel's at concentration 0, Frechet's above and a reversed Weibull one below, smoothly.

    Formula: `P(X <= x) = exp(-(1 + concentration * z)**(-1 / concentration))`, `z = (x - loc) / scale`.

    Args:
        loc: where `P(X <= loc) = exp(-1)`.
        scale: positive.
        concentration: of the upper tail: a power tail above 0, an end at `loc - scale / concentration` below 0.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Coles (2001), An Introduction to Statistical Modeling of Extreme Values, chapter 3.

    Example:
        >>> import torch
        >>> q = GeneralizedExtremeValue(torch.zeros(3), 1.0, torch.tensor([-0.5, 0.0, 0.5]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([0.2275, 0.5772, 1.5449]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    loc: Tensor
    scale: Tensor
    concentration: Tensor

    def __init__(
        self, loc: Tensor | float, scale: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        self._set(validate_args, loc=loc, scale=scale, concentration=concentration)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Constraint:
        c = self.concentration
        end = self.loc - self.scale / torch.where(c == 0, 1.0, c)
        return constraints.interval(torch.where(c > 0, end, -torch.inf), torch.where(c < 0, end, torch.inf))

    def _inner(self, value: Tensor) -> Tensor:
        return self.loc.detach() + torch.zeros_like(value)

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        c = self.concentration
        # At an end of the support the density is zero, but for an upper end where it is that of an exponential law or infinite.
        within = c * z > -1
        g = self._gumbel(torch.where(within, z, 0.0))
        at_end = torch.where(c == -1, -self.scale.log(), torch.where(c < -1, torch.inf, -torch.inf))
        return torch.where(within, self._log_density_of_gumbel(g), at_end)

    def _gumbel(self, z: Tensor) -> Tensor:
        """`-log(-log P(X <= x))`, a standard Gumbel variable."""
        return z * log1prel(self.concentration * z)

    def _log_density_of_gumbel(self, g: Tensor) -> Tensor:
        return -(1 + self.concentration) * g - torch.exp(-g) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        exists = self.concentration < 1
        c = torch.where(exists, self.concentration, 0.0)
        first = _log_gamma_rel(c)
        return torch.where(exists, self.loc + self.scale * first * exprel(c * first), torch.inf)

    @property
    def mode(self) -> Tensor:
        c = self.concentration
        inside = c > -1
        safe = torch.where(inside, c, 0.0)
        g = -torch.log1p(safe)
        return torch.where(
            inside, self.loc + self.scale * g * exprel(safe * g), self.loc - self.scale / torch.where(inside, 1.0, c)
        )

    @property
    def variance(self) -> Tensor:
        exists = self.concentration < 0.5
        c = torch.where(exists, self.concentration, 0.0)
        first, bend = c * _log_gamma_rel(c), _log_gamma_bend(c)
        variance = self.scale.square() * torch.exp(2 * first) * bend * exprel(c.square() * bend)
        return torch.where(exists, variance, torch.inf)

    def entropy(self) -> Tensor:
        return self.scale.log() + euler_constant * self.concentration + (euler_constant + 1)


def _zeta(count: int) -> list[float]:
    """`zeta(2), zeta(3), ...`."""
    orders = torch.arange(2, 2 + count, dtype=torch.float64, device="cpu")
    return [float(value) for value in torch.special.zeta(orders, torch.ones_like(orders))]


_ZETA = _zeta(24)


def _near_zero(c: Tensor, coefficients: list[float], far: Tensor) -> Tensor:
    """A polynomial for `|c| < 0.1`, and `far` beyond."""
    near = c.abs() < 0.1
    small = torch.where(near, c, 0.0)
    value = torch.zeros_like(c)
    for coefficient in reversed(coefficients):
        value = value * small + coefficient
    return torch.where(near, value, far)


def _log_gamma_rel(c: Tensor) -> Tensor:
    """`lgamma(1 - c) / c`, smooth through zero."""
    far = torch.where(c.abs() < 0.1, 0.5, c)
    return _near_zero(c, [euler_constant, *(z / k for k, z in enumerate(_ZETA, 2))], torch.lgamma(1 - far) / far)


def _log_gamma_bend(c: Tensor) -> Tensor:
    """`(lgamma(1 - 2 c) - 2 lgamma(1 - c)) / c**2`, smooth through zero."""
    far = torch.where(c.abs() < 0.1, 0.25, c)
    bend = (torch.lgamma(1 - 2 * far) - 2 * torch.lgamma(1 - far)) / far.square()
    return _near_zero(c, [z * (2**k - 2) / k for k, z in enumerate(_ZETA, 2)], bend)


def _gumbel_noise(d: GeneralizedExtremeValue, eps: Tensor) -> Tensor:
    return -reflect_exponential(eps).log()


@path.register
def generalized_extreme_value_path(d: GeneralizedExtremeValue) -> Path:
    """`x = loc + scale * (exp(c * g) - 1) / c`, smooth through `c = 0`, with `g = -log(-log P(X <= x))`."""
    loc, scale, c = d.loc, d.scale, d.concentration
    info = torch.finfo(loc.dtype)
    # Beyond these `exp(c * g)` is not a float, or `1 + c * z`, which log_prob forms, rounds to zero.
    size = c.detach().abs()
    shrunk, grown = -math.log(4 * info.eps) / size, (math.log(info.max) - 5) / size
    least, most = torch.where(c < 0, -grown, -shrunk), torch.where(c < 0, shrunk, grown)

    def push(eps: Tensor) -> Tensor:
        g = torch.minimum(torch.maximum(_gumbel_noise(d, eps), least), most)
        return representable(torch.addcmul(loc, scale, g * exprel(c * g)), d.support)

    def pull(x: Tensor) -> Tensor:
        return reflect_exponential(torch.exp(-d._gumbel((x - loc) / scale)))

    return Path(noise_like(loc, EXPONENTIAL), push, pull)


@sample_and_log_prob.register
def _joint(d: GeneralizedExtremeValue, rows: torch.Size, source: Source | None) -> tuple[Tensor, Tensor]:
    p = path.part(d)
    eps = p.noise.draw(rows, source=source)
    return p.push(eps), d._log_density_of_gumbel(_gumbel_noise(d, eps))
