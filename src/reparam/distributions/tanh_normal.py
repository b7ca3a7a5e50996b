"""The tanh-normal law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal, constraints, kl_divergence, register_kl

from reparam.distributions.law import Univariate
from reparam.noise import NORMAL, Source
from reparam.paths.joint import sample_and_log_prob
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special.averages import sigmoid_moments, softplus_mean
from reparam.special.tails import LOG2, log_sech_squared

__all__ = ["TanhNormal"]


class TanhNormal(Univariate):
    """The hyperbolic tangent of a normal law: the squashed policy of soft actor-critic.

    Formula: `atanh(x) ~ Normal(loc, scale)`.

    Samples lie inside (-1, 1) and `log_prob` is finite at each. Near the ends they forget their `atanh`, so take the density of a
    fresh sample from `sample_and_log_prob`, which is exact: `log N(y) - log(1 - tanh(y)**2)` at `y` itself.
    Mean, variance and entropy are sums over fixed nodes, exact to rounding.

    Args:
        loc: atanh of the median.
        scale: positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: arXiv:1801.01290, appendix C.

    Example:
        >>> import torch
        >>> from reparam.paths import sample_and_log_prob
        >>> policy = TanhNormal(torch.zeros(3), 5.0)
        >>> action, log_prob = sample_and_log_prob(policy, (1000,))
        >>> bool((action.abs() < 1).all() and log_prob.isfinite().all())
        True
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.interval(-1.0, 1.0)
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, scale=scale)

    def _normal(self) -> Normal:
        return Normal(self.loc, self.scale, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        ends = x.abs() == 1
        y = torch.atanh(torch.where(ends, 0.0, x))
        return torch.where(ends, -torch.inf, self._normal().log_prob(y) - log_sech_squared(y))

    @property
    def mean(self) -> Tensor:
        return 2 * sigmoid_moments(2 * self.loc, 2 * self.scale)[0] - 1

    @property
    def variance(self) -> Tensor:
        return 4 * sigmoid_moments(2 * self.loc, 2 * self.scale)[1]

    def entropy(self) -> Tensor:
        normal: Tensor = self._normal().entropy()
        return normal + 2 * (LOG2 + self.loc - softplus_mean(2 * self.loc, 2 * self.scale))


@path.register
def tanh_normal_path(d: TanhNormal) -> Path:
    """`x = tanh(loc + scale * eps)`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        return representable(torch.tanh(torch.addcmul(loc, scale, eps)), d.support)

    return Path(noise_like(loc, NORMAL), push, lambda x: (torch.atanh(x) - loc) / scale)


@sample_and_log_prob.register
def _joint(d: TanhNormal, rows: torch.Size, source: Source | None) -> tuple[Tensor, Tensor]:
    p = path.part(d)
    eps = p.noise.draw(rows, source=source)
    density = -eps.square() / 2 - math.log(2 * math.pi) / 2 - d.scale.log() - log_sech_squared(torch.addcmul(d.loc, d.scale, eps))
    return p.push(eps), density


@register_kl(TanhNormal, TanhNormal)  # type: ignore[untyped-decorator]
def _kl(p: TanhNormal, q: TanhNormal) -> Tensor:
    return kl_divergence(p._normal(), q._normal())
