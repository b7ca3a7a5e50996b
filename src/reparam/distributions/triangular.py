"""The triangular law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special.tails import LOG2

__all__ = ["Triangular"]


class Triangular(Univariate):
    """A density that rises linearly to a peak and falls linearly from it.

    Formula: `p(peak) = 2 / (high - low)`.

    Args:
        low, high: the ends, `low < high`.
        peak: the mode, between them or on one of them.

    Raises:
        ValueError: for ends or a peak out of order.

    Source: Kotz and van Dorp (2004), Beyond Beta, chapter 1.

    Example:
        >>> import torch
        >>> q = Triangular(torch.zeros(3), 1.0, torch.tensor([0.0, 0.2, 1.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([0.3333, 0.4000, 0.6667]))
    """

    low: Tensor
    high: Tensor
    peak: Tensor

    def __init__(self, low: Tensor | float, high: Tensor | float, peak: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, low=low, high=high, peak=peak)

    @property
    def arg_constraints(self) -> dict[str, Constraint]:
        return {
            "low": constraints.real,
            "high": constraints.greater_than(self.low),
            "peak": constraints.interval(self.low, self.high),
        }

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Constraint:
        return constraints.interval(self.low, self.high)

    def _sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """The width, and the shares of it below and above the peak."""
        width = self.high - self.low
        return width, (self.peak - self.low) / width, (self.high - self.peak) / width

    def _log_density(self, x: Tensor) -> Tensor:
        width = self.high - self.low
        rising = x < self.peak
        run, side = (
            torch.where(rising, x - self.low, self.high - x),
            torch.where(rising, self.peak - self.low, self.high - self.peak),
        )
        top = x == self.peak  # which may be an end, with no run up to it
        end = (run <= 0) & ~top  # where the density is zero, and its logarithm has no slope
        height = torch.where(top | end, 1.0, run) / torch.where(top, 1.0, side)
        return torch.where(end, -torch.inf, LOG2 - width.log() + height.log())

    @property
    def mean(self) -> Tensor:
        return self.low / 3 + self.high / 3 + self.peak / 3

    @property
    def mode(self) -> Tensor:
        return self.peak

    @property
    def variance(self) -> Tensor:
        width, below, above = self._sides()
        return width.square() * (1 - below * above) / 18

    def entropy(self) -> Tensor:
        return 0.5 - LOG2 + (self.high - self.low).log()


@path.register
def triangular_path(d: Triangular) -> Path:
    """`x = low + width * sqrt(F * below)` up to the peak, `high - width * sqrt(S * above)` from it; F and S are the two tails."""
    low, high, peak = d.low, d.high, d.peak
    width, below, above = d._sides()
    # Each branch sees only arguments it can bear, so that no infinite derivative leaks through `where`.
    some_below, some_above = torch.where(below > 0, below, 1.0), torch.where(above > 0, above, 1.0)

    def push(eps: Tensor) -> Tensor:
        f, s = -torch.expm1(-eps), torch.exp(-eps)
        rising = f < below
        root = torch.sqrt(torch.where(rising, f * some_below, s * some_above))
        # The distance from the other end, 1 - root, without cancellation.
        rest = torch.where(rising, above + below * s, below + above * f) / (1 + root)
        from_low, from_high = torch.where(rising, root, rest), torch.where(rising, rest, root)
        return representable(torch.where(f < s, low + width * from_low, high - width * from_high), d.support)

    def pull(x: Tensor) -> Tensor:
        t, r = (x - low) / width, (high - x) / width
        rising = x < peak
        f = torch.where(rising, t.square() / some_below, (2 * t - t.square() - below) / some_above)
        s = torch.where(rising, (2 * r - r.square() - above) / some_below, r.square() / some_above)
        upper = s < f
        return torch.where(upper, -torch.log(torch.where(upper, s, 1.0)), -torch.log1p(-torch.where(upper, 0.0, f)))

    return Path(noise_like(low, EXPONENTIAL), push, pull)
