"""Samples without a gradient, from any noise source: what estimators other than the pathwise one draw."""

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
    Multinomial,
    NegativeBinomial,
    OneHotCategorical,
    Poisson,
)
from torch.nn.functional import softplus

from reparam.noise import EXPONENTIAL, UNIFORM, Fresh, Noise, Source, as_rows, as_source, readable
from reparam.paths.parameters import forget_derived
from reparam.paths.path import Maker, NoPathError, OwnSamplerError, Path, noise_like, overrides, path

__all__ = ["sample", "steps"]


def sample(d: Distribution, sample_shape: int | tuple[int, ...] = (), *, source: Source | None = None) -> Tensor:
    """A sample of `d`, cut from the graph, with its randomness explicit.

    Args:
        d: any distribution.
        sample_shape: rows in front of the batch.
        source: where the noise comes from; by default fresh noise from torch's generator.

    Returns:
        Samples of shape `sample_shape + d.batch_shape + d.event_shape`.

    Raises:
        NoPathError: when a source is given and `d` can only be sampled by its own sampler; `Fresh(generator)` serves Poisson
            and NegativeBinomial too.
        ValueError: for counts whose rate is not finite.

    Example:
        >>> import torch, reparam as rp
        >>> coin = torch.distributions.Bernoulli(torch.tensor([0.2, 0.8]))
        >>> a = rp.sample(coin, (100,), source=rp.Fresh(torch.Generator().manual_seed(0)))
        >>> b = rp.sample(coin, (100,), source=rp.Fresh(torch.Generator().manual_seed(0)))
        >>> torch.equal(a, b)
        True
    """
    given = as_source(source)
    forget_derived(d)
    with torch.no_grad():
        try:
            p = path(d)
        except NoPathError:
            return _draw(d, as_rows(sample_shape, d.batch_shape + d.event_shape), given)
        return p.draw(sample_shape, source=source).detach()  # forward mode does not stop at no_grad


def _draw(d: Distribution, rows: torch.Size, given: Source | None) -> Tensor:
    law = _inside(d)
    if (given is None or isinstance(given, Fresh)) and not overrides(law, _COUNTED, "sample"):
        generator = None if given is None else given.generator_on(_parameter(law).device)
        return _held(_count(law, rows + law.batch_shape, generator), _parameter(law).dtype)
    if not overrides(law, _STEPPED + steps.owners, "sample"):
        return steps(law).draw(rows, source=given)
    if given is not None:
        raise OwnSamplerError(law)
    return d.sample(rows)


def _inside(d: Distribution) -> Distribution:
    """What an Independent is of: which dimensions count as event does not matter to a draw."""
    return _inside(d.base_dist) if isinstance(d, Independent) and not overrides(d, (Independent,), "sample") else d


class _StepsTable:
    """`steps(d)`, with `steps.register` to add a class."""

    def __init__(self) -> None:
        self._makers = singledispatch(_quantiles)
        self.owners: tuple[type, ...] = ()

    def register(self, maker: Maker) -> Maker:
        """Register the steps of a class: decorate a function whose first argument is annotated with the class.

        Example:
            >>> import torch, reparam as rp
            >>> from reparam.noise import UNIFORM
            >>> class Die(torch.distributions.Categorical):
            ...     def __init__(self):
            ...         super().__init__(torch.ones(6))
            >>> @steps.register
            ... def die_steps(d: Die) -> rp.Path:
            ...     return rp.Path(rp.noise_like(d.probs[0], UNIFORM), lambda eps: (6 * eps).long())
            >>> sorted(rp.sample(Die(), (60,), source=rp.Sobol(0)).unique().tolist())
            [0, 1, 2, 3, 4, 5]
        """
        self._makers.register(maker)
        self.owners = tuple(self._makers.registry)
        return maker

    def __call__(self, d: Distribution) -> Path:
        """How a discrete law is drawn from noise: like a path, but `push` has steps in place of slopes."""
        return self._makers(d)


def _quantiles(d: Distribution) -> Path:
    return Path(_requests(d), lambda eps: _push(d, eps))


steps = _StepsTable()


# Laws whose noise is at hand: one value of noise for each value of the law, and the quantile there.


@singledispatch
def _requests(d: Distribution) -> Noise:
    raise OwnSamplerError(d)


@singledispatch
def _push(d: Distribution, eps: Tensor) -> Tensor:
    raise OwnSamplerError(d)


def _precise(parameter: Tensor) -> Tensor:
    # Half-precision noise has too few values to resolve probabilities; the comparison promotes to float32.
    return parameter.float() if parameter.dtype in (torch.float16, torch.bfloat16) else parameter


@_requests.register
def _(d: Bernoulli) -> Noise:
    return noise_like(_precise(d.probs), UNIFORM)


@_push.register
def _(d: Bernoulli, eps: Tensor) -> Tensor:
    return (eps < d.probs).to(d.probs.dtype)


@_requests.register
def _(d: Geometric) -> Noise:
    return noise_like(_precise(_parameter(d)), EXPONENTIAL)


@_push.register
def _(d: Geometric, eps: Tensor) -> Tensor:
    # P(x >= k) = (1 - p)^k: a waiting time in units of the rate, rounded down.
    given = _precise(_parameter(d))
    rate = -torch.log1p(-given) if "probs" in vars(d) else softplus(given)
    return _held((eps / rate).floor(), _parameter(d).dtype)


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


@_requests.register
def _(d: Categorical) -> Noise:
    return Noise(UNIFORM, d.batch_shape, torch.float64, d._param.device)


@_push.register
def _(d: Categorical, eps: Tensor) -> Tensor:
    return _categories(d, eps, len(d.batch_shape))


@_requests.register
def _(d: OneHotCategorical) -> Noise:
    return _requests(d._categorical)


@_push.register
def _(d: OneHotCategorical, eps: Tensor) -> Tensor:
    # Not torch's one_hot, which vmap does not take.
    chosen = _push(d._categorical, eps)
    return (chosen.unsqueeze(-1) == torch.arange(d.event_shape[-1], device=chosen.device)).to(_parameter(d).dtype)


@_requests.register
def _(d: Multinomial) -> Noise:
    one = _requests(d._categorical)
    return Noise(UNIFORM, torch.Size([d.total_count]) + one.shape, one.dtype, one.device)


@_push.register
def _(d: Multinomial, eps: Tensor) -> Tensor:
    batch = len(d.batch_shape)
    drawn = _categories(d._categorical, eps, batch).movedim(-1 - batch, -1)
    counts = torch.zeros(drawn.shape[:-1] + d.event_shape, dtype=torch.float64, device=drawn.device)
    return counts.scatter_add(-1, drawn, torch.ones_like(drawn, dtype=torch.float64)).to(_parameter(d).dtype)


def _categories(d: Categorical, eps: Tensor, batch: int) -> Tensor:
    """The quantile of eps, in front of whose `batch` last dimensions are rows: in double, where a sum of many weights is exact."""
    given = d._param.double()
    weights = given if vars(d).get("probs") is d._param else torch.softmax(given, -1)
    sums = weights.cumsum(-1)
    rows = eps.shape[: eps.dim() - batch]
    columns = eps.reshape(math.prod(rows), *eps.shape[len(rows) :]).movedim(0, -1)
    # Strictly above eps times the whole: a category without weight is never the first one.
    found = torch.searchsorted(sums, (columns * sums[..., -1:]).contiguous(), right=True)
    return found.clamp(max=sums.shape[-1] - 1).movedim(-1, 0).reshape(eps.shape)


# Counts without a quantile at hand, from torch's own samplers: fresh noise only, with or without a generator.

# Beyond it torch's sampler first loses its variance and then its integers; the normal approximation is good to 1e-5 of a count.
_LARGE = 1e9


@singledispatch
def _count(d: Distribution, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    raise OwnSamplerError(d)


@_count.register
def _(d: Binomial, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    chance, _ = _chances(d)
    return torch.binomial(d.total_count.double().expand(shape), chance.expand(shape), generator=generator)


@_count.register
def _(d: Poisson, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    return _poisson("Poisson", d.rate.double().expand(shape), generator)


@_count.register
def _(d: NegativeBinomial, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    given, n = d._param.double(), d.total_count.double()
    odds = given / (1 - given) if vars(d).get("probs") is d._param else given.exp()
    return _poisson("NegativeBinomial", torch._standard_gamma(n.expand(shape), generator=generator) * odds, generator)


def _poisson(name: str, rate: Tensor, generator: torch.Generator | None) -> Tensor:
    if readable(rate) and not bool(rate.isfinite().all()):
        raise ValueError(f"{name}: counts come at a rate of {rate[~rate.isfinite()][0].item()}; samples need finite parameters")
    large = rate > _LARGE
    x = torch.poisson(torch.where(large, 1.0, rate), generator=generator)
    if readable(large) and not bool(large.any()):
        return x
    z = torch.randn(rate.shape, generator=generator, dtype=rate.dtype, device=rate.device)
    # Cornish and Fisher (1938): the next term is of the order of 1 / sqrt(rate).
    return torch.where(large, (rate + rate.sqrt() * z + (z**2 - 1) / 6).round(), x)


def _parameter(d: Distribution) -> Tensor:
    """The parameter that `d` was made of."""
    held = vars(d)
    for name in ("_param", "probs", "logits", "rate"):
        if name in held:
            return held[name]  # type: ignore[no-any-return]
    return _parameter(held["_categorical"])


def _held(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Counts as `dtype`, which may be too narrow for the largest."""
    return x.clamp(max=torch.finfo(dtype).max).to(dtype)


# Tuples, as torch.compile does not trace a walk through a registry.
_STEPPED, _COUNTED = tuple(_requests.registry), tuple(_count.registry)
