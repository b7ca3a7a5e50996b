"""The law of von Mises and Fisher on a sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from reparam.distributions.hyperspherical_uniform import HypersphericalUniform, directed, log_sphere, same_sphere, unit, unit_vector
from reparam.distributions.law import Law
from reparam.noise import NORMAL, Fresh, readable
from reparam.paths.path import Path, noise_like, path
from reparam.special.normal import hazard_from_normal
from reparam.special.von_mises import angle_draw, angle_quantile, log_angle_integral, mean_cosine_deficit

__all__ = ["VonMisesFisher"]


class VonMisesFisher(Law):
    """Directions around `loc`: a normal vector of covariance `1 / concentration` around it, given that its length is one.

    Density: proportional to `exp(concentration * loc . x)` on the unit sphere.

    Args:
        loc: the mean direction, of length one, of shape `batch + (d,)` with `d >= 2`.
        concentration: not negative, of shape `batch`.

    Raises:
        ValueError: for a dimension below 2, and for parameters out of range as torch's laws do.

    Source: Mardia and Jupp (2000), Directional Statistics, section 9.3.2.

    Example:
        >>> import torch
        >>> kappa = torch.tensor(2.0, requires_grad=True)
        >>> d = VonMisesFisher(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]), kappa)
        >>> d.rsample((7,)).shape
        torch.Size([7, 5])
        >>> torch.autograd.grad(d.mean[0], kappa)[0]
        tensor(0.1474)
    """

    arg_constraints = {"loc": unit_vector, "concentration": constraints.nonnegative}
    support = unit_vector
    loc: Tensor
    concentration: Tensor

    def __init__(self, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None) -> None:
        concentration = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(f"loc has shape {tuple(loc.shape)}; a direction takes a last dimension of at least 2")
        batch = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc, self.concentration = loc.expand(batch + loc.shape[-1:]), concentration.expand(batch)
        super().__init__(batch, loc.shape[-1:], validate_args)

    @property
    def _n(self) -> int:
        return self.event_shape[0] - 2

    def _log_total(self) -> Tensor:
        """`log` of the integral of `exp(concentration (loc . x - 1))` over the sphere."""
        return log_angle_integral(self.concentration, self._n) + log_sphere(self._n + 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the surface."""
        if self._validate_args:
            self._validate_sample(value)
        # One less the cosine of unit vectors, exact where they are close.
        deficit = (value - unit(self.loc)).square().sum(-1) / 2
        # Rounding, of half precision too, leaves the sphere by less.
        on_sphere = (torch.linalg.vector_norm(value.detach(), dim=-1) - 1).abs() < 0.01
        return torch.where(on_sphere, -self.concentration * deficit - self._log_total(), -torch.inf)

    def entropy(self) -> Tensor:
        return self.concentration * mean_cosine_deficit(self.concentration, self._n) + self._log_total()

    @property
    def mean(self) -> Tensor:
        """`loc` times the mean resultant length `I_{d/2}(k) / I_{d/2-1}(k)`."""
        return unit(self.loc) * (1 - mean_cosine_deficit(self.concentration, self._n)).unsqueeze(-1)

    @property
    def mode(self) -> Tensor:
        return unit(self.loc)

    @property
    def variance(self) -> Tensor:
        """Of each component."""
        deficit = mean_cosine_deficit(self.concentration, self._n)
        # The mean of the squared sine is the integral of two more dimensions over the integral.
        square = torch.exp(log_angle_integral(self.concentration, self._n + 2) - log_angle_integral(self.concentration, self._n))
        along, across = deficit * (2 - deficit) - square, square / (self._n + 1)
        square = unit(self.loc) ** 2
        return along.unsqueeze(-1) * square + across.unsqueeze(-1) * (1 - square)


@path.register
def von_mises_fisher_path(d: VonMisesFisher) -> Path:
    """The first value of the noise becomes the angle from `loc`, through its quantile; the others its direction.

    The gradient in `concentration` is implicit, that in `loc` is that of a reflection. On the CPU, outside of torch's transforms,
    fresh angles come from a rejection sampler.
    """
    loc, concentration, n = d.loc, d.concentration, d._n
    noise = noise_like(loc, NORMAL)

    def place(angle: Tensor, across: Tensor) -> Tensor:
        return directed(loc, torch.cos(angle), torch.sin(angle), across)

    def push(eps: Tensor) -> Tensor:
        return place(angle_quantile(hazard_from_normal(eps[..., 0]), concentration, n), eps[..., 1:])

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        eps = Fresh(generator).draw(noise, rows)
        if not (readable(loc) and readable(concentration)):
            return push(eps)
        return place(angle_draw(concentration, n, rows, generator), eps[..., 1:])

    return Path(noise, push, None, sample)


@register_kl(VonMisesFisher, VonMisesFisher)  # type: ignore[untyped-decorator]
def _kl(p: VonMisesFisher, q: VonMisesFisher) -> Tensor:
    same_sphere(p, q)
    deficit = mean_cosine_deficit(p.concentration, p._n)
    between = (p.loc - q.loc).square().sum(-1) / 2
    cross = q.concentration * (deficit + (1 - deficit) * between) + q._log_total()
    return cross - p.entropy()


@register_kl(VonMisesFisher, HypersphericalUniform)  # type: ignore[untyped-decorator]
def _kl_uniform(p: VonMisesFisher, q: HypersphericalUniform) -> Tensor:
    same_sphere(p, q)
    return q.entropy() - p.entropy()
