"""The sinh-arcsinh law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Univariate
from reparam.noise import NORMAL
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special.averages import normal_average
from reparam.special.saturate import bounded_quotient, finite_sinh
from reparam.special.tails import LOG2

__all__ = ["SinhArcsinh"]


class SinhArcsinh(Univariate):
    """A normal law with a skewness and tails of any weight.

    Formula: `x = loc + scale * sinh((asinh(z) + skewness) * tailweight)` with normal `z`.

    Mean, variance and entropy are sums over fixed nodes, exact to rounding for a tailweight up to 5.

    Args:
        loc: where `x` is for `z = -sinh(skewness)`; the median without skewness.
        scale: positive.
        skewness: positive for a longer upper tail; 0 is symmetric.
        tailweight: positive; above 1 for tails heavier than normal, below for lighter ones.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Jones and Pewsey (2009), "Sinh-arcsinh distributions", with `epsilon / delta` for the skewness times tailweight
    and `1 / delta` for the tailweight.

    Example:
        >>> import torch
        >>> q = SinhArcsinh(torch.zeros(3), 1.0, 0.5, torch.tensor([0.5, 1.0, 2.0]))
        >>> q.rsample((5,)).shape, q.log_prob(torch.zeros(3)).shape
        (torch.Size([5, 3]), torch.Size([3]))
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "skewness": constraints.real,
        "tailweight": constraints.positive,
    }
    support = constraints.real
    loc: Tensor
    scale: Tensor
    skewness: Tensor
    tailweight: Tensor

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        skewness: Tensor | float,
        tailweight: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        self._set(validate_args, loc=loc, scale=scale, skewness=skewness, tailweight=tailweight)

    def _log_density(self, x: Tensor) -> Tensor:
        y = bounded_quotient(x - self.loc, self.scale)
        z = finite_sinh(torch.asinh(y) / self.tailweight - self.skewness)
        one = torch.ones_like(z)
        slope = torch.hypot(one, z).log() - torch.hypot(one, y).log() - self.tailweight.log() - self.scale.log()
        return slope - z.square() / 2 - math.log(2 * math.pi) / 2

    def _even(self, order: int) -> Tensor:
        """`E cosh(order * tailweight * asinh(Z)) - 1`, without cancellation."""
        return 2 * normal_average(lambda z: torch.sinh(torch.asinh(z) * self.tailweight * (order / 2)).square(), self.tailweight)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * torch.sinh(self.skewness * self.tailweight) * (1 + self._even(1))

    @property
    def variance(self) -> Tensor:
        first, second = self._even(1), self._even(2)
        lean = torch.sinh(self.skewness * self.tailweight).square()
        leaning = torch.where(lean == 0, 0.0, lean * (second - first * (2 + first)))
        return self.scale.square() * torch.where(second == torch.inf, second, second / 2 + leaning)

    def entropy(self) -> Tensor:
        def log_slope(z: Tensor) -> Tensor:
            grown = ((torch.asinh(z) + self.skewness) * self.tailweight).abs()
            return grown + torch.log1p(torch.exp(-2 * grown)) - LOG2 - torch.log1p(z * z) / 2

        normal = 0.5 + math.log(2 * math.pi) / 2
        return normal + self.scale.log() + self.tailweight.log() + normal_average(log_slope, self.loc)


@path.register
def sinh_arcsinh_path(d: SinhArcsinh) -> Path:
    """`x = loc + scale * sinh((asinh(eps) + skewness) * tailweight)`."""
    loc, scale, skewness, tailweight = d.loc, d.scale, d.skewness, d.tailweight

    def push(eps: Tensor) -> Tensor:
        return representable(torch.addcmul(loc, scale, finite_sinh((torch.asinh(eps) + skewness) * tailweight)), d.support)

    def pull(x: Tensor) -> Tensor:
        return finite_sinh(torch.asinh((x - loc) / scale) / tailweight - skewness)

    return Path(noise_like(loc, NORMAL), push, pull)
