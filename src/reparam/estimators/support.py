"""The values of a discrete law and their probabilities, laid out for sums."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Geometric,
    Independent,
    NegativeBinomial,
    OneHotCategorical,
    Poisson,
)
from torch.nn.functional import logsigmoid

from reparam.paths.parameters import map_parameters

__all__ = ["is_countable", "is_one_of", "law_name", "probabilities", "support", "support_size"]


def is_one_of(index: Tensor, size: int) -> Tensor:
    """Of an index, one-hot vectors of bools: torch's own function looks at the values, which `vmap` does not show."""
    return index.unsqueeze(-1) == torch.arange(size, device=index.device)


def law_name(q: Distribution) -> str:
    """What messages call a law: its class, and that of what it is an Independent of."""
    return f"Independent({law_name(q.base_dist)})" if isinstance(q, Independent) else type(q).__name__


def is_countable(q: Distribution) -> bool:
    """Whether `support(q, tail)` has a range of integers for this law, which would otherwise be too many or without end."""
    base = q
    while isinstance(base, Independent):
        base = base.base_dist
    return _reach.dispatch(type(base)) is not _reach.dispatch(object)


def support_size(q: Distribution, tail: float = 0.0) -> int | None:
    """The number of values that one element of `q` can take, or None when that is not known to be finite.

    With a `tail`, values at both ends that hold at most this probability are left out of the laws of counts.
    """
    if isinstance(q, Independent):
        components = _components(q)
        size = support_size(q.base_dist, tail / max(1, components))
        return None if size is None else size**components
    if isinstance(q, OneHotCategorical):  # a list of its values is as long as it is wide
        return support_size(q._categorical)
    window = _window(q, tail)
    if window is not None:
        return window[1]
    if not q.has_enumerate_support or isinstance(q, Binomial):
        return None
    try:
        # The extent of the unexpanded support, without its values: one row per value.
        return q.enumerate_support(expand=False).shape[0]
    except NotImplementedError:
        return None


def support(q: Distribution, tail: float = 0.0) -> Tensor:
    """The values of each element, `size + batch + event`.

    Elements of counts have ranges of their own, of a common length.
    """
    if isinstance(q, Independent):
        return _product(q, support(q.base_dist, tail / max(1, _components(q))))
    window = _window(q, tail)
    if window is None:
        values = q.enumerate_support(expand=False)
        return values.expand(values.shape[:1] + q.batch_shape + q.event_shape)
    low, size = window
    steps = torch.arange(size, dtype=low.dtype, device=low.device)
    return (low + steps.reshape((-1,) + (1,) * low.dim())).to(q.mean.dtype)


def _components(q: Independent) -> int:  # type: ignore[type-arg]
    return math.prod(q.base_dist.batch_shape[len(q.batch_shape) :])


def _product(q: Independent, values: Tensor) -> Tensor:  # type: ignore[type-arg]
    """All combinations of the values, `size + batch + components + base event`, of each component."""
    components, shape = _components(q), q.batch_shape + q.event_shape
    if components == 0:
        return values.new_zeros((1, *shape))
    values = values.reshape((len(values), *q.batch_shape, components, *q.base_dist.event_shape))
    picks = torch.cartesian_prod(*[torch.arange(len(values), device=values.device)] * components).reshape(-1, components)
    at = 1 + len(q.batch_shape)
    chosen = [values.select(at, i)[picks[:, i]] for i in range(components)]
    return torch.stack(chosen, at).reshape((len(picks), *shape))


def probabilities(q: Distribution, value: Tensor) -> Tensor:
    """The probability of each value, `size + batch`, of values `size + batch + event`.

    From `probs` where the law was given them: torch's log-densities clamp them at 1e-7.
    """
    if isinstance(q, Independent):
        p = probabilities(q.base_dist, value)
        return p.flatten(-q.reinterpreted_batch_ndims).prod(-1) if q.reinterpreted_batch_ndims else p
    if isinstance(q, OneHotCategorical):
        return probabilities(q._categorical, value.argmax(-1))
    if isinstance(q, Categorical):
        # Not log_prob, whose gradient is of all pairs of values.
        return q.probs.movedim(-1, 0).gather(0, value)
    if isinstance(q, Bernoulli) and _given_probs(q):
        return torch.where(value == 1, q.probs, 1 - q.probs)
    if isinstance(q, Binomial):
        return _binomial(q, value)
    if isinstance(q, Poisson):
        rate, k = q.rate.double(), value.double()
        return _power(-rate - torch.lgamma(k + 1), rate, k).to(q.rate.dtype)
    if is_countable(q):
        # Differences of large terms: in double.
        log_p: Tensor = map_parameters(q, Tensor.double).log_prob(value.double())
        return log_p.exp().to(q.mean.dtype)
    log_prob: Tensor = q.log_prob(value)
    return log_prob.exp()


def _binomial(q: Binomial, value: Tensor) -> Tensor:
    """Beyond the total count of an element, where others have more, it is zero."""
    n, k, given = q.total_count.double(), value.double(), q._param.double()
    left = (n - k).clamp(min=0)
    ways = torch.lgamma(n + 1) - torch.lgamma(left + 1) - torch.lgamma(k + 1)
    if _given_probs(q):
        often = given > 0.5
        rare = torch.where(often, 1 - given, given)
        p = _power(ways + torch.where(often, k, left) * torch.log1p(-rare), rare, torch.where(often, left, k))
    else:
        p = (ways + k * logsigmoid(given) + left * logsigmoid(-given)).exp()
    return torch.where(k <= n, p, 0.0).to(q._param.dtype)


def _power(log_scale: Tensor, base: Tensor, k: Tensor) -> Tensor:
    """The product exp(log_scale) baseᵏ, with its first two derivatives where the base is zero; there only k ≤ 2 counts."""
    inside = base > 0
    b = torch.where(inside, 0.0, base)
    certain = log_scale.clamp(max=300.0).exp() * torch.where(k < 1, 1.0, torch.where(k < 2, b, torch.where(k < 3, b * b, 0.0)))
    return torch.where(inside, (log_scale + k * torch.where(inside, base, 1.0).log()).exp(), certain)


def _given_probs(q: Bernoulli | Binomial) -> bool:
    return q._param is vars(q).get("probs")


@torch.no_grad()
def _window(q: Distribution, tail: float) -> tuple[Tensor, int] | None:
    """The first integer of each element, of shape `batch`, and how many follow in all; None for a law without a range."""
    if not isinstance(q, Binomial) and (tail == 0 or not is_countable(q)):
        return None
    low = torch.zeros_like(q.mean, dtype=torch.float64)
    high = low + (q.total_count if isinstance(q, Binomial) else torch.inf)
    if tail > 0:
        ends = _reach(q, math.log(4 / tail))
        low, high = torch.maximum(low, ends[0].floor()), torch.minimum(high, ends[1].ceil())
    width = float((high - low).max()) if low.numel() else 0.0
    return low, 1 + int(min(width, 2.0**62))


# Between which ends a law of counts has all but 4 exp(-nats) of its probability.


@singledispatch
def _reach(q: Distribution, nats: float) -> tuple[Tensor, Tensor]:
    raise NotImplementedError(f"no range of values is known for {law_name(q)}")


def _around(low: Tensor, high: Tensor, variance: Tensor, nats: float) -> tuple[Tensor, Tensor]:
    """Bernstein's inequality, around a mean between `low` and `high`."""
    reach = nats / 3 + ((nats / 3) ** 2 + 2 * variance * nats).sqrt()
    return low - reach, high + reach


@_reach.register
def _(q: Poisson, nats: float) -> tuple[Tensor, Tensor]:
    rate = q.rate.double()
    return _around(rate, rate, rate, nats)


@_reach.register
def _(q: Binomial, nats: float) -> tuple[Tensor, Tensor]:
    mean, variance = q.mean.double(), q.variance.double()
    return _around(mean, mean, variance, nats)


@_reach.register
def _(q: Geometric, nats: float) -> tuple[Tensor, Tensor]:
    p = q.probs.double()
    return torch.zeros_like(p), -nats / torch.log1p(-p)  # P(x >= k) = (1 - p)^k


@_reach.register
def _(q: NegativeBinomial, nats: float) -> tuple[Tensor, Tensor]:
    # A Poisson count whose rate is odds times a gamma variable, which has bounds of its own (Boucheron et al., 2013, section 2.4).
    r, odds = q.total_count.double(), q.logits.double().exp()
    spread = (2 * r * nats).sqrt()
    low, high = odds * (r - spread).clamp(min=0), odds * (r + spread + nats)
    return _around(low, high, high, nats)
