"""The pathwise estimator: differentiate through the sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw
from reparam.estimators.surrogate import reaches
from reparam.noise import Source
from reparam.paths import Path, rsample

__all__ = ["Pathwise"]


@dataclass(frozen=True)
class Pathwise:
    """The gradient through the sample: E[∂f/∂z · ∂g(θ, ε)/∂θ], z = g(θ, ε).

    Unbiased for costs that are differentiable in z (or Lipschitz). A step in f has no gradient and is missed: where the cost
    compares, rounds or indexes with z, use a score-function estimator.

    Where the gradient is not unique, the one of lower variance is the default and `path` picks another, such as
    `rp.Pathwise(path=optimal_transport)` for a multivariate normal, or `ratio_of_gammas` for a Dirichlet distribution.

    Args:
        path: from the distribution to the `Path` that it is drawn by; that of `rp.rsample` by default.

    Raises:
        NoPathError: when the distribution has no differentiable sampler.
        ValueError: when the cost has no gradient in the sample.

    Source: Kingma and Welling, arXiv:1312.6114; Rezende et al., arXiv:1401.4082.

    Example:
        >>> import torch, reparam as rp
        >>> mu = torch.tensor(0.5, requires_grad=True)
        >>> q = torch.distributions.Normal(mu, 1.0)
        >>> rp.expect(lambda z: z, q, estimator=rp.Pathwise(), n=4).backward()
        >>> mu.grad
        tensor(1.)
    """

    bias: ClassVar[str | None] = None
    path: Callable[..., Path] | None = None

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        z = rsample(q, (n,), source=source) if self.path is None else self.path(q).draw((n,), source=source)
        return Draw(z, q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not reaches(cost, draw.value):
            raise ValueError(
                "the cost has no gradient in the sample (was it unused, compared, rounded, detached or made an index?), so its "
                "pathwise gradient would be zero: use estimator=rp.LeaveOneOut(), rp.Score() or rp.MeasureValued()"
            )
        return cost.mean(0)
