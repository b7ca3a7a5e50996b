"""The direction of a normal vector."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.hyperspherical_uniform import unit, unit_vector
from reparam.distributions.law import Law
from reparam.noise import NORMAL
from reparam.paths.path import Path, noise_like, path

__all__ = ["ProjectedNormal"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


class ProjectedNormal(Law):
    """The direction `z / |z|` of a normal vector `z` with mean `loc` and unit covariance.

    Density: `(2 pi)^(-d/2) exp(-|loc|^2 / 2)` times the integral of `r^(d-1) exp(-r^2/2 + r loc . x)` over the length `r`, which
    is taken by quadrature in `log r` around its mode: for every dimension, to 1e-12 for `d` up to 1000 and `|loc|` up to 1000.

    Args:
        loc: the mean of the vector before it is projected, of shape `batch + (d,)` with `d >= 2`.

    Raises:
        ValueError: for a dimension below 2.

    Source: Mardia and Jupp (2000), Directional Statistics, section 9.3.3.

    Example:
        >>> import torch
        >>> d = ProjectedNormal(torch.tensor([2.0, 0.0, 0.0]))
        >>> d.rsample((7,)).shape
        torch.Size([7, 3])
    """

    arg_constraints = {"loc": constraints.real_vector}
    support = unit_vector
    loc: Tensor

    def __init__(self, loc: Tensor, validate_args: bool | None = None) -> None:
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(f"loc has shape {tuple(loc.shape)}; a direction takes a last dimension of at least 2")
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density with respect to the surface."""
        if self._validate_args:
            self._validate_sample(value)
        size = self.event_shape[0]
        along = (self.loc * value).sum(-1)
        square = self.loc.square().sum(-1)
        return _log_length_integral(along, size) - square / 2 - size / 2 * math.log(2 * math.pi)

    @property
    def mode(self) -> Tensor:
        return unit(self.loc)


def _log_length_integral(along: Tensor, size: int) -> Tensor:
    """`log` of the integral of `r^(size - 1) exp(-r^2/2 + r along)`: that of a log-concave function of `v = log r`."""
    m = along.detach()
    root = torch.sqrt(m**2 + 4 * size)
    # The positive root of r^2 - m r - size = 0, without cancellation.
    mode = torch.where(m > 0, (m + root) / 2, 2 * size / (root - m))
    total = torch.full_like(along, -torch.inf)
    for sign in (-1.0, 1.0):
        # How far the exponent falls by 40: from its bend at the mode, then by Newton's method in logs.
        core = width = torch.sqrt(80 / (mode**2 + size))
        for _ in range(4):
            grown = mode * torch.expm1(sign * width)
            fall = (grown * (grown + 2 * mode) / 2 - m * grown - size * sign * width).clamp(min=1e-6)
            rate = sign * ((mode + grown) ** 2 - m * (mode + grown) - size)
            width = width * torch.exp((torch.log(40 / fall) * fall / (width * rate)).clamp(-1.0, 1.0))
        # The core, where it falls like a square, and beyond it, where it may fall like a line.
        core = torch.minimum(core / 2, width / 2)
        for start, length in ((torch.zeros_like(core), core), (core, width - core)):
            for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
                v = sign * (start + length * (node + 1) / 2)
                r = mode * torch.exp(v)
                term = size * torch.log(r) - r * (r / 2 - along) + torch.log(length * (weight / 2))
                total = torch.logaddexp(total, term)
    return total


@path.register
def projected_normal_path(d: ProjectedNormal) -> Path:
    """`x = (loc + z) / |loc + z|`."""
    loc = d.loc
    return Path(noise_like(loc, NORMAL), lambda eps: unit(loc + eps))
