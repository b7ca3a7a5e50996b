"""The path of LKJ's correlation matrices: partial correlations of a vine, each of its own Beta law."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import LKJCholesky
from torch.nn.functional import logsigmoid, pad

from reparam.noise import EXPONENTIAL
from reparam.paths.beta import logit_beta_sample
from reparam.paths.gamma import exp_as
from reparam.paths.path import Path, noise_like, path
from reparam.special.beta import log_betaincc, logit_beta_quantile
from reparam.special.tails import LOG2

__all__ = ["lkj_vine_path"]


@path.register
def lkj_cholesky_path(d: LKJCholesky) -> Path:
    """The C-vine, of which the Cholesky factor is made."""
    return lkj_vine_path(d.dim, d.concentration)


def lkj_vine_path(dim: int, concentration: Tensor) -> Path:
    """The C-vine: row `i` of the factor breaks a stick of length one by partial correlations `r_ij = tanh(y_ij / 2)`.

    `L_ij = r_ij prod_{m<j} sqrt(1 - r_im^2)`, and `(1 + r_ij) / 2` is of law Beta(b, b), `b = concentration + (dim - 2 - j) / 2` in
    column `j`, counted from 0; `y_ij` is its logit. Products are sums of logs, `log sqrt(1 - r^2) = log sech(y / 2)`.

    Source: Lewandowski, Kurowicka and Joe (2009), "Generating random correlation matrices based on vines and extended onion
    method", section 2.4.
    """
    row, column = torch.tril_indices(dim, dim, -1, device=concentration.device)
    index = torch.arange(dim, device=concentration.device)
    below, diagonal = index < index[:, None], index == index[:, None]
    place = (index[:, None] * (index[:, None] - 1) // 2 + index).clamp(max=len(row) - 1).clamp(min=0)
    b = concentration.double().unsqueeze(-1) + (dim - 2 - column) / 2

    def finish(y: Tensor) -> Tensor:
        y = torch.where(below, y[..., place], 0.0)
        log_cut = torch.where(below, LOG2 + (logsigmoid(y) + logsigmoid(-y)) / 2, 0.0)
        left = exp_as(pad(log_cut.cumsum(-1)[..., :-1], [1, 0]), concentration.dtype)
        return torch.where(below, torch.tanh(y / 2).to(left.dtype) * left, torch.where(diagonal, left, 0.0))

    def pull(factor: Tensor) -> Tensor:
        wide = factor.double()
        left = pad(wide.square().flip(-1).cumsum(-1).flip(-1)[..., 1:], [0, 1], value=1.0).sqrt()
        # r / sqrt(1 - r^2) is the entry over what the rest of the row has left.
        y = 2 * torch.asinh(wide[..., row, column] / left[..., row, column])
        return -log_betaincc(b, b, y).to(factor.dtype)

    return Path(
        noise_like(concentration, EXPONENTIAL, concentration.shape + torch.Size([len(row)])),
        lambda eps: finish(logit_beta_quantile(b, b, eps.double())),
        pull,
        lambda rows, generator: finish(logit_beta_sample(b, b, rows, generator)),
    )
