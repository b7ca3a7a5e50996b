"""Gradients for permutations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw, check_rows
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.perturb import check_solved
from reparam.estimators.surrogate import straight_through
from reparam.noise import Source
from reparam.paths import rsample
from reparam.paths.relaxed import check_temperature

__all__ = ["GumbelSinkhorn", "sinkhorn"]


def sinkhorn(scores: Tensor, iterations: int = 20) -> Tensor:
    """`exp(scores)` with rows and columns scaled in turn to a sum of one, in log space; columns last. Of shape `any + (n, n)`.

    Source: Sinkhorn (1964), "A relationship between arbitrary positive matrices and doubly stochastic matrices".

    Example:
        >>> import torch
        >>> x = sinkhorn(torch.tensor([[1.0, 0.0], [2.0, -1.0]]), 50)
        >>> torch.allclose(x.sum(-1), torch.ones(2)), torch.allclose(x.sum(-2), torch.ones(2))
        (True, True)
    """
    for _ in range(iterations):
        scores = scores.log_softmax(-1).log_softmax(-2)
    return scores.exp()


@dataclass(frozen=True)
class GumbelSinkhorn:
    """A doubly stochastic matrix in place of a permutation: Sinkhorn's scaling of (scores + Gumbel noise) / temperature.

    For `PerturbAndMAP(scores, matching, event_dim=2)`, with any solver. The cost is evaluated between permutations, at matrices
    that tend to the law's as the temperature falls and the iterations grow. With `hard`, at the permutations themselves, with the
    gradient of the relaxed ones (straight-through; first derivatives only).

    Args:
        temperature: positive; as a tensor it may be learned.
        iterations: of the scaling, each of rows and then columns; a low temperature needs more.
        hard: evaluate the cost at permutation matrices, which the solver of the law makes.

    Raises:
        NotImplementedError: for a law other than PerturbAndMAP and Independent of it.
        TypeError, ValueError: for a temperature that is not one positive number, iterations likewise, scores that are not square
            matrices, and when the cost has no gradient in the sample.

    Source: Mena et al., arXiv:1802.08665.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.distributions import PerturbAndMAP
        >>> from reparam.distributions.solver import matching
        >>> scores = torch.zeros(4, 4, requires_grad=True)
        >>> q = PerturbAndMAP(scores, matching, event_dim=2)
        >>> x = torch.tensor([0.3, 0.1, 0.9, 0.5])
        >>> cost = lambda P: ((P @ x - x.sort().values) ** 2).sum(-1)
        >>> rp.expect(cost, q, estimator=rp.GumbelSinkhorn(temperature=1.0), n=8).backward()
        >>> scores.grad.shape
        torch.Size([4, 4])
    """

    temperature: float | Tensor
    iterations: int = 20
    hard: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_rows(self.iterations, "the number of iterations of GumbelSinkhorn")

    @property
    def bias(self) -> str | None:
        if self.hard:
            return "The gradient is that of a doubly stochastic matrix in place of the permutation at which the cost is evaluated."
        return "Value and gradient are those of the cost at doubly stochastic matrices in place of permutations."

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law, noisy = check_solved(q, "GumbelSinkhorn")
        if len(law.event_shape) != 2 or law.event_shape[0] != law.event_shape[1]:
            raise ValueError(
                f"GumbelSinkhorn takes square matrices of scores, got an event of shape {tuple(law.event_shape)}: make the law "
                "with PerturbAndMAP(scores, matching, event_dim=2)"
            )
        u = rsample(noisy, (n,), source=source)
        soft = sinkhorn(u / check_temperature(self.temperature), self.iterations)
        return Draw(straight_through(law.solve(u), soft) if self.hard else soft, q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return Pathwise().weigh(draw, cost)
