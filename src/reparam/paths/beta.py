"""Paths of Beta and of what is made of it, in logits: mass near 0 and 1 has room there.

The gradient of a sample in its parameters is not unique. The default is the one of lower variance: the univariate implicit
gradient of Beta, and that of each Dirichlet component beside the sum of the others. `ratio_of_gammas` is the other one.

All is computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Distribution, FisherSnedecor

from reparam.noise import EXPONENTIAL
from reparam.paths.gamma import exp_as, log_gamma_push, log_gamma_sample
from reparam.paths.parameters import check_parameters
from reparam.paths.path import NoPathError, Path, noise_like, path, representable
from reparam.special import with_slopes
from reparam.special.beta import log_betaincc, logit_beta_quantile, logit_beta_slopes, stirling_error

__all__ = ["log_dirichlet_path", "logit_beta_path", "logit_beta_sample", "ratio_of_gammas"]


def logit_beta_sample(a: Tensor, b: Tensor, rows: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Fresh samples of the logit of Beta(a, b), in float64, with the implicit gradient: those of the log of two gammas' ratio."""
    a, b = a.double(), b.double()
    y = log_gamma_sample(a.detach(), rows, generator) - log_gamma_sample(b.detach(), rows, generator)
    return with_slopes(y, lambda y, a, b: logit_beta_slopes(a, b, y), a, b)


def logit_beta_path(a: Tensor, b: Tensor, finish: Callable[[Tensor], Tensor], logit: Callable[[Tensor], Tensor]) -> Path:
    """The path of a function `finish` of the logit of Beta(a, b), a float64, whose inverse is `logit`."""
    return Path(
        noise_like(a, EXPONENTIAL),
        lambda eps: finish(logit_beta_quantile(a.double(), b.double(), eps.double())),
        lambda x: -log_betaincc(a.double(), b.double(), logit(x.double())).to(a.dtype),
        lambda rows, generator: finish(logit_beta_sample(a, b, rows, generator)),
    )


@path.register
def beta_path(d: Beta) -> Path:
    """`x = sigmoid(y)`, `y` the quantile of the logit, inside the open unit interval.

    `LogitBeta` is the law without the limit that floats have near 1.
    """
    a, b = d.concentration1, d.concentration0

    def finish(y: Tensor) -> Tensor:
        return representable(torch.sigmoid(y).to(a.dtype), d.support)

    return logit_beta_path(a, b, finish, lambda x: x.log() - torch.log1p(-x))


@path.register
def fisher_snedecor_path(d: FisherSnedecor) -> Path:
    """`log x = log(df2 / df1) + y`, `y` the logit of Beta(df1 / 2, df2 / 2)."""
    df1, df2 = d.df1, d.df2
    shift = df2.double().log() - df1.double().log()
    return logit_beta_path(df1 / 2, df2 / 2, lambda y: exp_as(y + shift, df1.dtype), lambda x: x.log() - shift)


def log_dirichlet_path(alpha: Tensor, finish: Callable[[Tensor], Tensor]) -> Path:
    """The path of a function `finish` of the log of a Dirichlet vector, in float64: a softmax of logs of gammas.

    The gradient is that of each component beside the sum of the others, `dx_i = s_i d alpha_i - x_i sum_j s_j d alpha_j` with
    `s_j = x_j t_j`, `t_j` the slope of the logit of Beta(alpha_j, sum of the others) in its first parameter: of lower variance
    than through the gammas, and so not the derivative of `push` at fixed noise. In expectation both are right, to second order too.
    """
    wide = alpha.double()

    def slopes(w: Tensor, alpha: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        return _component_slope(w, alpha), torch.exp(-eps - _log_gamma_density(w, alpha))

    def push(eps: Tensor) -> Tensor:
        eps = eps.double()
        w = log_gamma_push(wide.detach(), eps.detach())
        return finish(torch.log_softmax(with_slopes(w, slopes, wide, eps), -1))

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        w = log_gamma_sample(wide.detach(), rows, generator)
        return finish(torch.log_softmax(with_slopes(w, lambda w, alpha: (_component_slope(w, alpha),), wide), -1))

    return Path(noise_like(alpha, EXPONENTIAL), push, None, sample)


def _component_slope(w: Tensor, alpha: Tensor) -> Tensor:
    """`d logit(x_j) / d alpha_j` at fixed probability, of each component of `x = softmax(w)` beside the sum of the others."""
    if alpha.shape[-1] == 1:  # the only component is one
        return torch.zeros_like(w)
    log_x = torch.log_softmax(w, -1)
    # Sums of the others: total minus own, which cancels for the largest component only.
    top = _is_largest(alpha)
    rest = torch.where(top, alpha.masked_fill(top, 0.0).sum(-1, keepdim=True), alpha.sum(-1, keepdim=True) - alpha)
    top = _is_largest(log_x)
    log_rest = torch.logsumexp(log_x.masked_fill(top, -torch.inf), -1, keepdim=True)
    log_rest = torch.where(top, log_rest, torch.log1p(-torch.exp(torch.where(top, -1.0, log_x))))
    return logit_beta_slopes(alpha, rest, log_x - log_rest)[0]


def _is_largest(v: Tensor) -> Tensor:
    return torch.arange(v.shape[-1], device=v.device) == v.detach().argmax(-1, keepdim=True)


def _log_gamma_density(w: Tensor, alpha: Tensor) -> Tensor:
    """Of the log of Gamma(alpha, 1), relative to its top."""
    away = w - alpha.log()
    return alpha * (away - torch.expm1(away)) + 0.5 * (alpha.log() - math.log(2 * math.pi)) - stirling_error(alpha)


@path.register
def dirichlet_path(d: Dirichlet) -> Path:
    """`x = softmax(w)`, `w` logs of gammas, with the gradient of each component beside the sum of the others.

    `LogDirichlet` is the law without the limit that floats have near 0 and 1.
    """
    dtype = d.concentration.dtype
    return log_dirichlet_path(d.concentration, lambda log_x: representable(log_x.exp().to(dtype), d.support))


def ratio_of_gammas(d: Distribution) -> Path:
    """The path of a Beta or a Dirichlet distribution through independent gammas: `x = softmax(w)`, `w` their logs.

    Right, and of higher variance than the default: for the mean of Beta(2, 3) 2.4 times in the first parameter and 1.5 times in
    the second. The noise of Beta has one more dimension, of two.

    Args:
        d: a Beta or a Dirichlet distribution, batched as may be.

    Raises:
        NoPathError: for any other.

    Example:
        >>> import torch
        >>> ratio_of_gammas(torch.distributions.Beta(torch.ones(3), 2.0)).draw((64,)).shape
        torch.Size([64, 3])
    """
    check_parameters(d)
    if isinstance(d, Beta):
        alpha = torch.stack([d.concentration1, d.concentration0], -1)
    elif isinstance(d, Dirichlet):
        alpha = d.concentration
    else:
        raise NoPathError(f"{type(d).__name__} is no ratio of gammas: pass a Beta or a Dirichlet, or use rp.path")

    def finish(w: Tensor) -> Tensor:
        x = torch.softmax(w, -1)
        return representable((x[..., 0] if isinstance(d, Beta) else x).to(alpha.dtype), d.support)

    return Path(
        noise_like(alpha, EXPONENTIAL),
        lambda eps: finish(log_gamma_push(alpha, eps)),
        None,
        lambda rows, generator: finish(log_gamma_sample(alpha, rows, generator)),
    )
