"""Likelihoods: from the decoder's outputs to the distribution of a datum, in the units of the data.

Each log-density is normalised (binomial coefficients and the Jacobian of the standardisation included), so that bounds
on it are in nats and comparable between models.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Binomial, Categorical, Distribution, Independent, Normal
from torch.nn import functional as F

__all__ = ["LIKELIHOODS", "BernoulliLikelihood", "BinomialLikelihood", "CategoricalLikelihood", "GaussianLikelihood", "Likelihood"]


class Likelihood(nn.Module):
    """A distribution over data of a shape, given outputs of shape `rows + prefix + shape`.

    Args:
        shape: of one datum.
        levels: the largest count, for data that are counts; 1 for binary data.

    Attributes:
        prefix: shape of the outputs for one element of a datum.
    """

    prefix: tuple[int, ...] = ()

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__()
        self.shape = shape
        self.levels = levels

    @property
    def outputs(self) -> torch.Size:
        """The shape of the outputs for one datum."""
        return torch.Size(self.prefix + tuple(self.shape))

    def forward(self, h: Tensor) -> Distribution:
        raise NotImplementedError

    def nll(self, h: Tensor, x: Tensor) -> Tensor:
        """`-log p` of each element, of shape `rows + shape`: `self(h)`'s, in fewer operations where a likelihood overrides it."""
        return -self(h).base_dist.log_prob(x)  # type: ignore[no-any-return]

    def standardise(self, x: Tensor) -> Tensor:
        """What the encoder sees of `x`: of the order of one."""
        return x if self.levels == 1 else x / self.levels

    def fit(self, x: Tensor) -> None:
        """Take from training data the statistics that [`standardise`][reparam.nn.likelihood.Likelihood.standardise] needs."""

    def bias(self, x: Tensor) -> Tensor:
        """Outputs, of shape `prefix + x.shape[1:]`, that stand for the distribution of each element over the data `x`."""
        # Half a count is added on each side, so that a pixel that never changes keeps a finite logit.
        mean = (self.standardise(x).sum(0) + 0.5) / (len(x) + 1)
        return torch.logit(mean)

    def check(self, x: Tensor) -> None:
        """Raise ValueError when values of `x` are outside the support."""
        low, high = (v.item() for v in torch.aminmax(x)) if x.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= self.levels) or bool((x != x.round()).any()):
            wanted = "0 and 1" if self.levels == 1 else f"counts 0..{self.levels}"
            raise ValueError(f"the batch has values from {low:g} to {high:g}, this model is of {wanted}: give data in those units")


class BernoulliLikelihood(Likelihood):
    """Elements 0 or 1, independent given `h`, which are their logits."""

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=h, validate_args=False), len(self.shape), validate_args=False)

    def nll(self, h: Tensor, x: Tensor) -> Tensor:
        return _cross_entropy(h, x)


class BinomialLikelihood(Likelihood):
    """Counts 0..levels: that many coins an element, with logits `h`."""

    log_coefficients: Tensor

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__(shape, levels)
        k = torch.arange(levels + 1, dtype=torch.float64)
        table = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(levels - k + 1)
        self.register_buffer("log_coefficients", table.to(torch.get_default_dtype()), persistent=False)

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Binomial(self.levels, logits=h, validate_args=False), len(self.shape), validate_args=False)

    def nll(self, h: Tensor, x: Tensor) -> Tensor:
        return self.levels * _cross_entropy(h, x / self.levels) - self.log_coefficients[x.long()]


class CategoricalLikelihood(Likelihood):
    """Counts 0..levels as classes without order: one logit for each value of each element."""

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__(shape, levels)
        self.prefix = (levels + 1,)

    def forward(self, h: Tensor) -> Distribution:
        logits = h.movedim(-1 - len(self.shape), -1)
        return Independent(_Categorical(logits=logits, validate_args=False), len(self.shape), validate_args=False)

    def bias(self, x: Tensor) -> Tensor:
        some = x[:: max(1, len(x) // 1000)]
        counts = torch.stack([(some == level).sum(0) for level in range(self.levels + 1)]).to(x.dtype)
        return torch.log((counts + 1 / (self.levels + 1)) / (len(some) + 1))


class GaussianLikelihood(Likelihood):
    """Reals: means from `h`, and a learned scale that does not depend on it.

    `x = shift + scale * (h + sigma * eps)`, with the statistics `shift, scale` of the training data and the learned
    sigma, one for each column of a table and for each channel of an image. The scale is shared over data because a
    scale that follows `h` lets the density of a well-fitted datum grow without bound (arXiv:2006.13202);
    `sigma^2` is `exp(log_var)` plus a floor of (a thousandth of the data's scale)^2.
    """

    FLOOR = 1e-6
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__(shape, levels)
        grain = (shape[0], 1, 1) if len(shape) == 3 else shape
        self.register_buffer("shift", torch.zeros(grain))
        self.register_buffer("scale", torch.ones(grain))
        self.log_var = nn.Parameter(torch.zeros(grain))

    def forward(self, h: Tensor) -> Distribution:
        loc = torch.addcmul(self.shift, self.scale, h)
        sigma = self.scale * torch.sqrt(self.log_var.exp() + self.FLOOR)
        return Independent(Normal(loc, sigma, validate_args=False), len(self.shape), validate_args=False)

    def standardise(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        dims = (0, 2, 3) if x.dim() == 4 else (0,)
        # In double, because the sums run over all data; a constant column keeps its unit.
        std, mean = torch.std_mean(x.double(), dims, correction=0, keepdim=True)
        self.shift.copy_(mean[0])
        self.scale.copy_(torch.where(std[0] > 0, std[0], 1.0))

    def bias(self, x: Tensor) -> Tensor:
        return self.standardise(x).mean(0)

    def check(self, x: Tensor) -> None:
        if not x.sum().isfinite() and not x.isfinite().all():
            raise ValueError("the batch has NaN or infinite values: drop or fill them")


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "binomial": BinomialLikelihood,
    "categorical": CategoricalLikelihood,
    "gaussian": GaussianLikelihood,
}


def _cross_entropy(logits: Tensor, rate: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        logits, rate if rate.shape == logits.shape else rate.expand_as(logits), reduction="none"
    )


class _Categorical(Categorical):
    """Torch's, of numbers: it has a mean."""

    @property
    def mean(self) -> Tensor:
        return self.probs @ self._values

    @property
    def variance(self) -> Tensor:
        return self.probs @ self._values.square() - self.mean.square()

    @property
    def _values(self) -> Tensor:
        return torch.arange(self._num_events, dtype=self.logits.dtype, device=self.logits.device)
