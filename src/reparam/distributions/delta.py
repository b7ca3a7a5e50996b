"""The law of a value that is certain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from reparam.distributions.law import Univariate
from reparam.noise import NORMAL
from reparam.paths.path import Path, noise_like, path

__all__ = ["Delta"]


class Delta(Univariate):
    """A point mass: every sample is the value, with its gradient.

    `log_prob` is `log_density` at the value and minus infinity elsewhere: a density with respect to the mass itself.

    Args:
        value: a real number; `torch.distributions.Independent` makes a vector of several.
        log_density: of the value; 0 unless the point is the image of a sample under a change of variables.

    Raises:
        ValueError: for values that are not finite, as torch's laws do.

    Example:
        >>> import torch
        >>> q = Delta(torch.tensor([1.0, 2.0]))
        >>> q.rsample((3,)).shape, q.log_prob(torch.tensor([1.0, 0.0]))
        (torch.Size([3, 2]), tensor([0., -inf]))
    """

    arg_constraints = {"value": constraints.real, "log_density": constraints.real}
    support = constraints.real
    value: Tensor
    log_density: Tensor

    def __init__(self, value: Tensor | float, log_density: Tensor | float = 0.0, validate_args: bool | None = None) -> None:
        self._set(validate_args, value=value, log_density=log_density)

    def _log_density(self, x: Tensor) -> Tensor:
        return torch.where(x == self.value, self.log_density, -torch.inf)

    @property
    def mean(self) -> Tensor:
        return self.value

    @property
    def mode(self) -> Tensor:
        return self.value

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.value)

    def entropy(self) -> Tensor:
        return -self.log_density

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return (value >= self.value).to(self.value.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        """The value, whatever the probability."""
        return torch.where((value >= 0) & (value <= 1), self.value, torch.nan)


@path.register
def delta_path(d: Delta) -> Path:
    """`x = value`: no noise at all."""
    value = d.value
    return Path(
        noise_like(value, NORMAL, torch.Size([*value.shape, 0])),
        lambda eps: value.expand(eps.shape[:-1]),
        lambda x: x.new_empty((*x.shape, 0)),
    )


@register_kl(Delta, Distribution)  # type: ignore[untyped-decorator]
def _kl(p: Delta, q: Distribution) -> Tensor:
    log_prob: Tensor = q.log_prob(p.value)
    return p.log_density - log_prob
