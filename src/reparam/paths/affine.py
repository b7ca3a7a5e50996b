"""Paths that scale and shift normal or uniform noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import LogisticNormal, LogNormal, Normal, Uniform
from torch.nn.functional import logsigmoid, pad

from reparam.noise import NORMAL, UNIFORM
from reparam.paths.path import Path, noise_like, path, representable
from reparam.special import normal_exp


@path.register
def normal_path(d: Normal) -> Path:
    """`x = loc + scale * eps`."""
    loc, scale = d.loc, d.scale
    return Path(noise_like(loc, NORMAL), lambda eps: torch.addcmul(loc, scale, eps), lambda x: (x - loc) / scale)


@path.register
def log_normal_path(d: LogNormal) -> Path:
    """`x = exp(loc + scale * eps)`."""
    loc, scale = d.loc, d.scale

    def push(eps: Tensor) -> Tensor:
        return normal_exp(torch.addcmul(loc, scale, eps))

    return Path(noise_like(loc, NORMAL), push, lambda x: (x.log() - loc) / scale)


@path.register
def logistic_normal_path(d: LogisticNormal) -> Path:
    """Stick breaking in log space: `log x_k = log s_k + sum_{j<k} log(1 - s_j)`, `s = sigmoid(loc + scale * eps - log offset)`."""
    loc, scale = d.loc, d.scale
    stick = d.transforms[-1]
    offset = torch.arange(loc.shape[-1], 0, -1, dtype=loc.dtype, device=loc.device).log()

    def push(eps: Tensor) -> Tensor:
        logit = torch.addcmul(loc, scale, eps) - offset
        return normal_exp(pad(logsigmoid(logit), [0, 1]) + pad(logsigmoid(-logit).cumsum(-1), [1, 0]))

    return Path(noise_like(loc, NORMAL), push, lambda x: (stick.inv(x) - loc) / scale)


@path.register
def uniform_path(d: Uniform) -> Path:
    """`x = low * (1 - u) + high * u`, below `high` by at least one float."""
    low, high = d.low, d.high

    def push(u: Tensor) -> Tensor:
        return representable(low * (1 - u) + high * u, d.support)

    def pull(x: Tensor) -> Tensor:
        # Halves: the width of the widest interval is not a float.
        return (x / 2 - low / 2) / (high / 2 - low / 2)

    return Path(noise_like(low, UNIFORM), push, pull)
