"""Gradients for what a solver makes of noisy scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from reparam.distributions import PerturbAndMAP
from reparam.estimators.estimator import Draw
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.surrogate import first_order
from reparam.noise import Source
from reparam.paths import sample

__all__ = ["ImplicitMLE", "check_solved", "solved"]


def solved(q: Distribution) -> tuple[PerturbAndMAP, Distribution] | None:
    """A `PerturbAndMAP` law that q or an Independent q is made of, and the law of its noisy scores, with the batch of q."""
    law = q
    while isinstance(law, Independent):
        law = law.base_dist
    if not isinstance(law, PerturbAndMAP):
        return None
    inner = len(law.batch_shape) - len(q.batch_shape)
    return law, Independent(law.perturbed, inner) if inner else law.perturbed


def check_solved(q: Distribution, estimator: str) -> tuple[PerturbAndMAP, Distribution]:
    """The same, another law refused; `estimator` is who asks."""
    found = solved(q)
    if found is None:
        raise NotImplementedError(
            f"{estimator} is for reparam.distributions.PerturbAndMAP(scores, solver) and Independent of it, not for "
            f"{type(q).__name__}: write the law so, or use what rp.choose(q, n) names"
        )
    return found


@dataclass(frozen=True)
class _Solved(Draw):
    """Attributes: law: that was drawn from; noisy: the scores that were solved for, `rows + batch + event`."""

    law: PerturbAndMAP | None = None
    noisy: Tensor | None = None


@dataclass(frozen=True)
class ImplicitMLE:
    """The solver again, at scores moved against the gradient of the cost: implicit maximum likelihood, for `PerturbAndMAP` laws.

    With u = θ + ε, z = z(u), the gradient is (z(u) − z(u − λ ∇f(z))) / λ. Its mean is, for costs that are linear in z,
    the difference quotient (μ(θ) − μ(θ − λ ∇f)) / λ of μ(θ) = E[z]. n rows call the solver twice n times. A small λ has less bias
    and more variance. The cost must be differentiable in z. First derivatives only, and not under `torch.func`.

    Args:
        strength: λ, positive, in units of scores per unit of ∇f.

    Raises:
        NotImplementedError: for a law other than PerturbAndMAP and Independent of it.
        RuntimeError, TypeError: for a solver that fails or returns other than it must.
        ValueError: likewise; for a strength that is not positive, and when the cost has no gradient in the sample.

    Source: Niepert, Minervini and Franceschi, arXiv:2106.01798; the factor 1/λ as in Pogančić et al. (2020), "Differentiation
    of blackbox combinatorial solvers".

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.distributions import PerturbAndMAP
        >>> from reparam.distributions.solver import top_k
        >>> scores = torch.zeros(5, requires_grad=True)
        >>> q = PerturbAndMAP(scores, top_k(2))
        >>> rp.expect(lambda z: (z[..., 0] - 1) ** 2, q, estimator=rp.ImplicitMLE(), n=8).backward()
        >>> bool(scores.grad[0] <= 0), round(scores.grad.sum().item(), 4) == 0
        (True, True)
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.strength, int | float) and 0 < self.strength < math.inf):
            raise ValueError(f"the strength of ImplicitMLE is {self.strength!r}; it must be a positive number")

    @property
    def bias(self) -> str | None:
        return (
            f"The gradient is a difference quotient of the solution, {self.strength:g} times the slope of the cost at the sample "
            "apart, and sees of the cost this slope only."
        )

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law, noisy = check_solved(q, "ImplicitMLE")
        u = sample(noisy, (n,), source=source)
        value = law.solve(u).requires_grad_(law.scores.requires_grad and torch.is_grad_enabled())
        return _Solved(value, q.batch_shape, law=law, noisy=u)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not isinstance(draw, _Solved) or draw.law is None or draw.noisy is None:
            raise ValueError("this draw is not of solutions: weigh it with the estimator that drew it")
        value, z, theta = Pathwise().weigh(draw, cost), draw.value, draw.law.scores
        if not z.requires_grad:
            return value
        (slope,) = torch.autograd.grad(cost.sum(), z, retain_graph=True)
        # A draw that is shared by other rows of the cost sees the mean of theirs.
        shared = math.prod(value.shape) / max(1, math.prod(theta.shape[: value.dim()]))
        moved = draw.law.solve(draw.noisy - self.strength * slope / shared)
        whole = value.shape + theta.shape[value.dim() :]
        return first_order(value, theta.expand(whole), ((z.detach() - moved) / self.strength).mean(0).expand(whole))
