"""What a Bayesian neural network predicts, and how sure it is: what more data would tell, and what none will."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, StudentT

from reparam.noise import UNIFORM, Noise, Source
from reparam.paths import rsample
from reparam.special import log_student_cdf, student_quantile

__all__ = ["ClassPrediction", "Prediction"]

# Halvings of an interval: more than a float32 has bits.
_HALVINGS = 40


@dataclass(frozen=True)
class Prediction:
    """Reals predicted for N data by k draws of the weights: the mixture of their laws, in the units of the response.

        p(y | x) = 1/k sum_i p(y | x, w_i),   mean_i and sd_i those of p(y | x, w_i)
        mean = average of mean_i,   total^2 = epistemic^2 + aleatoric^2
        epistemic^2 = variance of mean_i over the draws,   aleatoric^2 = average of sd_i^2

    Epistemic is what is not known of the weights, which more data would tell; aleatoric the noise of a response, which stays.

    Attributes:
        law: the k laws p(y | x, w_i), of batch shape k x N x R, R the number of responses.
        responses: their R names.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> found = Prediction(Normal(torch.tensor([[[-3.0]], [[3.0]]]), 4.0), ("y",))
        >>> found.mean, found.epistemic, found.aleatoric, found.total
        (tensor([[0.]]), tensor([[3.]]), tensor([[4.]]), tensor([[5.]]))
        >>> low, high = found.interval(0.9)
        >>> found.cdf(high) - found.cdf(low)
        tensor([[0.9000]])
    """

    law: Distribution = field(repr=False)
    responses: tuple[str, ...]

    @cached_property
    def mean(self) -> Tensor:
        """N x R."""
        return self.law.mean.mean(0)

    @cached_property
    def epistemic(self) -> Tensor:
        """The standard deviation that comes of not knowing the weights, N x R."""
        return self.law.mean.std(0, correction=0)

    @cached_property
    def aleatoric(self) -> Tensor:
        """The standard deviation of the noise, N x R."""
        return self.law.variance.mean(0).sqrt()

    @property
    def total(self) -> Tensor:
        """The standard deviation of the response, N x R."""
        return torch.hypot(self.epistemic, self.aleatoric)

    def log_prob(self, y: Tensor) -> Tensor:
        """`log p(y | x)` of each datum, with all its responses, in nats and the units of the data: N."""
        each: Tensor = self.law.log_prob(y.to(self.mean.dtype)).sum(-1)
        return each.logsumexp(0) - math.log(len(each))

    def cdf(self, y: Tensor) -> Tensor:
        """The probability that a response is at most y, N x R: uniform on (0, 1) over data that the model describes."""
        y = y.to(self.mean.dtype)
        if not isinstance(self.law, StudentT):
            below: Tensor = self.law.cdf(y)
            return below.mean(0)
        return log_student_cdf(self.law.df, (y - self.law.loc) / self.law.scale).exp().mean(0)

    def quantile(self, p: float) -> Tensor:
        """The y below which a response lies with probability p, N x R, to 2^-40 of the range of the quantiles of the draws.

        Raises:
            ValueError: for a p that is not between 0 and 1.
        """
        if not 0 < p < 1:
            raise ValueError(f"the quantile of {p} is asked for: give a probability between 0 and 1")
        each = self._quantiles(p)
        low, high = each.amin(0), each.amax(0)
        for _ in range(_HALVINGS if len(each) > 1 else 0):
            middle = (low + high) / 2
            below = self.cdf(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def interval(self, p: float = 0.9) -> tuple[Tensor, Tensor]:
        """The ends, N x R each, of the central interval that holds a response with probability p.

        Raises:
            ValueError: for a p that is not between 0 and 1.
        """
        if not 0 < p < 1:
            raise ValueError(f"the interval of probability {p} is asked for: give one between 0 and 1")
        return self.quantile((1 - p) / 2), self.quantile((1 + p) / 2)

    def sample(self, n: int = 1, source: Source | None = None) -> Tensor:
        """Responses drawn at random, n x N x R; each of the n comes of one draw of the weights for all data."""
        rounds = -(-n // self.law.batch_shape[0])
        return torch.cat([rsample(self.law, source=source) for _ in range(rounds)])[:n]

    def _quantiles(self, p: float) -> Tensor:
        """Of each draw, k x N x R."""
        if isinstance(self.law, StudentT):
            hazard = torch.tensor(-math.log1p(-p), dtype=torch.float64, device=self.law.loc.device)
            return self.law.loc + self.law.scale * student_quantile(self.law.df, hazard).to(self.law.loc.dtype)
        found: Tensor = self.law.icdf(torch.full_like(self.law.mean, p))
        return found


@dataclass(frozen=True)
class ClassPrediction:
    """Classes predicted for N data by k draws of the weights, and how sure that is, in nats.

        p(c | x) = 1/k sum_i p(c | x, w_i),   H the entropy
        total = H[p(c | x)],   aleatoric = average of H[p(c | x, w_i)],   epistemic = total - aleatoric

    Epistemic is the mutual information of class and weights: what the class would tell about them.

    Attributes:
        law: the k laws p(c | x, w_i), of batch shape k x N.
        classes: the names of the C classes.

    Source: Houlsby et al., "Bayesian active learning", arXiv:1112.5745; Depeweg et al., arXiv:1710.07283.

    Example:
        >>> import torch
        >>> from torch.distributions import Categorical
        >>> found = ClassPrediction(Categorical(probs=torch.tensor([[[0.9, 0.1]], [[0.3, 0.7]]])), ("cat", "dog"))
        >>> found.mean, found.labels
        (tensor([[0.6000, 0.4000]]), ['cat'])
        >>> bool(found.epistemic > 0)
        True
    """

    law: Categorical = field(repr=False)
    classes: tuple[str, ...]

    @cached_property
    def mean(self) -> Tensor:
        """The probabilities, N x C."""
        return self.law.probs.mean(0)

    @property
    def labels(self) -> list[str]:
        """The most probable class of each datum."""
        return [self.classes[i] for i in self.mean.argmax(-1).tolist()]

    @cached_property
    def aleatoric(self) -> Tensor:
        """The entropy that is left when the weights are known, N."""
        each: Tensor = self.law.entropy()
        return each.mean(0)

    @property
    def epistemic(self) -> Tensor:
        """The mutual information of class and weights, N."""
        return (self.total - self.aleatoric).clamp(min=0)  # rounding may go below

    @cached_property
    def total(self) -> Tensor:
        """The entropy of the class, N."""
        each: Tensor = torch.special.entr(self.mean)
        return each.sum(-1)

    def log_prob(self, y: Tensor) -> Tensor:
        """`log p(y | x)` of the places of classes, in nats: N."""
        each: Tensor = self.law.log_prob(y)
        return each.logsumexp(0) - math.log(len(each))

    def sample(self, n: int = 1, source: Source | None = None) -> Tensor:
        """Places of classes drawn at random, n x N; each of the n comes of one draw of the weights for all data."""
        ends = self.law.probs.double().cumsum(-1)
        rounds = -(-n // len(ends))
        noise = Noise(UNIFORM, ends.shape[1:2], torch.float64, ends.device)
        u = noise.draw((rounds, len(ends)), source=source).unsqueeze(-1) * ends[..., -1:]
        return torch.searchsorted(ends.expand(rounds, *ends.shape).contiguous(), u).flatten(0, 1)[:n, :, 0]
