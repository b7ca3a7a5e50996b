"""Paths of laws on the circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import VonMises

from reparam.noise import EXPONENTIAL, Fresh, readable
from reparam.paths.path import Path, noise_like, path
from reparam.special.tails import LOG2
from reparam.special.von_mises import angle_draw, angle_hazard, angle_quantile


@path.register
def von_mises_path(d: VonMises) -> Path:
    """`x = loc ± t`, wrapped into [-pi, pi]: `t` is the quantile of the angle from `loc`, the sign is that of the larger tail.

    The gradient in `loc` is one, through the wrap; that in `concentration` is implicit. `eps = -log P(Y > y)`, where `y` is the
    angle from `loc` in (-pi, pi). On the CPU, outside of torch's transforms, fresh samples come from a rejection sampler.
    """
    loc, concentration = d.loc, d.concentration
    noise = noise_like(loc, EXPONENTIAL)

    def push(eps: Tensor) -> Tensor:
        upper = eps > LOG2
        # Twice the smaller tail is the tail of the angle; at the middle itself the angle is the least float.
        far, near = torch.where(upper, eps, 1.0), torch.where(upper, 0.5, eps)
        hazard = torch.where(upper, far - LOG2, -LOG2 - torch.log(-torch.expm1(-near))).clamp(min=torch.finfo(eps.dtype).tiny)
        angle = angle_quantile(hazard, concentration, 0)
        return _wrap(loc + torch.where(upper, angle, -angle))

    def pull(x: Tensor) -> Tensor:
        y = _wrap(x - loc)
        hazard = angle_hazard(y.abs(), concentration, 0)
        return torch.where(y > 0, hazard + LOG2, -torch.log1p(-torch.exp(-hazard) / 2))

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        if not (readable(loc) and readable(concentration)):
            return push(Fresh(generator).draw(noise, rows))
        angle = angle_draw(concentration, 0, rows, generator)
        heads = torch.randint(2, angle.shape, generator=generator, device=angle.device)
        return _wrap(loc + torch.where(heads > 0, angle, -angle))

    return Path(noise, push, pull, sample)


def _wrap(x: Tensor) -> Tensor:
    """`x` moved by whole turns into [-pi, pi], where it is not there; the gradient is one."""
    return x - 2 * math.pi * torch.round(x.detach() / (2 * math.pi))
