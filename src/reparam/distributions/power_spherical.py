"""The power spherical law."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.hyperspherical_uniform import HypersphericalUniform, directed, same_sphere, unit, unit_vector
from reparam.distributions.law import Law
from reparam.noise import NORMAL, Fresh
from reparam.paths.beta import logit_beta_sample
from reparam.paths.path import Path, noise_like, path
from reparam.special.beta import logit_beta_quantile
from reparam.special.normal import hazard_from_normal
from reparam.special.tails import LOG2

__all__ = ["PowerSpherical"]


class PowerSpherical(Law):
    """Directions around `loc`, with a closed entropy: near to von Mises and Fisher's law of the same concentration.

    Density: proportional to `(1 + loc . x) ** scale` on the unit sphere; `(1 + loc . x) / 2` is a beta variable.

    Args:
        loc: the mean direction, of length one, of shape `batch + (d,)` with `d >= 2`.
        scale: the concentration, not negative, of shape `batch`.

    Raises:
        ValueError: for a dimension below 2, and for parameters out of range as torch's laws do.

    Source: De Cao and Aziz, arXiv:2006.04437.

    Example:
        >>> import torch
        >>> d = PowerSpherical(torch.tensor([0.0, 1.0]), 3.0)
        >>> d.rsample((7,)).shape, d.mean
        (torch.Size([7, 2]), tensor([0.0000, 0.7500]))
    """

    arg_constraints = {"loc": unit_vector, "scale": constraints.nonnegative}
    support = unit_vector
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor, scale: Tensor | float, validate_args: bool | None = None) -> None:
        scale = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(f"loc has shape {tuple(loc.shape)}; a direction takes a last dimension of at least 2")
        batch = torch.broadcast_shapes(loc.shape[:-1], scale.shape)
        self.loc, self.scale = loc.expand(batch + loc.shape[-1:]), scale.expand(batch)
        super().__init__(batch, loc.shape[-1:], validate_args)

    @property
    def _shapes(self) -> tuple[Tensor, float]:
        """Those of the beta variable."""
        half = (self.event_shape[0] - 1) / 2
        return self.scale + half, half

    def _log_total(self) -> Tensor:
        """`log` of the integral of `((1 + loc . x) / 2) ** scale` over the sphere."""
        a, b = self._shapes
        return (2 * b) * LOG2 + b * math.log(math.pi) + torch.lgamma(a) - torch.lgamma(a + b)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the surface."""
        if self._validate_args:
            self._validate_sample(value)
        # A quarter of the squared distance is one less the beta variable, exact where the vectors are close.
        lacking = ((value - unit(self.loc)).square().sum(-1) / 4).clamp(max=1 - torch.finfo(value.dtype).eps / 2)
        # Rounding, of half precision too, leaves the sphere by less.
        on_sphere = (torch.linalg.vector_norm(value.detach(), dim=-1) - 1).abs() < 0.01
        return torch.where(on_sphere, self.scale * torch.log1p(-lacking) - self._log_total(), -torch.inf)

    def entropy(self) -> Tensor:
        a, b = self._shapes
        return self._log_total() - self.scale * (torch.digamma(a) - torch.digamma(a + b))

    @property
    def mean(self) -> Tensor:
        a, b = self._shapes
        return unit(self.loc) * (self.scale / (a + b)).unsqueeze(-1)

    @property
    def mode(self) -> Tensor:
        return unit(self.loc)

    @property
    def variance(self) -> Tensor:
        """Of each component."""
        a, b = self._shapes
        along = 4 * a * b / ((a + b) ** 2 * (a + b + 1))
        across = (1 - along - (self.scale / (a + b)) ** 2) / (2 * b)
        square = unit(self.loc) ** 2
        return along.unsqueeze(-1) * square + across.unsqueeze(-1) * (1 - square)


@path.register
def power_spherical_path(d: PowerSpherical) -> Path:
    """The first value of the noise becomes the angle `t` from `loc`, `2 log cot(t/2)` the quantile of a logit-beta variable."""
    loc = d.loc
    a, b = d._shapes

    noise = noise_like(loc, NORMAL)

    def place(logit: Tensor, across: Tensor) -> Tensor:
        sine = 2 * torch.exp(-logit.abs() / 2) / (1 + torch.exp(-logit.abs()))
        return directed(loc, torch.tanh(logit / 2), sine, across)

    def push(eps: Tensor) -> Tensor:
        return place(logit_beta_quantile(a, torch.full_like(a, b), hazard_from_normal(eps[..., 0])), eps[..., 1:])

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        logit = logit_beta_sample(a, torch.full_like(a, b), rows, generator).to(loc.dtype)
        return place(logit, noise.draw(rows, source=Fresh(generator))[..., 1:])

    return Path(noise, push, None, sample)


@register_kl(PowerSpherical, HypersphericalUniform)  # type: ignore[untyped-decorator]
def _kl_uniform(p: PowerSpherical, q: HypersphericalUniform) -> Tensor:
    same_sphere(p, q)
    return q.entropy() - p.entropy()
