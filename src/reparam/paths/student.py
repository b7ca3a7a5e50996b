"""Paths of Student's t, whose samples for few degrees of freedom leave the floats: in logarithms of their size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, StudentT

from reparam.noise import EXPONENTIAL, NORMAL
from reparam.paths.gamma import log_gamma_push, log_gamma_sample
from reparam.paths.parameters import check_parameters
from reparam.paths.path import NoPathError, Path, noise_like, path, representable
from reparam.special import normal_exp, with_slopes
from reparam.special.beta import logit_beta_slopes
from reparam.special.normal import hazard_from_normal
from reparam.special.student import log_student_sf, student_quantile
from reparam.special.tails import LOG2

__all__ = ["log_chi_square", "normal_over_chi"]


def _placed(t: Tensor, d: StudentT) -> Tensor:
    """`loc + scale * t` for a float64 `t`, held inside the floats."""
    return representable(torch.addcmul(d.loc, d.scale, representable(t.to(d.df.dtype), d.support)), d.support)


@path.register
def student_t_path(d: StudentT) -> Path:
    """`x = loc + scale * t`, `t` the quantile, with the univariate implicit gradient in the degrees of freedom.

    For `df = 10` and `f = cos` its variance is half that of `normal_over_chi`.
    """
    df = d.df

    def pull(x: Tensor) -> Tensor:
        return -log_student_sf(df.double(), (x.double() - d.loc) / d.scale).to(df.dtype)

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        wide = df.double()
        z = torch.randn(rows + df.shape, generator=generator, dtype=wide.dtype, device=df.device)
        y = z.abs().clamp(min=1e-300).log() * 2 - LOG2 - log_gamma_sample(wide.detach() / 2, rows, generator)
        # The logit of Beta(1/2, df/2) is log(t^2 / df).
        y = with_slopes(y, lambda y, df: (logit_beta_slopes(torch.full_like(df, 0.5), df / 2, y)[1] / 2,), wide)
        t = normal_exp((y + wide.log()) / 2)
        return _placed(torch.where(z > 0, t, -t), d)

    return Path(noise_like(df, EXPONENTIAL), lambda eps: _placed(student_quantile(df.double(), eps.double()), d), pull, sample)


def log_chi_square(df: Tensor, z: Tensor) -> Tensor:
    """The log of a chi-squared variable over its degrees of freedom, from normal noise, as float64."""
    half = df.double() / 2
    return log_gamma_push(half, hazard_from_normal(z.double())) - half.log()


def normal_over_chi(d: Distribution) -> Path:
    """The path of Student's t as a normal variable over the root of an independent chi-squared one: `t = z / sqrt(chi2 / df)`.

    Right, and for more than a few degrees of freedom of higher variance than the default: for the mean of the cosine 5.6 times
    for `df = 30` and 1.9 times for `df = 10`, but 0.8 times for `df = 3`. The noise has one more dimension, of two.

    Args:
        d: a `StudentT` distribution, batched as may be.

    Raises:
        NoPathError: for any other.

    Example:
        >>> import torch
        >>> normal_over_chi(torch.distributions.StudentT(torch.full((3,), 5.0))).draw((64,)).shape
        torch.Size([64, 3])
    """
    check_parameters(d)
    if not isinstance(d, StudentT):
        raise NoPathError(f"{type(d).__name__} is no normal over the root of a chi-square: pass a StudentT, or use rp.path")
    df = d.df

    def push(eps: Tensor) -> Tensor:
        z, other = eps.double().unbind(-1)
        t = z * normal_exp(-log_chi_square(df, other) / 2)
        return _placed(t, d)

    return Path(noise_like(df, NORMAL, df.shape + torch.Size([2])), push)
