"""Any univariate law, given that it falls between two bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, readable, reflect_exponential
from reparam.paths.cumulative import ends, icdf_from_log, log_cdf, log_survival
from reparam.paths.parameters import check_parameters
from reparam.paths.path import Path, noise_like, path
from reparam.special.tails import LOG2

__all__ = ["Truncated"]


class Truncated(Univariate):
    """A univariate law, given that it falls between two bounds.

    `p(x) = p_base(x) / P(low < X < high)` for `low <= x <= high`. Probabilities are logarithms, of the smaller tail: a window
    far out in a tail is good as long as the quantiles of the law reach it and its log-probability has digits behind the point.
    The mass of a window narrower than the rounding of the distribution function is lost. `TruncatedNormal` has none of these
    limits, and closed moments.

    Args:
        base_dist: any univariate law whose path has an inverse.
        low: the lower bound; None for none. It broadcasts with the batch of the law, as `high` does.
        high: the upper bound; None for none.

    Raises:
        NoPathError: when the law has no distribution function here.
        ValueError: when the law is not univariate, a lower bound is not below its upper one, or the window is out of reach.

    Example:
        >>> import torch
        >>> d = Truncated(torch.distributions.Gumbel(0.0, torch.tensor(2.0, requires_grad=True)), low=1.0, high=3.0)
        >>> x = d.rsample((1000,))
        >>> bool(((1 <= x) & (x <= 3)).all()), x.requires_grad
        (True, True)
    """

    arg_constraints = {}

    def __init__(
        self,
        base_dist: Distribution,
        low: Tensor | float | None = None,
        high: Tensor | float | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if base_dist.event_shape:
            raise ValueError(
                f"Truncated takes a univariate law; {type(base_dist).__name__} has events of shape {tuple(base_dist.event_shape)}"
            )
        dtypes, noise = check_parameters(base_dist), path(base_dist).noise
        dtype = dtypes.pop() if len(dtypes) == 1 else noise.dtype
        limit = torch.finfo(dtype).max
        # An infinite bound in a tensor is the largest float: a path is given finite parameters only.
        self.low, self.high = (
            None if bound is None else torch.as_tensor(bound, dtype=dtype, device=noise.device).clamp(-limit, limit)
            for bound in (low, high)
        )
        shapes = [bound.shape for bound in (self.low, self.high) if bound is not None]
        batch_shape = torch.broadcast_shapes(base_dist.batch_shape, *shapes)
        self.base_dist = base_dist if base_dist.batch_shape == batch_shape else base_dist.expand(batch_shape)
        Distribution.__init__(self, batch_shape, validate_args=validate_args)
        if self._validate_args and all(bound is None or readable(bound) for bound in (self.low, self.high)):
            low, high = self._ends()
            bad = ~(low < high)
            if readable(bad) and bad.any():
                raise ValueError(
                    f"Truncated {type(base_dist).__name__}: the window goes from {low[bad][0].item()} to {high[bad][0].item()}; "
                    "low must lie below high, and both inside the support"
                )
            middle = self._middle(low.dtype)
            lost = ~((low <= middle) & (middle <= high))
            if readable(lost) and lost.any():
                raise ValueError(
                    f"Truncated {type(base_dist).__name__}: the window from {low[lost][0].item()} to {high[lost][0].item()} lies "
                    f"further out than the quantiles of the law reach in {low.dtype}; use torch.float64, or TruncatedNormal"
                )

    def _ends(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper end of the support, of the batch shape."""
        low, high = ends(self.base_dist.support)
        if self.low is not None:
            low = torch.maximum(self.low, torch.as_tensor(low).to(self.low))
        if self.high is not None:
            high = torch.minimum(self.high, torch.as_tensor(high).to(self.high))
        return torch.as_tensor(low).expand(self.batch_shape), torch.as_tensor(high).expand(self.batch_shape)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        return constraints.interval(*self._ends())

    def expand(self, batch_shape: Any, _instance: Any = None) -> Truncated:
        new: Truncated = self._get_checked_instance(Truncated, _instance)
        batch_shape = torch.Size(batch_shape)
        new.base_dist = self.base_dist.expand(batch_shape)
        new.low, new.high = (None if bound is None else bound.expand(batch_shape) for bound in (self.low, self.high))
        Distribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _tails(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The logs of the probabilities below and above the lower bound, and below and above the upper bound."""
        low, high = self._ends()
        low = low if self.low is None else self.low
        high = high if self.high is None else self.high
        below, above = _logs(self.base_dist, low), _logs(self.base_dist, high)
        return *below, *above

    def _middle(self, dtype: torch.dtype) -> Tensor:
        """The median."""
        with torch.no_grad():
            tails = self._tails()
            return _from_tails(self.base_dist, *tails, torch.as_tensor(LOG2, dtype=dtype, device=tails[0].device))

    def _inner(self, value: Tensor) -> Tensor:
        middle = self._middle(value.dtype)
        return middle.expand_as(value + middle)

    def _log_density(self, x: Tensor) -> Tensor:
        return self.base_dist.log_prob(x) - _log_mass(*self._tails())


def _logs(d: Distribution, x: Tensor) -> tuple[Tensor, Tensor]:
    return log_cdf(d, x), log_survival(d, x)


def _log_mass(below_low: Tensor, above_low: Tensor, below_high: Tensor, above_high: Tensor) -> Tensor:
    """The log-probability of a window, from those of the tails at its ends: a difference on the side where it is small."""
    right, left = above_low < -LOG2, below_high < -LOG2  # of the median
    outer, inner = torch.where(right, above_low, below_high), torch.where(right, above_high, below_low)
    one_sided = right | left
    outer, inner = torch.where(one_sided, outer, 0.0), torch.where(one_sided, inner, -1.0)
    both = torch.where(one_sided, 0.0, torch.exp(below_low) + torch.exp(above_high))
    return torch.where(one_sided, outer - reflect_exponential(outer - inner), torch.log1p(-both))


def _from_tails(
    d: Distribution, below_low: Tensor, above_low: Tensor, below_high: Tensor, above_high: Tensor, eps: Tensor
) -> Tensor:
    """The value with `P(X > x | window) = exp(-eps)`: its tails are means of those at the ends, sums of positive terms."""
    log_q = -reflect_exponential(eps)
    below, above = _log_sum(below_low - eps, below_high + log_q), _log_sum(above_low - eps, above_high + log_q)
    small = below < -LOG2
    lower = icdf_from_log(d, log_cdf=torch.where(small, below, -1.0))
    return torch.where(small, lower, icdf_from_log(d, log_survival=torch.where(small, -1.0, above)))


def _log_sum(a: Tensor, b: Tensor) -> Tensor:
    # Its derivatives of any order bear minus infinity, which those of torch.logaddexp do not.
    return torch.logsumexp(torch.stack(torch.broadcast_tensors(a, b)), 0)


@path.register
def truncated_path(d: Truncated) -> Path:
    """`x = Q(eps)`, `P(X > x) = exp(-eps) P(X > low) + (1 - exp(-eps)) P(X > high)` under the law that is truncated."""
    base, tails = d.base_dist, d._tails()

    def push(eps: Tensor) -> Tensor:
        x = _from_tails(base, *tails, eps)
        low, high = d._ends()
        return x + (torch.maximum(torch.minimum(x, high), low) - x).detach()

    def pull(x: Tensor) -> Tensor:
        at = _logs(base, x)
        whole = _log_mass(*tails)
        under, over = _log_mass(*tails[:2], *at) - whole, _log_mass(*at, *tails[2:]) - whole
        less = under < over
        return torch.where(less, -torch.log1p(-torch.exp(torch.where(less, under, -1.0))), -over)

    return Path(noise_like(tails[0], EXPONENTIAL, d.batch_shape), push, pull)
