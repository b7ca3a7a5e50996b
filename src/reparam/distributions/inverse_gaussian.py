"""The inverse Gaussian law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, NORMAL, UNIFORM, Fresh, Noise, reflect_exponential
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_exp, with_slopes
from reparam.special.normal import log_ndtr, normal_excess, normal_from_hazard, normal_ratio

__all__ = ["InverseGaussian"]

# Gauss-Legendre on the unit interval, for the integral over a short step of Mills' ratio.
_NODES = (0.06943184420297371, 0.33000947820757187, 0.6699905217924281, 0.9305681557970263)
_WEIGHTS = (0.17392742256872692, 0.32607257743127307, 0.32607257743127307, 0.17392742256872692)


class InverseGaussian(Univariate):
    """The time at which Brownian motion with a drift first reaches a level; Wald's law.

    Formula: `p(x) = sqrt(concentration / (2 pi x^3)) exp(-concentration (x - loc)^2 / (2 loc^2 x))`.

    Args:
        loc: the mean, positive.
        concentration: positive; the variance is `loc^3 / concentration`.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions 1, chapter 15.

    Example:
        >>> import torch
        >>> d = InverseGaussian(torch.tensor([1.0, 2.0]), 4.0)
        >>> d.rsample((5,)).shape, d.variance
        (torch.Size([5, 2]), tensor([0.2500, 2.0000]))
    """

    arg_constraints = {"loc": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    loc: Tensor
    concentration: Tensor

    def __init__(self, loc: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, concentration=concentration)

    def _log_density(self, x: Tensor) -> Tensor:
        y = (x - self.loc) / self.loc
        return (self.concentration.log() - math.log(2 * math.pi) - 3 * x.log() - self.concentration * y**2 / x) / 2

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        half = 1.5 * self.loc / self.concentration
        return self.loc / (torch.hypot(torch.ones_like(half), half) + half)

    @property
    def variance(self) -> Tensor:
        return self.loc**3 / self.concentration


@path.register
def inverse_gaussian_path(d: InverseGaussian) -> Path:
    """`log(x / loc)` is the quantile of a law with one parameter, `phi = concentration / loc`, solved on the smaller tail.

    With `a, b = sqrt(phi) (s -+ 1/s)`, `s = sqrt(x / loc)`, and Mills' ratio `M`, the tails are `phi(a) (M(a) - M(b))` above and
    `phi(a) (M(-a) + M(b))` below; the slopes are of the same parts, and none of them is a difference of larger numbers.
    """
    loc, concentration = d.loc, d.concentration
    phi = concentration / loc

    def push(eps: Tensor) -> Tensor:
        with torch.no_grad():
            # In float64: the difference of Mills' ratios loses digits where they are not in the far tail.
            value = _solve(eps.detach().double(), phi.detach().double()).to(phi.dtype)
        y = with_slopes(value, _quantile_slopes, eps, phi)
        return normal_exp(loc.log() + y)

    def pull(x: Tensor) -> Tensor:
        y = x.log() - loc.log()
        with torch.no_grad():
            value = _log_tails(y.detach().double(), phi.detach().double())[1].neg().to(phi.dtype)
        return with_slopes(value, _hazard_slopes, y, phi)

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        shape = phi.expand(rows + phi.shape)
        with torch.no_grad():
            value = _root(shape.detach().double(), generator).to(phi.dtype)
        y = with_slopes(value, lambda y, phi: (_phi_slope(y, phi),), shape)
        return normal_exp(loc.log() + y)

    return Path(noise_like(loc, EXPONENTIAL), push, pull, sample)


def _root(phi: Tensor, generator: torch.Generator | None) -> Tensor:
    """Fresh samples of `y`: `4 phi sinh(y/2)^2` is the square of a normal variable, and `P(y < 0)` given `|y|` a sigmoid.

    Source: Michael, Schucany and Haas (1976), "Generating random variates using transformations with multiple roots".
    """
    source = Fresh(generator)
    z, u = (Noise(kind, phi.shape, phi.dtype, phi.device).draw(source=source) for kind in (NORMAL, UNIFORM))
    size = 2 * torch.asinh(z.abs() / (2 * torch.sqrt(phi)))
    return torch.where(u < torch.sigmoid(size), -size, size)


def _arguments(y: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    root = 2 * torch.sqrt(phi)
    return root * torch.sinh(y / 2), root * torch.cosh(y / 2)


def _log_density(y: Tensor, phi: Tensor, a: Tensor) -> Tensor:
    """That of `y = log(x / loc)`."""
    return (torch.log(phi / (2 * math.pi)) - y - a**2) / 2


def _phi_slope(y: Tensor, phi: Tensor) -> Tensor:
    """The slope of the quantile `y`: `M(b) (K(b) - a) / phi` with `K(b) = 1/M(b) - b`."""
    a, b = _arguments(y, phi)
    return (normal_excess(-b) - a) / (normal_ratio(-b) * phi)


def _quantile_slopes(y: Tensor, eps: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    return torch.exp(-eps - _log_density(y, phi, _arguments(y, phi)[0])), _phi_slope(y, phi)


def _hazard_slopes(eps: Tensor, y: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    # Above the middle the density over its tail is of Mills' ratios: density and hazard, both huge, would leave no digit.
    upper = y > 0
    above = torch.where(upper, y, 0.0).double()
    log_ratio = _log_upper_ratio(above, phi.double())
    far = torch.exp(phi.double().log() / 2 - above / 2 - log_ratio).to(y.dtype)
    below = torch.where(upper, 0.0, y)
    near = torch.exp(_log_density(below, phi, _arguments(below, phi)[0]) + torch.where(upper, 0.0, eps))
    rate = torch.where(upper, far, near)
    return rate, -rate * _phi_slope(y, phi)


def _log_upper_ratio(y: Tensor, phi: Tensor) -> Tensor:
    """`log(M(a) - M(b))` where `a > 0`: the integral of `-M' = M(t) K(t)` over `[a, b]`, by quadrature where the step is short."""
    a, b = _arguments(y, phi)
    width = 2 * torch.sqrt(phi) * torch.exp(-y / 2)
    short = torch.zeros_like(y)
    step = width.clamp(max=0.25)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        t = -(a.clamp(min=0.0) + node * step)
        short = short + weight * step * normal_excess(t) / normal_ratio(t)
    upper = torch.where(width < 0.25, short, 1 / normal_ratio(-a.clamp(min=0.0)) - 1 / normal_ratio(-b))
    return torch.log(upper.clamp(min=torch.finfo(y.dtype).tiny))


def _log_tails(y: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """`log P(Y <= y)` and `log P(Y > y)`, each exact where it is the smaller one."""
    a, b = _arguments(y, phi)
    log_phi = -(a**2) / 2 - math.log(2 * math.pi) / 2
    log_upper = log_phi + _log_upper_ratio(y, phi)
    below = log_ndtr(a.clamp(max=0.0))
    log_lower = torch.logaddexp(below, log_phi - torch.log(normal_ratio(-b)))
    # Each where a has its sign; the other one by complement.
    positive = a > 0
    upper_side = torch.where(positive, log_upper, -1.0)
    other = -reflect_exponential(-torch.where(positive, -1.0, log_lower).clamp(max=-torch.finfo(y.dtype).eps))
    log_above = torch.where(positive, log_upper, other)
    return torch.where(positive, torch.log1p(-torch.exp(upper_side)), log_lower), log_above


def _solve(eps: Tensor, phi: Tensor) -> Tensor:
    log_below = torch.log(-torch.expm1(-eps))
    # The law of y is log-concave, and so are its tails: from a normal guess at the mode Halley's steps stay on their way.
    mode = -torch.asinh(1 / (2 * phi))
    bend = phi * torch.cosh(mode)
    split = _log_tails(torch.zeros_like(phi), phi)[1]
    upper = eps > -split
    y = mode + normal_from_hazard(eps) / torch.sqrt(bend)
    y = torch.where(upper, y.clamp(min=0.0), y.clamp(max=0.0))
    sign = torch.where(upper, -1.0, 1.0).to(y.dtype)
    for _ in range(12):
        y = torch.where(upper, y.clamp(min=0.0), y.clamp(max=0.0))
        below, above = _log_tails(y, phi)
        tail = torch.where(upper, above, below)
        a, b = _arguments(y, phi)
        slope = sign * torch.exp(_log_density(y, phi, a) - tail)
        off = tail - torch.where(upper, -eps, log_below)
        step = off / slope
        curve = -0.5 - a * b / 2 - slope  # the second derivative of log tail over the first
        y = y - (step / (1 - (step * curve / 2).clamp(-4.0, 0.5))).clamp(-3.0, 3.0)
    return y


@register_kl(InverseGaussian, InverseGaussian)  # type: ignore[untyped-decorator]
def _kl(p: InverseGaussian, q: InverseGaussian) -> Tensor:
    ratio = q.concentration / p.concentration
    gap = q.concentration * (p.loc - q.loc) ** 2 / (2 * q.loc**2 * p.loc)
    return gap + (ratio - 1 - ratio.log()) / 2
