"""Relaxations: costs, or their slopes, between the values of a discrete law."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw, check_rows
from reparam.estimators.factors import factors
from reparam.estimators.gumbel import conditional_scores, hardened, noisy_scores, softened
from reparam.estimators.surrogate import reaches, straight_through
from reparam.noise import Source
from reparam.paths import relaxed, rsample, sample
from reparam.paths.relaxed import check_temperature

__all__ = ["GumbelRao", "GumbelSoftmax", "Relaxed", "mean_of_relaxed"]


@dataclass(frozen=True)
class Relaxed(Draw):
    """Rows through which a gradient passes to the law."""


@dataclass(frozen=True)
class GumbelSoftmax:
    """The gradient through relaxed values, softmax((logits + Gumbel noise) / τ); sigmoid((logit + logistic noise) / τ) for coins.

    The cost is evaluated between the values of the law, so it must make sense there: a function of one-hot vectors, such as a
    product with a table, and not of the indices that they stand for. A low temperature has little bias and much variance;
    `reparam.estimators.temperature` has schedules from high to low. Second derivatives are those of the relaxed law.

    With `hard=True`, straight-through Gumbel-softmax, the cost is evaluated at the values of the law that the relaxed ones are
    nearest to, and its slope there passes to the relaxed ones, and to the temperature. The value is unbiased then. First
    derivatives only.

    Args:
        temperature: a positive number; as a scalar tensor that requires a gradient it is learned.
        hard: whether rows are values of the law.

    Raises:
        ValueError: for a temperature that is not positive and finite; for a cost without a gradient in the rows.
        NotImplementedError: for a law that is not made of coins or one-hot choices.

    Source: Maddison et al., arXiv:1611.00712; Jang et al., arXiv:1611.01144.

    Example:
        >>> import torch, reparam as rp
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> prices = torch.tensor([1.0, 5.0, 2.0])
        >>> q = torch.distributions.OneHotCategorical(logits=logits)
        >>> rp.expect(lambda z: z @ prices, q, estimator=rp.GumbelSoftmax(temperature=0.5), n=100).backward()
        >>> bool(logits.grad[1] > 0)          # the dear one
        True
    """

    temperature: float | Tensor
    hard: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def bias(self) -> str:
        if self.hard:
            return (
                "The value is unbiased; the gradient is the slope of the cost at the hard rows times the derivative of the relaxed "
                "ones, which is neither that of the law nor that of its relaxation."
            )
        return (
            "Value and gradient are those of the relaxed law, at whose values between the outcomes the cost is taken; they tend to "
            "those of the law as the temperature falls."
        )

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "GumbelSoftmax", soft=True)
        if not self.hard:
            return Relaxed(rsample(relaxed(q, self.temperature), (n,), source=source), q.batch_shape)
        scores = noisy_scores(law, n, source)
        soft = softened(law, scores, check_temperature(self.temperature))
        return Relaxed(straight_through(law.value(hardened(law, scores)), soft), q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return mean_of_relaxed(draw, cost)


@dataclass(frozen=True)
class GumbelRao:
    """Straight-through Gumbel-softmax with less variance: the derivative of the relaxed rows is averaged over the noise that the
    hard ones leave open.

    Each of the n rows is a value z of the law, at which the cost is evaluated once. Its slope there is multiplied by the
    derivative of the relaxed value, averaged over k draws of Gumbel noise given z. The expectation is that of
    `GumbelSoftmax(temperature, hard=True)`, whatever k; the variance is a + b / k, where a comes from the outcome alone. So a
    lower temperature, of less bias, can be afforded. First derivatives only.

    Args:
        temperature: a positive number; as a scalar tensor that requires a gradient it is learned.
        k: the number of draws of noise for each row.

    Raises:
        ValueError: for a temperature that is not positive and finite; for a cost without a gradient in the rows.
        NotImplementedError: for a law that is not made of coins or one-hot choices.

    Source: Paulus et al., arXiv:2010.04838.

    Example:
        >>> import torch, reparam as rp
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> prices = torch.tensor([1.0, 5.0, 2.0])
        >>> q = torch.distributions.OneHotCategorical(logits=logits)
        >>> rp.expect(lambda z: z @ prices, q, estimator=rp.GumbelRao(temperature=0.5, k=10), n=100).backward()
        >>> bool(logits.grad[1] > 0)          # the dear one
        True
    """

    temperature: float | Tensor
    k: int

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_rows(self.k, "the number of draws k of GumbelRao")

    @property
    def bias(self) -> str:
        return (
            "The value is unbiased; the gradient is the slope of the cost at the hard rows times the mean derivative of relaxed "
            "ones that agree with them, which has the bias of GumbelSoftmax(hard=True) at the same temperature."
        )

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "GumbelRao", soft=True)
        value = sample(q, (n,), source=source)
        # Noise that is fixed: the derivative is that of a relaxed value, not of how the noise follows the outcome. A category
        # that cannot come has a logit and scores of minus infinity, and any noise will do.
        noise = (conditional_scores(law, law.index(value), source, self.k) - law.logits).detach().nan_to_num()
        soft = softened(law, law.logits + noise, check_temperature(self.temperature)).mean(0)
        return Relaxed(straight_through(value, soft), q.batch_shape)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return mean_of_relaxed(draw, cost)


def mean_of_relaxed(draw: Draw, cost: Tensor) -> Tensor:
    """The mean cost, whose gradient passes through the rows; refused where it cannot."""
    if not isinstance(draw, Relaxed):
        raise ValueError("this draw has no gradient that passes through its rows: weigh it with the estimator that drew it")
    if not reaches(cost, draw.value):
        raise ValueError(
            "the cost has no gradient in the sample (was it unused, compared, rounded, detached or made an index?), so its relaxed "
            "gradient would be zero: use estimator=rp.LeaveOneOut() with n=2 or more, or rp.Score()"
        )
    return cost.mean(0)
