"""A differentiable sample together with its log-density, computed on the way and never by inverting the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, singledispatch
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    ContinuousBernoulli,
    CorrCholeskyTransform,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    GeneralizedPareto,
    Gumbel,
    Independent,
    InverseGamma,
    Kumaraswamy,
    LogisticNormal,
    LogNormal,
    Pareto,
    PowerTransform,
    SigmoidTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    TransformedDistribution,
    Weibull,
)
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.transforms import IndependentTransform, _InverseTransform
from torch.distributions.utils import vec_to_tril_matrix
from torch.nn.functional import logsigmoid

from reparam.noise import EXPONENTIAL, Source, as_rows, as_source, reflect_exponential
from reparam.paths.beta import log_dirichlet_path, logit_beta_path
from reparam.paths.compose import step, steps, transformed_path
from reparam.paths.cumulative import trusting
from reparam.paths.gamma import exp_as, log_gamma_push, log_gamma_sample
from reparam.paths.parameters import check_parameters, map_parameters
from reparam.paths.path import HALF, NoPathError, OwnSamplerError, Path, noise_like, overrides, path, representable, support_of
from reparam.special import exprel
from reparam.special.beta import logit_beta_log_density
from reparam.special.tails import log_sech_squared

__all__ = ["sample_and_log_prob"]

Pair = tuple[Tensor, Tensor]
Way = TypeVar("Way", bound=Callable[..., Pair])


class _Joint:
    """`sample_and_log_prob(d)`, with `sample_and_log_prob.register` to add a class."""

    def __init__(self) -> None:
        self._ways = singledispatch(_by_value)
        self._owners: tuple[type, ...] = ()

    def register(self, way: Way) -> Way:
        """Register how a class draws with its density: decorate a function of a distribution, the rows and the source.

        The rows are a `torch.Size`. It returns samples of shape `rows + batch + event` and log-densities of shape
        `rows + batch`; parameters never come in half precision.

        Example:
            >>> import torch
            >>> from reparam.paths import path, sample_and_log_prob
            >>> class Doubled(torch.distributions.Normal):
            ...     pass
            >>> @sample_and_log_prob.register
            ... def doubled(d: Doubled, rows, source):
            ...     x = path(d).draw(rows, source=source)
            ...     return x, d.log_prob(x)
            >>> [t.shape for t in sample_and_log_prob(Doubled(torch.zeros(3), 1.0), (5,))]
            [torch.Size([5, 3]), torch.Size([5, 3])]
        """
        self._ways.register(way)
        self._owners = tuple(cls for cls in self._ways.registry if cls is not object)
        return way

    def __call__(self, d: Distribution, sample_shape: int | tuple[int, ...] = (), *, source: Source | None = None) -> Pair:
        """A sample of `d` and the log-density there.

        Of a law that is made by transforms, the density is that of the base at the value that was drawn, less the
        log-determinants at the values that were passed: right also where the sample rounds to the end of the support, as
        that of a tanh does. Both are differentiable in the parameters of `d`. The derivative of the log-density is the
        total one, through the sample too, as an entropy bonus (soft actor-critic, arXiv:1801.01290) wants it.

        Args:
            d: a distribution with a path; one without that has a differentiable sampler of its own is sampled by that.
            sample_shape: rows in front of the batch.
            source: where the noise comes from; fresh noise from torch's generator by default.

        Returns:
            Samples of shape `sample_shape + d.batch_shape + d.event_shape`, log-densities of shape
            `sample_shape + d.batch_shape`. Half precision is computed in float32, each rounded once.

        Raises:
            NoPathError: when `d` has no differentiable sampler, or a transform of it has no determinant.

        Example:
            >>> import torch
            >>> from reparam.paths import sample_and_log_prob
            >>> base = torch.distributions.Normal(torch.zeros(1000), 5.0)
            >>> squashed = torch.distributions.TransformedDistribution(base, torch.distributions.TanhTransform())
            >>> action, log_prob = sample_and_log_prob(squashed)
            >>> bool(log_prob.isfinite().all())
            True
        """
        dtypes = check_parameters(d)
        rows = as_rows(sample_shape, d.batch_shape + d.event_shape)
        source = as_source(source)
        if dtypes.isdisjoint(HALF):
            return self.part(d, rows, source)
        x, log_prob = self.part(map_parameters(d, lambda t: t.float() if t.dtype in HALF else t), rows, source)
        dtype = dtypes.pop()
        return (x, log_prob) if dtypes else (representable(x.to(dtype), support_of(d)), log_prob.to(dtype))

    def part(self, d: Distribution, rows: torch.Size, source: Source | None) -> Pair:
        """The same for a part of a distribution, for structure that passes it through."""
        own = self._owners and isinstance(d, self._owners)
        if own and (overrides(d, self._owners, "rsample") or overrides(d, self._owners, "log_prob")):
            return _by_value(d, rows, source)
        return self._ways(d, rows, source)


def _draw(d: Distribution, rows: torch.Size, source: Source | None) -> Tensor:
    try:
        p = path.part(d)
    except OwnSamplerError:
        if source is not None:
            raise
        return d.rsample(rows)
    return p.draw(rows, source=source)


def _by_value(d: Distribution, rows: torch.Size, source: Source | None) -> Pair:
    x = _draw(d, rows, source)
    return x, trusting(d).log_prob(x)  # a point of a simplex may miss torch's check by rounding


sample_and_log_prob = _Joint()


@sample_and_log_prob.register
def _(d: Independent, rows: torch.Size, source: Source | None) -> Pair:  # type: ignore[type-arg]
    x, log_prob = sample_and_log_prob.part(d.base_dist, rows, source)
    return x, _sum_last(log_prob, d.reinterpreted_batch_ndims)


def _sum_last(value: Tensor, dims: int) -> Tensor:
    return value.sum(list(range(-dims, 0))) if dims else value


@sample_and_log_prob.register
def _(d: TransformedDistribution, rows: torch.Size, source: Source | None) -> Pair:
    # Most of torch's laws descend from this class and have a formula of their own.
    return (_through if path._makers.dispatch(type(d)) is transformed_path else _by_value)(d, rows, source)


@sample_and_log_prob.register
def _(d: LogNormal, rows: torch.Size, source: Source | None) -> Pair:
    return _through(d, rows, source)


@sample_and_log_prob.register
def _(d: LogisticNormal, rows: torch.Size, source: Source | None) -> Pair:
    return _through(d, rows, source)


def _through(d: TransformedDistribution, rows: torch.Size, source: Source | None) -> Pair:
    """Through the transforms, each with its log-determinant."""
    transforms = list(steps(d.transforms))
    change = sum(t.codomain.event_dim - t.domain.event_dim for t in transforms)
    event_dim = len(d.event_shape) - change
    x, log_prob = sample_and_log_prob.part(d.base_dist, rows, source)
    log_prob = _sum_last(log_prob, event_dim - len(d.base_dist.event_shape))
    for transform in transforms:
        y = step(transform, x)
        log_prob = log_prob - _sum_last(log_abs_det(transform, x, y), event_dim - transform.domain.event_dim)
        event_dim += transform.codomain.event_dim - transform.domain.event_dim
        x = y
    return x, log_prob


def log_abs_det(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    """The log-determinant of a transform at the pair `x`, `y`, from `x` where `y` may have rounded."""
    own = _LOG_DETS.get(type(transform))
    try:
        return transform.log_abs_det_jacobian(x, y) if own is None else own(transform, x, y)
    except NotImplementedError:
        raise NoPathError(
            f"{type(transform).__name__} has no log-determinant, so its samples have no density: draw them with rp.rsample"
        ) from None


def _power(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    exponent = cast(PowerTransform, transform).exponent
    return exponent.abs().log() + (exponent - 1) * x.log()


def _break_stick(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    logit = x - torch.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device).log()
    left = logsigmoid(-logit)
    return (left + logsigmoid(logit) + left.cumsum(-1) - left).sum(-1)


def _correlate(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    # y_ij = z_ij * sqrt(left_ij), z = tanh(x), left_ij = the product of 1 - z_ik**2 over k < j.
    shrink = vec_to_tril_matrix(log_sech_squared(x), -1)
    left = (shrink.cumsum(-1) - shrink).tril(-1)
    return (shrink + left / 2).sum((-2, -1))


def _inverse(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    return -log_abs_det(transform.inv, y, x)


def _each(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    each = cast(IndependentTransform, transform)
    return _sum_last(log_abs_det(each.base_transform, x, y), each.reinterpreted_batch_ndims)


def _stack(transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    stack = cast(StackTransform, transform)
    deepest = max(t.domain.event_dim for t in stack.transforms)
    parts = zip(stack.transforms, x.unbind(stack.dim), y.unbind(stack.dim), strict=True)
    dets = [_sum_last(log_abs_det(t, a, b), deepest - t.domain.event_dim) for t, a, b in parts]
    # Torch takes the stacked dimension for one of the event, where it is counted from the end, and forgets to sum it.
    return _sum_last(torch.stack(dets, stack.dim), stack.domain.event_dim - deepest)


# What torch computes from `y`, or to single precision, by exact class: a subclass may compute something else.
_LOG_DETS: dict[type[Transform], Callable[[Transform, Tensor, Tensor], Tensor]] = {
    CorrCholeskyTransform: _correlate,
    IndependentTransform: _each,
    PowerTransform: _power,
    SigmoidTransform: lambda transform, x, y: logsigmoid(x) + logsigmoid(-x),
    StackTransform: _stack,
    SoftplusTransform: lambda transform, x, y: logsigmoid(x),
    StickBreakingTransform: _break_stick,
    TanhTransform: lambda transform, x, y: log_sech_squared(x),
    _InverseTransform: _inverse,
}


# Where the density is a formula of the noise, it is exact beyond what the sample can hold.


def _by_noise(d: Distribution, rows: torch.Size, source: Source | None, density: Callable[[Tensor], Tensor]) -> Pair:
    p = path.part(d)
    eps = p.noise.draw(rows, source=source)
    return p.push(eps), density(eps)


@sample_and_log_prob.register
def _(d: Exponential, rows: torch.Size, source: Source | None) -> Pair:
    return _by_noise(d, rows, source, lambda eps: d.rate.log() - eps)


@sample_and_log_prob.register
def _(d: Weibull, rows: torch.Size, source: Source | None) -> Pair:
    def density(eps: Tensor) -> Tensor:
        k = d.concentration
        return k.log() - d.scale.log() + (1 - 1 / k) * eps.log() - eps

    return _by_noise(d, rows, source, density)


@sample_and_log_prob.register
def _(d: Pareto, rows: torch.Size, source: Source | None) -> Pair:
    return _by_noise(d, rows, source, lambda eps: d.alpha.log() - d.scale.log() - (1 + 1 / d.alpha) * eps)


@sample_and_log_prob.register
def _(d: GeneralizedPareto, rows: torch.Size, source: Source | None) -> Pair:
    return _by_noise(d, rows, source, lambda eps: -d.scale.log() - (1 + d.concentration) * eps)


@sample_and_log_prob.register
def _(d: Gumbel, rows: torch.Size, source: Source | None) -> Pair:
    return _by_noise(d, rows, source, lambda eps: eps.log() - eps - d.scale.log())


@sample_and_log_prob.register
def _(d: Kumaraswamy, rows: torch.Size, source: Source | None) -> Pair:
    a, b = d.concentration1, d.concentration0

    def density(eps: Tensor) -> Tensor:
        # x**a = 1 - exp(-eps / b)
        return a.log() + b.log() - (1 - 1 / a) * reflect_exponential(eps / b) - (1 - 1 / b) * eps

    return _by_noise(d, rows, source, density)


@sample_and_log_prob.register
def _(d: LogitRelaxedBernoulli, rows: torch.Size, source: Source | None) -> Pair:
    def density(eps: Tensor) -> Tensor:
        # Of the standard logistic law: the product of its two tails, exp(-eps) and 1 - exp(-eps).
        return d.temperature.log() - eps - reflect_exponential(eps)

    return _by_noise(d, rows, source, density)


@sample_and_log_prob.register
def _(d: ContinuousBernoulli, rows: torch.Size, source: Source | None) -> Pair:
    x = _draw(d, rows, source)
    logits = d.logits
    # l x - log((exp(l) - 1) / l), with exponents that stay negative.
    return x, -torch.relu(logits) * (1 - x) - torch.relu(-logits) * x - exprel(-logits.abs()).log()


# Where mass sits at a boundary: drawn in logarithms or logits, in float64, with the density there.


@sample_and_log_prob.register
def _(d: Gamma, rows: torch.Size, source: Source | None) -> Pair:
    y, a = _log_gamma(d.concentration, rows, source)
    rate = d.rate.double()
    log_prob = rate.log() + (a - 1) * y - y.exp() - a.lgamma()
    return exp_as(y - rate.log(), d.rate.dtype), log_prob.to(d.rate.dtype)


@sample_and_log_prob.register
def _(d: InverseGamma, rows: torch.Size, source: Source | None) -> Pair:
    y, a = _log_gamma(d.concentration, rows, source)
    rate = d.rate.double()
    log_prob = (a + 1) * y - y.exp() - a.lgamma() - rate.log()
    return exp_as(rate.log() - y, d.rate.dtype), log_prob.to(d.rate.dtype)


def _log_gamma(concentration: Tensor, rows: torch.Size, source: Source | None) -> Pair:
    """The log of a Gamma(concentration, 1) variable, and the concentration, in float64."""
    noise = noise_like(concentration, EXPONENTIAL)
    p = Path(noise, partial(log_gamma_push, concentration), sample=partial(log_gamma_sample, concentration))
    return p.draw(rows, source=source), concentration.double()


@sample_and_log_prob.register
def _(d: Beta, rows: torch.Size, source: Source | None) -> Pair:
    a, b = d.concentration1, d.concentration0
    y = logit_beta_path(a, b, lambda y: y, lambda y: y).draw(rows, source=source)
    log_prob = logit_beta_log_density(a.double(), b.double(), y) - logsigmoid(y) - logsigmoid(-y)
    return representable(y.sigmoid().to(a.dtype), d.support), log_prob.to(a.dtype)


@sample_and_log_prob.register
def _(d: Dirichlet, rows: torch.Size, source: Source | None) -> Pair:
    dtype, alpha = d.concentration.dtype, d.concentration.double()
    log_x = log_dirichlet_path(d.concentration, lambda log_x: log_x).draw(rows, source=source)
    log_prob = ((alpha - 1) * log_x).sum(-1) + alpha.sum(-1).lgamma() - alpha.lgamma().sum(-1)
    return representable(log_x.exp().to(dtype), d.support), log_prob.to(dtype)
