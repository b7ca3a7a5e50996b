"""The law of the logarithm of a Dirichlet vector: small components stay apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Dirichlet, constraints, kl_divergence, register_kl

from reparam.distributions.law import Law
from reparam.paths.beta import log_dirichlet_path
from reparam.paths.path import Path, path

__all__ = ["LogDirichlet"]


class LogDirichlet(Law):
    """`y = log x`, `x` of law Dirichlet(alpha): for concentrations so small that components are below the floats.

    Density: `prod exp(alpha_k y_k) / B(alpha)` on the vectors with `logsumexp(y) = 0`. As for torch's `ExpRelaxedCategorical` it is
    the density of `x` times `prod x_k`: with respect to the measure that is `dx_1 ... dx_(K-1) / (x_1 ... x_K)` on the simplex,
    so that an `ExpTransform` of this law has the density of the Dirichlet law.

    Args:
        concentration: `alpha > 0`, of shape `batch + (K,)`.

    Example:
        >>> import torch
        >>> y = LogDirichlet(torch.full((4,), 1e-4)).rsample((3,))
        >>> torch.allclose(y.logsumexp(-1), torch.zeros(3), atol=1e-6), bool((y.min(-1).values < -200).all())
        (True, True)
    """

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.real_vector

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError(
                "the concentration of LogDirichlet is a number; it must have at least one dimension, of the components"
            )
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density at logs of points of the simplex, which is not checked beyond their shape."""
        if self._validate_args:
            self._validate_sample(value)
        return (self.concentration * value).sum(-1) - self._log_normalizer()

    def _log_normalizer(self) -> Tensor:
        return torch.lgamma(self.concentration).sum(-1) - torch.lgamma(self.concentration.sum(-1))

    def _mean_of_logs(self) -> Tensor:
        return torch.digamma(self.concentration) - torch.digamma(self.concentration.sum(-1, keepdim=True))

    @property
    def mean(self) -> Tensor:
        """`psi(alpha_k) - psi(sum alpha)`."""
        return self._mean_of_logs()

    @property
    def variance(self) -> Tensor:
        """`psi'(alpha_k) - psi'(sum alpha)`."""
        return torch.polygamma(1, self.concentration) - torch.polygamma(1, self.concentration.sum(-1, keepdim=True))

    @property
    def mode(self) -> Tensor:
        """`log(alpha / sum alpha)`, of the density above."""
        return self.concentration.log() - self.concentration.sum(-1, keepdim=True).log()

    def entropy(self) -> Tensor:
        """With respect to the measure of the density."""
        return self._log_normalizer() - (self.concentration * self._mean_of_logs()).sum(-1)


@path.register
def log_dirichlet_law_path(d: LogDirichlet) -> Path:
    """The log-softmax of logs of gammas, with the gradient of each component beside the sum of the others."""
    dtype = d.concentration.dtype
    return log_dirichlet_path(d.concentration, lambda log_x: log_x.to(dtype))


@register_kl(LogDirichlet, LogDirichlet)  # type: ignore[untyped-decorator]
def _kl_log_dirichlet(p: LogDirichlet, q: LogDirichlet) -> Tensor:
    return kl_divergence(Dirichlet(p.concentration, validate_args=False), Dirichlet(q.concentration, validate_args=False))
