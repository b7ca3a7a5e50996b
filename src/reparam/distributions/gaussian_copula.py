"""Any univariate laws, tied together as the components of a normal vector are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from reparam.distributions.law import Law
from reparam.noise import NORMAL, readable
from reparam.paths.cumulative import icdf_from_log, log_cdf, log_survival
from reparam.paths.path import Path, noise_like, path
from reparam.special.normal import log_ndtr, log_ndtri

__all__ = ["GaussianCopula"]


class GaussianCopula(Law):
    """A random vector with given marginal laws whose ranks are those of a normal vector.

    `x_i = Q_i(Phi(z_i))` with `z = L eps`, `L L^T` the correlation: each `x_i` follows its own law, and

        log p(x) = sum_i log p_i(x_i) - (|L^-1 z|^2 - |z|^2) / 2 - sum_i log L_ii,   z_i = Phi^-1(F_i(x_i)).

    Probabilities are logarithms of the smaller tail: samples and densities are exact far out.

    Args:
        marginals: a distribution of univariate laws whose last batch dimension holds the `D` components, or a sequence of `D`
            distributions; any whose path has an inverse.
        correlation: of `z`, `batch + (D, D)`, with ones on the diagonal.
        scale_tril: its Cholesky factor, whose rows have length one, instead.

    Raises:
        ValueError: when not one of correlation and factor is given, when it is none, or when shapes do not fit.
        NoPathError: from samples and densities, when a marginal has no distribution function here.

    Source: Sklar (1959); Nelsen (2006), "An Introduction to Copulas", ch. 2.3 and 4.

    Example:
        >>> import torch
        >>> from torch.distributions import Exponential, Gumbel
        >>> correlation = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
        >>> d = GaussianCopula([Gumbel(0.0, 1.0), Exponential(2.0)], correlation)
        >>> x = d.rsample((10_000,))
        >>> x.shape, bool(torch.corrcoef(x.T)[0, 1] > 0.5)
        (torch.Size([10000, 2]), True)
    """

    arg_constraints = {"scale_tril": constraints.corr_cholesky}

    def __init__(
        self,
        marginals: Distribution | Sequence[Distribution],
        correlation: Tensor | None = None,
        *,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if correlation is not None and scale_tril is None:
            if self._validate_args if validate_args is None else validate_args:
                _check_correlation(correlation)
            scale_tril = torch.linalg.cholesky(correlation)
        elif correlation is not None or scale_tril is None:
            raise ValueError("GaussianCopula takes one of correlation and scale_tril")
        parts = [marginals] if isinstance(marginals, Distribution) else list(marginals)
        for part in parts:
            if part.event_shape:
                raise ValueError(
                    f"the marginals of a copula are univariate; {type(part).__name__} has events of shape {tuple(part.event_shape)}"
                )
        shape = torch.broadcast_shapes(*(part.batch_shape for part in parts))
        if not isinstance(marginals, Distribution):
            shape = shape + torch.Size([len(parts)])
        if not shape or scale_tril.shape[-2:] != (shape[-1], shape[-1]):
            raise ValueError(
                f"the marginals have shape {tuple(shape)}, whose last dimension is the event, and the correlation has shape "
                f"{tuple(scale_tril.shape)}; it must end in (D, D) for events of D components"
            )
        batch_shape = torch.broadcast_shapes(shape[:-1], scale_tril.shape[:-2])
        self.marginals = _expand(marginals if isinstance(marginals, Distribution) else parts, batch_shape, shape[-1:])
        self.scale_tril = scale_tril.expand(batch_shape + scale_tril.shape[-2:])
        super().__init__(batch_shape, shape[-1:], validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GaussianCopula:
        new = super().expand(batch_shape, _instance)
        new.marginals = _expand(self.marginals, torch.Size(batch_shape), self.event_shape)
        return new

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        if isinstance(self.marginals, Distribution):
            return constraints.independent(self.marginals.support, 1)
        return constraints.independent(constraints.stack([d.support for d in self.marginals], -1), 1)

    @property
    def correlation(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT

    @property
    def mean(self) -> Tensor:
        return self._each("mean")

    @property
    def variance(self) -> Tensor:
        return self._each("variance")

    def _each(self, name: str) -> Tensor:
        if isinstance(self.marginals, Distribution):
            return getattr(self.marginals, name)  # type: ignore[no-any-return]
        return torch.stack([getattr(d, name) for d in self.marginals], -1)

    def entropy(self) -> Tensor:
        own = self.marginals
        each = own.entropy() if isinstance(own, Distribution) else torch.stack([d.entropy() for d in own], -1)
        return each.sum(-1) + _log_det(self.scale_tril)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        own = self.marginals
        if isinstance(own, Distribution):
            each = own.log_prob(value)
        else:
            each = torch.stack([d.log_prob(x) for d, x in zip(own, value.unbind(-1), strict=True)], -1)
        z = _normal(own, value)
        # Outside of its support a law that does not check may say NaN.
        each = torch.where(self.support.check(value).unsqueeze(-1), each, -torch.inf)
        return each.sum(-1) - (_solve(self.scale_tril, z).square() - z.square()).sum(-1) / 2 - _log_det(self.scale_tril)


_Marginals = Distribution | list[Distribution]


def _expand(marginals: _Marginals, batch_shape: torch.Size, event_shape: torch.Size) -> _Marginals:
    if not isinstance(marginals, Distribution):
        return [d if d.batch_shape == batch_shape else d.expand(batch_shape) for d in marginals]
    shape = batch_shape + event_shape
    return marginals if marginals.batch_shape == shape else marginals.expand(shape)


def _check_correlation(correlation: Tensor) -> None:
    if not readable(correlation):
        return
    room = 16 * torch.finfo(correlation.dtype).eps
    diagonal = correlation.diagonal(dim1=-2, dim2=-1)
    if not ((diagonal - 1).abs() <= room).all():
        raise ValueError(
            f"GaussianCopula: the diagonal of a correlation is one, this one has {diagonal.min():g} to {diagonal.max():g}; "
            "divide a covariance by the deviations of its rows and columns"
        )
    if not constraints.positive_definite.check(correlation).all():
        raise ValueError("GaussianCopula: the correlation is not symmetric and positive definite")


def _log_det(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _solve(factor: Tensor, z: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor, z.unsqueeze(-1), upper=False).squeeze(-1)  # type: ignore[no-any-return]


def _normal(marginals: _Marginals, x: Tensor) -> Tensor:
    """The standard normal values at the ranks of `x`; zero outside the support."""
    if not isinstance(marginals, Distribution):
        return torch.stack([_normal(d, component) for d, component in zip(marginals, x.unbind(-1), strict=True)], -1)
    below, above = log_cdf(marginals, x), log_survival(marginals, x)
    lower = below < above
    z = log_ndtri(torch.where(below.isfinite() & above.isfinite(), torch.where(lower, below, above), -0.5))
    z = torch.where(lower, z, -z)
    return torch.where(below.isfinite() & above.isfinite(), z, 0.0)


def _coupled(marginals: _Marginals, z: Tensor) -> Tensor:
    """The values at the ranks of standard normal `z`."""
    if isinstance(marginals, Distribution):
        return icdf_from_log(marginals, log_survival=log_ndtr(-z))
    return torch.stack([_coupled(d, component) for d, component in zip(marginals, z.unbind(-1), strict=True)], -1)


@path.register
def gaussian_copula_path(d: GaussianCopula) -> Path:
    """`x_i = Q_i(Phi(z_i))`, `z = L eps`, each quantile by the path of its own law."""
    marginals, factor = d.marginals, d.scale_tril

    def push(eps: Tensor) -> Tensor:
        return _coupled(marginals, (eps.unsqueeze(-2) @ factor.mT).squeeze(-2))

    return Path(
        noise_like(factor, NORMAL, d.batch_shape + d.event_shape),
        push,
        lambda x: _solve(factor, _normal(marginals, x)),
    )
