"""The logit-normal law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal, constraints, kl_divergence, register_kl
from torch.nn.functional import logsigmoid

from reparam.distributions.law import Univariate
from reparam.noise import NORMAL, Source
from reparam.paths.joint import sample_and_log_prob
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special.averages import sigmoid_moments, softplus_mean

__all__ = ["LogitNormal"]


class LogitNormal(Univariate):
    """The logistic sigmoid of a normal law.

    Formula: `logit(x) ~ Normal(loc, scale)`.

    Mean, variance and entropy are sums over fixed nodes, exact to rounding. A sample within a rounding of one forgets its logit:
    `sample_and_log_prob` gives its exact density along with it.

    Args:
        loc: the logit of the median.
        scale: positive.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Atchison and Shen (1980), "Logistic-normal distributions: some properties and uses".

    Example:
        >>> import torch
        >>> q = LogitNormal(torch.zeros(3), torch.tensor([0.1, 1.0, 10.0]))
        >>> q.rsample((5,)).shape, q.stddev
        (torch.Size([5, 3]), tensor([0.0249, 0.2083, 0.4591]))
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.unit_interval
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, loc=loc, scale=scale)

    def _normal(self) -> Normal:
        return Normal(self.loc, self.scale, validate_args=False)

    def _log_density_of_logit(self, logit: Tensor) -> Tensor:
        normal: Tensor = self._normal().log_prob(logit)
        return normal - logsigmoid(logit) - logsigmoid(-logit)

    def _log_density(self, x: Tensor) -> Tensor:
        ends = (x == 0) | (x == 1)
        return torch.where(ends, -torch.inf, self._log_density_of_logit(torch.logit(torch.where(ends, 0.5, x))))

    @property
    def mean(self) -> Tensor:
        return sigmoid_moments(self.loc, self.scale)[0]

    @property
    def variance(self) -> Tensor:
        return sigmoid_moments(self.loc, self.scale)[1]

    def entropy(self) -> Tensor:
        # log p'(logit) = -log(1 + exp(-logit)) - log(1 + exp(logit)), and the second is the first plus the logit.
        normal: Tensor = self._normal().entropy()
        return normal + self.loc - 2 * softplus_mean(self.loc, self.scale)


@path.register
def logit_normal_path(d: LogitNormal) -> Path:
    """`x = sigmoid(loc + scale * eps)`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        return representable(torch.sigmoid(torch.addcmul(loc, scale, eps)), d.support)

    return Path(noise_like(loc, NORMAL), push, lambda x: (torch.logit(x) - loc) / scale)


@sample_and_log_prob.register
def _joint(d: LogitNormal, rows: torch.Size, source: Source | None) -> tuple[Tensor, Tensor]:
    p = path.part(d)
    eps = p.noise.draw(rows, source=source)
    logit = torch.addcmul(d.loc, d.scale, eps)
    density = -eps.square() / 2 - math.log(2 * math.pi) / 2 - d.scale.log() - logsigmoid(logit) - logsigmoid(-logit)
    return p.push(eps), density


@register_kl(LogitNormal, LogitNormal)  # type: ignore[untyped-decorator]
def _kl(p: LogitNormal, q: LogitNormal) -> Tensor:
    return kl_divergence(p._normal(), q._normal())
