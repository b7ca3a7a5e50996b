"""Samples without a gradient, from any noise source: what estimators other than the pathwise one draw."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Binomial, Categorical, Distribution, Independent, OneHotCategorical
from torch.nn.functional import one_hot

from reparam.noise import EXPONENTIAL, UNIFORM, Noise, Source, as_rows, as_source
from reparam.paths.path import NoPathError, OwnSamplerError, noise_like, overrides, path

__all__ = ["sample"]


def sample(d: Distribution, sample_shape: int | tuple[int, ...] = (), *, source: Source | None = None) -> Tensor:
    """A sample of `d`, cut from the graph, with its randomness explicit.

    Args:
        d: any distribution.
        sample_shape: rows in front of the batch.
        source: where the noise comes from; by default fresh noise from torch's generator.

    Returns:
        Samples of shape `sample_shape + d.batch_shape + d.event_shape`.

    Raises:
        NoPathError: when a source is given and `d` can only be sampled by its own sampler.

    Example:
        >>> import torch, reparam as rp
        >>> coin = torch.distributions.Bernoulli(torch.tensor([0.2, 0.8]))
        >>> a = rp.sample(coin, (100,), source=rp.Fresh(torch.Generator().manual_seed(0)))
        >>> b = rp.sample(coin, (100,), source=rp.Fresh(torch.Generator().manual_seed(0)))
        >>> torch.equal(a, b)
        True
    """
    with torch.no_grad():
        try:
            p = path(d)
        except NoPathError:
            if as_source(source) is None:
                return d.sample(as_rows(sample_shape, d.batch_shape + d.event_shape))
            return _push(d, _noise(d).draw(sample_shape, source=source))
        return p.draw(sample_shape, source=source)


def _noise(d: Distribution) -> Noise:
    if overrides(d, _OWNERS, "sample"):
        raise OwnSamplerError(d)
    return _requests(d)


@singledispatch
def _requests(d: Distribution) -> Noise:
    raise OwnSamplerError(d)


def _precise(parameter: Tensor) -> Tensor:
    # Half-precision noise has too few values to resolve probabilities; the comparison promotes to float32.
    return parameter.float() if parameter.dtype in (torch.float16, torch.bfloat16) else parameter


@singledispatch
def _push(d: Distribution, eps: Tensor) -> Tensor:
    raise OwnSamplerError(d)


@_requests.register
def _(d: Bernoulli) -> Noise:
    return noise_like(_precise(d.probs), UNIFORM)


@_push.register
def _(d: Bernoulli, eps: Tensor) -> Tensor:
    return (eps < d.probs).to(d.probs.dtype)


@_requests.register
def _(d: Binomial) -> Noise:
    return noise_like(d._param.double(), UNIFORM)


@_push.register
def _(d: Binomial, eps: Tensor) -> Tensor:
    # The quantile of eps, by running up the distribution function: in double, so that its sum stays below the largest eps.
    n = d.total_count.double()
    p, q = _chances(d)
    x, below = torch.zeros_like(eps), torch.zeros_like(eps)
    for k in range(int(n.max()) if n.numel() else 0):
        left = (n - k).clamp(min=0)
        ways = torch.lgamma(n + 1) - torch.lgamma(left + 1) - math.lgamma(k + 1)
        below = below + torch.exp(ways + torch.xlogy(k, p) + torch.xlogy(left, q))
        x += (eps > below) & (k < n)
    return x.to(d._param.dtype)


def _chances(d: Binomial) -> tuple[Tensor, Tensor]:
    """The probabilities of one and of zero, from what `d` was made of: exact at the ends, where torch moves logits inwards."""
    given = d._param.double()
    return (given, 1 - given) if vars(d).get("probs") is d._param else (given.sigmoid(), (-given).sigmoid())


@_requests.register(Categorical)
@_requests.register(OneHotCategorical)
def _(d: Categorical | OneHotCategorical) -> Noise:
    return noise_like(_precise(d.logits), EXPONENTIAL)


@_push.register
def _(d: Categorical, eps: Tensor) -> Tensor:
    # The first of K exponential clocks with rates p: argmin eps / p = argmax logits - log eps (the Gumbel-max trick).
    return (d.logits - eps.log()).argmax(-1)


@_push.register
def _(d: OneHotCategorical, eps: Tensor) -> Tensor:
    return one_hot(_push(d._categorical, eps), d.event_shape[-1]).to(d.logits.dtype)


@_requests.register
def _(d: Independent) -> Noise:  # type: ignore[type-arg]
    return _noise(d.base_dist)


@_push.register
def _(d: Independent, eps: Tensor) -> Tensor:  # type: ignore[type-arg]
    return _push(d.base_dist, eps)


_OWNERS = tuple(_requests.registry)
