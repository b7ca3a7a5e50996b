"""Mixtures of one family: their quantile function, differentiable in the weights and in the components' parameters.

A univariate mixture has the distribution function `F(x) = sum_k w_k F_k(x)`, and its path is the inverse of that. A vector goes
dimension by dimension (Rosenblatt): given those before it, each is a univariate mixture, weighted by the posterior
probabilities of the components.

Components far apart: the weights move the samples between them, and almost no sample lies there. Their gradient is unbiased only
through events that may never occur (normals ten deviations apart): use `rp.Score()` for the weights, or `rp.Enumerate` over the
component. Where bounded supports leave a gap, no sample shows it at all, and a gradient in the weights is refused.

Source: Graves, arXiv:1607.05690; Figurnov et al., arXiv:1805.08498.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Transform,
    constraints,
)

from reparam.noise import EXPONENTIAL, Fresh, Noise, readable, reflect_exponential
from reparam.paths.compose import steps
from reparam.paths.cumulative import UnivariateLaw
from reparam.paths.parameters import map_parameters
from reparam.paths.path import NoPathError, Path, _refuse, is_discrete, path, representable
from reparam.special.tails import LOG2

__all__: list[str] = []

# Safeguarded Newton steps: most take five to ten, and eager code stops there; more where the scales of components differ by many
# orders. A compiler writes every step out: its number is enough for scales within a factor of a hundred.
STEPS = 40
COMPILED_STEPS = 16


@path.register
def mixture_path(d: MixtureSameFamily) -> Path:
    """`x` with `-log P(X > x) = eps`, one dimension after another; fresh samples draw a component.

    Derivatives are implicit, and right to third order: `dx = -dF / p` in the logarithm of the smaller tail.
    """
    if is_discrete(d):
        return _refuse(d)
    component, batch, event = d.component_distribution, d.batch_shape, d.event_shape
    log_w = _log_weights(d)
    conditionals = _conditionals(component, weights_move=log_w.requires_grad)
    parts = path.part(component)

    def walk(values: Tensor, visit: Callable[[_Mixture, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """Visit each dimension's mixture, given the samples in those before; a visit gives the sample and its result."""
        rows = values.shape[: values.dim() - len(batch) - len(event)]
        before: list[Tensor] = []
        results = []
        mixture = None
        for law, value in zip(conditionals(before), values.reshape(rows + batch + (math.prod(event),)).unbind(-1), strict=True):
            mixture = _Mixture(log_w if mixture is None else mixture.posterior(before[-1]), law)
            x, result = visit(mixture, value)
            before.append(x)
            results.append(result)
        return torch.stack(results, -1).reshape(values.shape)

    def push(eps: Tensor) -> Tensor:
        def visit(mixture: _Mixture, eps: Tensor) -> tuple[Tensor, Tensor]:
            x = mixture.attach(mixture.solve(eps.detach()), eps)
            return x, x

        return walk(eps, visit)

    def pull(x: Tensor) -> Tensor:
        return walk(x, lambda mixture, x: (x, mixture.hazard(x)))

    def sample(rows: torch.Size, generator: torch.Generator | None) -> Tensor:
        with torch.no_grad():
            # The first of K exponential clocks with the weights as rates.
            clocks = Noise(EXPONENTIAL, component.batch_shape, parts.noise.dtype, parts.noise.device)
            index = (log_w - clocks.draw(tuple(rows), source=Fresh(generator)).log()).argmax(-1)
            index = index.reshape(index.shape + (1,) * (1 + len(event)))
            every = parts.draw(tuple(rows), source=Fresh(generator))
            x = torch.take_along_dim(every, index, len(rows) + len(batch)).squeeze(len(rows) + len(batch)).detach()

        def visit(mixture: _Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
            x = mixture.attach(x)
            return x, x

        return walk(x, visit)

    return Path(Noise(EXPONENTIAL, batch + event, parts.noise.dtype, parts.noise.device), push, pull, sample)


def _log_weights(d: MixtureSameFamily) -> Tensor:
    """The logarithms of the weights; a weight that is given as zero keeps its derivative."""
    c = d.mixture_distribution
    if vars(c).get("probs") is not c._param:
        return torch.log_softmax(c.logits, -1)  # as wide as the parameters are now: torch normalized them in half precision
    least = torch.finfo(c.probs.dtype).tiny ** 0.75
    log_w: Tensor = (c.probs + (least - c.probs.detach()).clamp(min=0.0)).log()
    return log_w


def _check_supports(law: UnivariateLaw, dim: int, name: str, *, weights_move: bool) -> None:
    """Refuse what a path would move by jumps: no sample shows these, and gradients would be biased."""
    low, high = (e.detach().expand(law.shape).movedim(dim, -1).cpu() for e in law.ends())
    if not readable(low):
        return
    if dim != -1 and bool(((low != low[..., :1]) | (high != high[..., :1])).any()):
        raise NoPathError(
            f"these components of {name} have supports of different bounds: where one ends, the law of the next dimension jumps. "
            "Use the score function, rp.expect(f, d, estimator=rp.Score())"
        )
    low, order = low.sort(-1)
    if weights_move and bool((low[..., 1:] > torch.take_along_dim(high, order, -1).cummax(-1).values[..., :-1]).any()):
        raise NoPathError(
            f"the supports of these components of {name} leave a gap, and no sample in it shows what the weights move: give "
            "weights without a gradient, or use the score function, rp.expect(f, d, estimator=rp.Score())"
        )


class _Mixture:
    """A univariate mixture: log-weights, and the law of the components along the last dimension."""

    def __init__(self, log_w: Tensor, law: UnivariateLaw) -> None:
        self.log_w, self.law = log_w, law

    def log_tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        below, above = self.law.log_tails(x.unsqueeze(-1))
        return torch.logsumexp(self.log_w + below, -1), torch.logsumexp(self.log_w + above, -1)

    def log_tail(self, x: Tensor, upper: Tensor) -> Tensor:
        return torch.logsumexp(self.log_w + self.law.log_tail(x.unsqueeze(-1), upper.unsqueeze(-1)), -1)

    def log_density(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self.log_w + self.law.log_density(x.unsqueeze(-1)), -1)

    def posterior(self, x: Tensor) -> Tensor:
        """The log-probabilities of the components, given a sample."""
        return torch.log_softmax(self.log_w + self.law.log_density(x.unsqueeze(-1)), -1)

    def hazard(self, x: Tensor) -> Tensor:
        below, above = self.log_tails(x)
        upper = above < below
        # Each branch sees only arguments it can bear, so that no infinite derivative leaks through `where`.
        return torch.where(upper, -above, reflect_exponential(torch.where(upper, LOG2, -below)))

    def solve(self, eps: Tensor) -> Tensor:
        """The value with `-log P(X > x) = eps`."""
        with torch.no_grad():
            log_s, log_f = -eps, -reflect_exponential(eps)
            upper = eps > LOG2
            low, high = self._bracket(log_s, log_f)
            x, last = torch.where(upper, low, high), high - low
            fine = 2 * torch.finfo(eps.dtype).eps
            for i in range(COMPILED_STEPS if torch.compiler.is_compiling() else STEPS):
                # On this scale both tails are nearly straight; what is missed rises with x.
                tail = self.log_tail(x, upper)
                miss = torch.where(upper, log_s - tail, tail - log_f)
                low, high = torch.where(miss <= 0, x, low), torch.where(miss >= 0, x, high)
                move = miss * torch.exp(tail - self.log_density(x))
                newton = x - move
                there = (move.abs() <= fine * x.abs()) | (miss.abs() <= fine * (1 - torch.where(upper, log_s, log_f)))
                fast = (newton >= low) & (newton <= high) & (2 * move.abs() <= last)
                following = torch.where(there, x, torch.where(fast, newton, _between(low, high, by_size=bool(i % 2))))
                x, last = following, (following - x).abs()
                if readable(x) and bool(there.all()):
                    break
            return self.inside(x).detach()  # forward mode does not stop at no_grad

    def _bracket(self, log_s: Tensor, log_f: Tensor) -> tuple[Tensor, Tensor]:
        """Two values around the quantile: of the components at the same rank, and at those that their weights allow."""
        log_s, log_f = log_s.unsqueeze(-1), log_f.unsqueeze(-1)
        rank = self.law.from_log_survival(log_s)
        some = (self.log_w > -math.inf).expand(rank.shape)
        # w_k S_k <= S and w_k F_k <= F.
        share_s, share_f = log_s - self.log_w, log_f - self.log_w
        least = torch.where(share_s < 0, self.law.from_log_survival(share_s.clamp(max=0.0)), -math.inf).amax(-1)
        most = torch.where(share_f < 0, self.law.from_log_cdf(share_f.clamp(max=0.0)), math.inf).amin(-1)
        low = torch.maximum(torch.where(some, rank, math.inf).amin(-1), least)
        high = torch.minimum(torch.where(some, rank, -math.inf).amax(-1), most)
        # The quantiles of the components are rounded.
        room = (high - low).abs() * 1e-3 + torch.maximum(low.abs(), high.abs()) * math.sqrt(torch.finfo(low.dtype).eps)
        return self.inside(torch.minimum(low, high) - room), self.inside(torch.maximum(low, high) + room)

    def inside(self, x: Tensor) -> Tensor:
        """`x`, where rounding put it on or beyond an end of all supports moved inside."""
        low, high = (e.expand(self.law.shape) for e in self.law.ends())
        return representable(x, constraints.interval(low.amin(-1), high.amax(-1)))

    def attach(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        """The value `x` as a function of the parameters, and of `eps`, at a fixed rank: two Newton steps that do not move it."""
        with torch.no_grad():
            if eps is None:
                below, above = self.log_tails(x.detach())
                upper = above < below
            else:
                upper = eps > LOG2
            # Where the floats end no derivative is finite: such samples have none, and no formula sees them.
            slope = self.log_density(x.detach()) - self.log_tail(x.detach(), upper)
            ordinary = slope.abs() < math.log(torch.finfo(x.dtype).max) / 2
            given, x = x, torch.where(ordinary, x, self.middle())

        def miss(x: Tensor) -> tuple[Tensor, Tensor]:
            tail = self.log_tail(x, upper)
            # The density in the units of the rank.
            slope = torch.exp(self.log_density(x) - tail)
            rank = torch.where(upper, -tail, tail)
            if eps is not None:
                rank = rank - torch.where(upper, eps, -reflect_exponential(eps))
            return rank, torch.where(slope > 0, slope, math.inf)

        rank, slope = miss(x)
        fixed = rank.detach()
        x = x - (rank - fixed) / slope.detach()
        rank, slope = miss(x)
        return torch.where(ordinary, x - (rank - fixed) / slope, given)

    def middle(self) -> Tensor:
        """A value in the middle of the heaviest component."""
        middles, log_w = torch.broadcast_tensors(self.law.middle(), self.log_w)
        return torch.take_along_dim(middles, log_w.argmax(-1, keepdim=True), -1).squeeze(-1)


def _between(low: Tensor, high: Tensor, *, by_size: bool) -> Tensor:
    """The middle of an interval, or where both ends have one sign their geometric mean."""
    middle = low + (high - low) / 2
    if not by_size:
        return middle
    size = torch.maximum(low.abs(), high.abs())
    mean = (torch.maximum(torch.minimum(low.abs(), high.abs()), 1e-8 * size)).sqrt() * size.sqrt() * middle.sign()
    return torch.where((low * middle.sign() >= 0) & (high * middle.sign() >= 0), mean, middle)


def _conditionals(component: Distribution, *, weights_move: bool) -> Callable[[list[Tensor]], Iterator[UnivariateLaw]]:
    """For each dimension in turn the law of all components there, given the list of the samples before it, which grows."""
    if not component.event_shape:
        law = UnivariateLaw(component)
        _check_supports(law, -1, type(component).__name__, weights_move=weights_move)
        return lambda before: iter([law])
    if isinstance(component, MultivariateNormal | LowRankMultivariateNormal):
        return lambda before: _normals(component.loc, component.scale_tril, before)
    base, event = component, component.event_shape
    while isinstance(base, Independent):
        base = base.base_dist
    if base.event_shape or not isinstance(component, Independent):
        raise NoPathError(
            f"a mixture of {type(base).__name__} has no path: components may be univariate, Independent of univariate ones, "
            "MultivariateNormal or LowRankMultivariateNormal. Use the score function, rp.expect(f, d, estimator=rp.Score())"
        )
    _check_supports(UnivariateLaw(base), -1 - len(event), type(base).__name__, weights_move=weights_move)
    return lambda before: (UnivariateLaw(_slice(base, len(event), i)) for i in range(event.numel()))


def _normals(loc: Tensor, factor: Tensor, before: list[Tensor]) -> Iterator[UnivariateLaw]:
    """`x_i` is normal around `loc_i + sum_{j<i} L_ij z_j`, with the deviation `L_ii`."""
    z: list[Tensor] = []
    for i in range(loc.shape[-1]):
        mean, deviation = loc[..., i], factor[..., i, i]
        for j in range(i):
            mean = mean + factor[..., i, j] * z[j]
        yield UnivariateLaw(Normal(mean, deviation, validate_args=False))
        z.append((before[i].unsqueeze(-1) - mean) / deviation)


def _slice(base: Distribution, dims: int, index: int) -> Distribution:
    """The law at one index of the last batch dimensions."""
    shape = base.batch_shape
    try:
        part = map_parameters(base, lambda t: t.expand(shape).flatten(-dims)[..., index])
    except RuntimeError as error:
        raise _whole(base) from error
    _reshape(part, shape, shape[:-dims])
    return part


def _reshape(d: Distribution, came: torch.Size, wanted: torch.Size) -> None:
    for value in vars(d).values():
        if isinstance(value, Distribution):
            _reshape(value, came, wanted)
        elif isinstance(value, list):
            parts = steps(t for t in value if isinstance(t, Transform))
            if any(isinstance(v, nn.Module | Distribution) for t in parts for v in vars(t).values()):
                raise _whole(d)
    if d.batch_shape != came or d.event_shape:
        raise _whole(d)
    d._batch_shape = wanted


def _whole(d: Distribution) -> NoPathError:
    return NoPathError(
        f"a mixture of Independent {type(d).__name__} has no path: not every tensor of {type(d).__name__} is one number for each "
        f"element of its batch shape {tuple(d.batch_shape)}. Use the score function, rp.expect(f, d, estimator=rp.Score())"
    )
