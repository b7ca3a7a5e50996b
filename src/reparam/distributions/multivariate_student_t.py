"""The multivariate law of Student's t."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Law
from reparam.distributions.matrix_normal import cholesky_of
from reparam.noise import NORMAL
from reparam.paths.gamma import log_gamma_sample
from reparam.paths.path import Path, noise_like, path, representable
from reparam.paths.student import log_chi_square
from reparam.special import normal_exp
from reparam.special.beta import digamma_difference, stirling_error

__all__ = ["MultivariateStudentT"]


class MultivariateStudentT(Law):
    """`x = loc + L z / sqrt(chi2 / df)`: a multivariate normal vector over the root of one chi-squared variable.

    Density: `Gamma((df + K)/2) / (Gamma(df/2) (pi df)^(K/2) det L) * (1 + |L^-1 (x - loc)|^2 / df)^(-(df + K)/2)`.

    Args:
        df: degrees of freedom, positive, of shape `batch`.
        loc: of shape `batch + (K,)`.
        scale_tril: the lower-triangular factor `L` of the scale matrix, of shape `batch + (K, K)`.
        scale_matrix: the scale matrix `L L'` in its place; the covariance is `df / (df - 2)` times it.

    Raises:
        ValueError: unless exactly one of `scale_tril` and `scale_matrix` is given.

    Example:
        >>> import torch
        >>> d = MultivariateStudentT(torch.tensor(4.0), torch.zeros(3), torch.eye(3))
        >>> d.rsample((64,)).shape, d.covariance_matrix[0]
        (torch.Size([64, 3]), tensor([2., 0., 0.]))
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector

    def __init__(
        self,
        df: Tensor | float,
        loc: Tensor,
        scale_tril: Tensor | None = None,
        *,
        scale_matrix: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if scale_tril is None and scale_matrix is not None:
            check = self._validate_args if validate_args is None else validate_args
            scale_tril = cholesky_of(scale_matrix, "MultivariateStudentT: scale_matrix", check)
        elif scale_tril is None or scale_matrix is not None:
            raise ValueError("MultivariateStudentT takes scale_tril or scale_matrix, and exactly one of them")
        size = loc.shape[-1]
        df = torch.as_tensor(df, dtype=loc.dtype, device=loc.device) if not isinstance(df, Tensor) else df
        batch = torch.broadcast_shapes(df.shape, loc.shape[:-1], scale_tril.shape[:-2])
        self.df = df.expand(batch)
        self.loc = loc.expand((*batch, size))
        self.scale_tril = scale_tril.expand((*batch, size, size))
        super().__init__(batch, torch.Size([size]), validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density."""
        if self._validate_args:
            self._validate_sample(value)
        away = (value - self.loc).unsqueeze(-1)
        factor = self.scale_tril.expand(away.shape[:-2] + self.scale_tril.shape[-2:])
        z = torch.linalg.solve_triangular(factor, away, upper=False).squeeze(-1)
        # In heavy tails the square overflows: there the largest is taken out, as a log.
        most = torch.finfo(z.dtype).max
        size = z.detach().abs().amax(-1).clamp(max=most)
        size = torch.where(size > most**0.25, size, 1.0)
        ratio = (z / size.unsqueeze(-1)).square().sum(-1) / self.df
        far = 2 * size.log() + torch.log(size.reciprocal().square() + ratio)
        power = (self.df + self.loc.shape[-1]) / 2
        return self._height() - self._log_det() - power * torch.where(size > 1, far, torch.log1p(ratio))

    def _log_det(self) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _height(self) -> Tensor:
        """`log(Gamma(z + h) / (Gamma(z) (2 pi z)^h))`, `z = df / 2`, `h = K / 2`, without cancellation for large `df`."""
        z, h = self.df / 2, self.loc.shape[-1] / 2
        errors = stirling_error(z + h) - stirling_error(z)
        return (z + h - 0.5) * torch.log1p(h / z) - h - h * math.log(2 * math.pi) + errors

    @property
    def mean(self) -> Tensor:
        """`loc`; undefined up to `df = 1`."""
        return torch.where(self.df.unsqueeze(-1) > 1, self.loc, torch.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def covariance_matrix(self) -> Tensor:
        """`df / (df - 2) L L'`, for `df > 2`."""
        return self._spread()[..., None, None] * (self.scale_tril @ self.scale_tril.mT)

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance; infinite up to `df = 2`, undefined up to `df = 1`."""
        return self._spread().unsqueeze(-1) * self.scale_tril.square().sum(-1)

    def _spread(self) -> Tensor:
        finite = self.df > 2
        value = torch.where(finite, self.df / torch.where(finite, self.df - 2, 1.0), torch.inf)
        return torch.where(self.df > 1, value, torch.nan)

    def entropy(self) -> Tensor:
        half, size = self.df / 2, self.loc.shape[-1]
        gain = digamma_difference(half, torch.full_like(half, size / 2))
        return self._log_det() - self._height() + (half + size / 2) * gain


@path.register
def multivariate_student_t_path(d: MultivariateStudentT) -> Path:
    """`x = loc + L z / sqrt(chi2 / df)`: the first `K` values of the noise are `z`, the last one is a quantile of `chi2`."""
    df, loc, factor = d.df, d.loc, d.scale_tril
    size = loc.shape[-1]

    def place(z: Tensor, log_chi: Tensor) -> Tensor:
        """In the dtype of the parameters, with the root kept in float64 until the end."""
        t = (factor @ z.unsqueeze(-1)).squeeze(-1) * normal_exp(-log_chi / 2).unsqueeze(-1)
        return representable(loc + representable(t.to(loc.dtype), d.support), d.support)

    def push(eps: Tensor) -> Tensor:
        z, last = eps.split([size, 1], -1)
        return place(z, log_chi_square(df, last.squeeze(-1)))

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        z = torch.randn(rows + loc.shape, generator=generator, dtype=loc.dtype, device=loc.device)
        half = df.double() / 2
        return place(z, log_gamma_sample(half, rows, generator) - half.log())

    return Path(noise_like(loc, NORMAL, d.batch_shape + torch.Size([size + 1])), push, None, sample)
