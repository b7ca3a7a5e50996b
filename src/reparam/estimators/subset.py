"""Gradients for k items out of n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution, Independent

from reparam.distributions import KSubset
from reparam.estimators.estimator import Draw
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.surrogate import straight_through
from reparam.noise import Source
from reparam.paths import sample

__all__ = ["SIMPLE"]


@dataclass(frozen=True)
class SIMPLE:
    """Exact samples of a `KSubset` forward, the exact marginals backward.

    With μ(θ) = E[z], the probability that each item is taken, the gradient is ∂μ/∂θ · ∇f(z): that of E[f] for costs that are
    linear in z, biased for others. The cost is evaluated at vectors of zeros and ones only, and must be differentiable there.
    First derivatives only.

    Raises:
        NotImplementedError: for a law other than KSubset and Independent of it.
        ValueError: when the cost has no gradient in the sample.

    Source: Ahmed et al., arXiv:2210.01941.

    Example:
        >>> import torch, reparam as rp
        >>> logits = torch.zeros(5, requires_grad=True)
        >>> q = rp.distributions.KSubset(2, logits)
        >>> rp.expect(lambda z: z[..., 0], q, estimator=rp.SIMPLE(), n=8).backward()
        >>> torch.allclose(logits.grad, torch.tensor([0.24, -0.06, -0.06, -0.06, -0.06]))  # exact, as the cost is linear
        True
    """

    bias: ClassVar[str | None] = (
        "The gradient is that of the marginals times the slope of the cost at the sample, which is exact for costs that are "
        "linear in the sample only."
    )

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = q
        while isinstance(law, Independent):
            law = law.base_dist
        if not isinstance(law, KSubset):
            raise NotImplementedError(
                f"SIMPLE is for reparam.distributions.KSubset and Independent of it, not for {type(law).__name__}: use "
                "rp.StraightThrough() for coins and choices, rp.LeaveOneOut() for every law"
            )
        return Draw(straight_through(sample(q, (n,), source=source), law.mean), q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return Pathwise().weigh(draw, cost)
