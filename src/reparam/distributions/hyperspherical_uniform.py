"""The uniform law on a sphere, and what the laws on spheres share."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from reparam.distributions.law import Law
from reparam.noise import NORMAL
from reparam.paths.path import Path, noise_like, path
from reparam.special.tails import LOG2

__all__ = ["HypersphericalUniform", "directed", "log_sphere", "unit", "unit_vector"]


class _UnitVector(constraints.Constraint):
    """Vectors of length one, up to the rounding of their type."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        slack = 16 * torch.finfo(value.dtype).eps
        length: Tensor = torch.linalg.vector_norm(value.float() if value.element_size() < 4 else value, dim=-1)
        on_sphere: Tensor = (length - 1).abs() <= slack
        return on_sphere


unit_vector = _UnitVector()


def unit(v: Tensor) -> Tensor:
    """`v / |v|`; where all components are zero, some direction."""
    v = torch.where((v == 0).all(-1, keepdim=True), 1.0, v)
    return torch.div(v, torch.linalg.vector_norm(v, dim=-1, keepdim=True))


def log_sphere(dim: int) -> float:
    """`log` of the surface `2 pi^(d/2) / Gamma(d/2)` of the unit sphere in `dim` dimensions."""
    return LOG2 + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def directed(loc: Tensor, cosine: Tensor, sine: Tensor, noise: Tensor) -> Tensor:
    """The unit vector at an angle from `loc`, in the direction, among those at a right angle to it, that normal noise points in.

    Built at the pole and reflected onto `loc` by Householder's matrix, which is smooth near the pole and near its opposite.

    Args:
        loc: of shape `batch + (d,)`.
        cosine: that of the angle, of shape `rows + batch`.
        sine: that of the angle, of shape `rows + batch`.
        noise: of shape `rows + batch + (d - 1,)`.
    """
    mu = unit(loc)
    at_pole = torch.cat([cosine.unsqueeze(-1), sine.unsqueeze(-1) * unit(noise)], -1)
    sign = torch.where(mu[..., :1].detach() < 0, -1.0, 1.0).to(mu.dtype)
    axis = torch.cat([mu[..., :1] + sign, mu[..., 1:]], -1)
    along = (axis * at_pole).sum(-1, keepdim=True) / (1 + sign * mu[..., :1])
    return unit(sign * (axis * along - at_pole))


class HypersphericalUniform(Law):
    """All directions in `dim` dimensions alike.

    Args:
        dim: of the space, at least 2.
        batch_shape, dtype, device: of the samples; there is no parameter to take them from.

    Raises:
        ValueError: for a dimension below 2.

    Example:
        >>> import torch
        >>> d = HypersphericalUniform(3)
        >>> d.sample((5,)).norm(dim=-1).sum().round()
        tensor(5.)
        >>> d.entropy().exp() / torch.pi
        tensor(4.0000)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = unit_vector

    def __init__(
        self,
        dim: int,
        batch_shape: tuple[int, ...] = (),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if dim < 2:
            raise ValueError(f"a sphere in {dim} dimensions was asked for; it takes at least 2")
        self.dim = dim
        self._zero = torch.zeros((), dtype=dtype, device=device)
        super().__init__(torch.Size(batch_shape), torch.Size([dim]), validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the surface."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.zeros_like(value[..., 0]).expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape)) - log_sphere(
            self.dim
        )

    def entropy(self) -> Tensor:
        return self._zero.expand(self.batch_shape) + log_sphere(self.dim)

    @property
    def mean(self) -> Tensor:
        return self._zero.expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        return self._zero.expand(self.batch_shape + self.event_shape) + 1 / self.dim


@path.register
def hyperspherical_uniform_path(d: HypersphericalUniform) -> Path:
    """`x = z / |z|`."""
    return Path(noise_like(d._zero, NORMAL, d.batch_shape + d.event_shape), unit)


def same_sphere(p: Distribution, q: Distribution) -> None:
    """Refuse a divergence between laws of different dimensions."""
    if p.event_shape != q.event_shape:
        raise ValueError(f"the laws are on spheres of different dimensions, {p.event_shape[0]} and {q.event_shape[0]}")


@register_kl(HypersphericalUniform, HypersphericalUniform)  # type: ignore[untyped-decorator]
def _kl(p: HypersphericalUniform, q: HypersphericalUniform) -> Tensor:
    same_sphere(p, q)
    return p._zero.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))
