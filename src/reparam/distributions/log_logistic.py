"""The log-logistic law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from reparam.distributions.law import Univariate
from reparam.noise import EXPONENTIAL, reflect_exponential
from reparam.paths.path import Path, noise_like, path
from reparam.special import normal_exp

__all__ = ["LogLogistic"]


class LogLogistic(Univariate):
    """The log-logistic or Fisk law: the exponential of a logistic one, with power tails at both ends.

    Formula: `P(X > x) = 1 / (1 + (x / scale)**concentration)`.

    Args:
        scale: positive; the median.
        concentration: positive; moments of this order and above are infinite.

    Raises:
        ValueError: for parameters out of range, as torch's laws do.

    Source: Johnson, Kotz and Balakrishnan (1995), Continuous Univariate Distributions 2, chapter 23.

    Example:
        >>> import torch
        >>> q = LogLogistic(torch.ones(3), torch.tensor([1.0, 2.0, 4.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 3]), tensor([   inf, 1.5708, 1.1107]))
    """

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    scale: Tensor
    concentration: Tensor

    def __init__(self, scale: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        self._set(validate_args, scale=scale, concentration=concentration)

    def _log_density(self, x: Tensor) -> Tensor:
        z = self.concentration * (x.log() - self.scale.log())
        return logsigmoid(z) + logsigmoid(-z) + self.concentration.log() - x.log()

    def _angle(self, order: int) -> tuple[Tensor, Tensor]:
        """Whether a moment exists, and `pi / concentration`, within its bounds."""
        exists = self.concentration > order
        return exists, math.pi / torch.where(exists, self.concentration, 2.0 * order)

    @property
    def mean(self) -> Tensor:
        exists, b = self._angle(1)
        return torch.where(exists, self.scale * b / b.sin(), torch.inf)

    @property
    def mode(self) -> Tensor:
        c = self.concentration
        has = c > 1
        safe = torch.where(has, c, 2.0)
        return torch.where(has, self.scale * torch.exp(torch.log((safe - 1) / (safe + 1)) / safe), 0.0)

    @property
    def variance(self) -> Tensor:
        exists, b = self._angle(2)
        return torch.where(exists, self.scale.square() * b * (b.tan() - b) / b.sin().square(), torch.inf)

    def entropy(self) -> Tensor:
        return self.scale.log() - self.concentration.log() + 2


@path.register
def log_logistic_path(d: LogLogistic) -> Path:
    """`log x = log scale + (eps + log(1 - exp(-eps))) / concentration`."""
    scale, concentration = d.scale, d.concentration

    def push(eps: Tensor) -> Tensor:
        return normal_exp(scale.log() + (eps - reflect_exponential(eps)) / concentration)

    return Path(noise_like(scale, EXPONENTIAL), push, lambda x: -logsigmoid(concentration * (scale.log() - x.log())))
