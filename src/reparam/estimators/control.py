"""The score function with a control variate whose expectation has a pathwise gradient: REBAR, RELAX, LAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from reparam.estimators.estimator import Draw, sum_to_cost
from reparam.estimators.factors import Factors, factors
from reparam.estimators.gumbel import conditional_scores, noisy_scores, softened
from reparam.estimators.score import check_fixed_support
from reparam.estimators.surrogate import descend, magic
from reparam.noise import Source
from reparam.paths import rsample, sample
from reparam.paths.parameters import map_parameters
from reparam.paths.relaxed import check_temperature

__all__ = ["LAX", "REBAR", "RELAX"]

Surrogate = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Controlled(Draw):
    """A draw with values for the control variate.

    Attributes:
        soft: values that follow the parameters, then as many that do so given the rows, `2 n + batch + event`.
        parameters: the gradient in them is what has the variance.
        temperature: the soft values are made with it; a leaf of its own where it is learned.
    """

    soft: Tensor | None = None
    parameters: tuple[Tensor, ...] = ()
    temperature: float | Tensor = 1.0


@dataclass(frozen=True)
class REBAR:
    """The score function with the relaxed cost as control variate, for coins and one-hot choices.

    With hard values b, relaxed ones s at a temperature τ, and s̃ relaxed ones given b, the gradient is that of

        log q(b) (f(b) − η f(s̃)) + η (f(s) − f(s̃)),

    unbiased for every τ and scale η, also in what else f depends on; so are second derivatives, where f has them between the values
    of the law. The cost is evaluated at all three: n samples are 3 n rows. With `scale=0` it is `Score()`.

    Temperature and scale are learned where they are tensors that require a gradient: the optimiser that they are given to
    descends the variance of the gradient in the logits, whether the cost is minimised or maximised. Such a
    temperature must stay positive: keep its logarithm, and make the estimator anew in each step, `rp.REBAR(log_t.exp(), scale)`.
    Learned parts do not go through `torch.func` and `torch.compile`.

    Args:
        temperature: a positive number or tensor of one.
        scale: a number or tensor of one; what the control variate is multiplied by.

    Raises:
        ValueError: for a temperature that is not positive and finite.
        NotImplementedError: for a law that is not made of coins or one-hot choices.

    Source: Tucker et al., arXiv:1703.07370.

    Example:
        >>> import torch, reparam as rp
        >>> w, scale = torch.zeros(5, requires_grad=True), torch.tensor(1.0, requires_grad=True)
        >>> q = torch.distributions.Independent(torch.distributions.Bernoulli(logits=w), 1)
        >>> rp.expect(lambda z: (z.sum(-1) - 2.0) ** 2, q, estimator=rp.REBAR(0.5, scale), n=8).backward()
        >>> bool(w.grad.isfinite().all() and scale.grad != 0)
        True
    """

    temperature: float | Tensor = 0.5
    scale: float | Tensor = 1.0
    bias: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        _check_scale(self.scale)

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        return _relaxed_draw(factors(q, "REBAR", soft=True), q, n, source, self.temperature, soft_rows=True)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weighed(draw, cost, self.temperature, self.scale, None)


@dataclass(frozen=True)
class RELAX:
    """The score function with a learned control variate, for coins and choices.

    With hard values b, relaxed ones s, s̃ relaxed ones given b, and c = r + η f, the gradient is that of

        log q(b) (f(b) − c(s̃)) + c(s) − c(s̃),

    unbiased for every surrogate r; so are second derivatives, where c has them. With the `scale` η = 0 of the default
    f is evaluated at the n hard values only, and may be a black box of them; otherwise at 3 n rows, as `REBAR` does.

    The surrogate is trained by the optimiser that its parameters are given to: it descends the variance of the gradient in the
    logits, whether the cost is minimised or maximised; so do temperature and scale, where they are tensors that
    require a gradient. That takes a derivative of the gradient, so a surrogate of relu units learns less than one of smooth ones.
    Learned parts do not go through `torch.func` and `torch.compile`.

    Args:
        surrogate: an `nn.Module` or function r, from relaxed values `rows + batch + event`, inside the unit interval for coins and
            on the simplex for choices (of indices too), to `rows + batch`; each element of the batch by itself.
        temperature: of the relaxed values, as in `REBAR`.
        scale: of the relaxed cost, as in `REBAR`.

    Raises:
        ValueError: for a surrogate that returns another shape, or whose parameters the variance does not depend on; for a
            temperature that is not positive and finite.
        NotImplementedError: for a law that is not made of coins or choices; for indices where the scale is not 0.

    Source: Grathwohl et al., arXiv:1711.00123.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.zeros(5, requires_grad=True)
        >>> q = torch.distributions.Independent(torch.distributions.Bernoulli(logits=w), 1)
        >>> r = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Flatten(0))
        >>> rp.expect(lambda z: (z.sum(-1) - 2.0) ** 2, q, estimator=rp.RELAX(r), n=8).backward()
        >>> bool(w.grad.isfinite().all() and (r[0].weight.grad != 0).any())
        True
    """

    surrogate: Surrogate
    temperature: float | Tensor = 0.5
    scale: float | Tensor = 0.0
    bias: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        _check_surrogate(self.surrogate)
        check_temperature(self.temperature)
        _check_scale(self.scale)

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "RELAX with the relaxed cost (scale other than 0)" if self._soft else "RELAX", soft=self._soft)
        return _relaxed_draw(law, q, n, source, self.temperature, soft_rows=self._soft)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weighed(draw, cost, self.temperature, self.scale if self._soft else None, self.surrogate)

    @property
    def _soft(self) -> bool:
        """Whether the cost is evaluated at relaxed values; a tensor may be learned away from zero."""
        return isinstance(self.scale, Tensor) or self.scale != 0


@dataclass(frozen=True)
class LAX:
    """The score function with a learned control variate, for laws that have a differentiable sampler.

    With x = g(θ, ε), the gradient is that of

        log q(x) (f(x) − c(x)) + c(g(θ, ε)),

    x constant in the first term: unbiased for every surrogate c and every f, a black box or one with steps too. It is `Pathwise` where
    c = f and `Score` where c = 0. The surrogate is trained as that of `RELAX`, by the variance in the tensors that the
    law is made of. Learned parts do not go through `torch.func` and `torch.compile`.

    Args:
        surrogate: an `nn.Module` or function c, from samples `rows + batch + event` to `rows + batch`; each element of the
            batch by itself.

    Raises:
        ValueError: for a surrogate that returns another shape, or whose parameters the variance does not depend on; where a bound
            of the support needs a gradient.
        NoPathError: when the law has no differentiable sampler.

    Source: Grathwohl et al., arXiv:1711.00123.

    Example:
        >>> import torch, reparam as rp
        >>> mu = torch.zeros(3, requires_grad=True)
        >>> steps = lambda x: (x > 0.5).float()
        >>> lax = rp.LAX(lambda x: torch.sigmoid(4 * (x - 0.5)))
        >>> rp.expect(steps, torch.distributions.Normal(mu, 1.0), estimator=lax, n=8).sum().backward()
        >>> mu.grad.shape
        torch.Size([3])
    """

    surrogate: Surrogate
    bias: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        _check_surrogate(self.surrogate)

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        check_fixed_support(q)
        x = rsample(q, (n,), source=source)
        # A copy: a caching transform would recognise its own output, and answer with the inverse that is in the graph.
        value = x.detach().clone()
        made_of: list[Tensor] = []
        map_parameters(q, lambda t: made_of.append(t) or t)  # type: ignore[func-returns-value]
        return _Controlled(
            value,
            q.batch_shape,
            q.log_prob(value),
            soft=torch.cat([x, value]),
            parameters=tuple(t for t in made_of if t.requires_grad),
        )

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return _weighed(draw, cost, 1.0, None, self.surrogate)


def _relaxed_draw(
    law: Factors, q: Distribution, n: int, source: Source | None, temperature: float | Tensor, *, soft_rows: bool
) -> Draw:
    value = sample(q, (n,), source=source)
    index = law.index(value)
    # The free relaxed values have noise of their own: given the outcome of the others, or all of their noise, the variance is more.
    scores = torch.cat([noisy_scores(law, n, source), conditional_scores(law, index, source)[0]])
    apart = _apart(check_temperature(temperature))
    # A category that cannot come has a score of minus infinity, of which there is no derivative in the temperature.
    soft = softened(law, scores.clamp(min=-1e9), apart).to(law.logits.dtype)
    rows = torch.cat([value, soft]) if soft_rows else value
    return _Controlled(rows, q.batch_shape, law.joint(law.log_prob(index)), soft=soft, parameters=(law.logits,), temperature=apart)


def _weighed(
    draw: Draw, cost: Tensor, temperature: float | Tensor, scale: float | Tensor | None, surrogate: Surrogate | None
) -> Tensor:
    """The estimate with the control variate `scale` × cost, evaluated in rows of its own unless None, + surrogate."""
    if not isinstance(draw, _Controlled) or draw.soft is None or draw.log_prob is None:
        raise ValueError("this draw has no relaxed values: weigh it with the estimator that drew it")
    learned = {"the temperature": _pair(temperature, draw.temperature)}
    n = len(draw.soft) // 2
    hard, control = cost[:n], cost.new_zeros(())
    if scale is not None:
        apart = _apart(scale.reshape(()) if isinstance(scale, Tensor) else scale)
        learned["the scale"] = _pair(scale, apart)
        control = apart * cost[n:]
    if surrogate is not None:
        copies: dict[str, Tensor] = {}
        if isinstance(surrogate, nn.Module):
            given: dict[str, Tensor] = {name: p for name, p in surrogate.named_parameters() if p.requires_grad}
            copies = {name: _leaf(p) for name, p in given.items()}
            learned["the surrogate"] = [(given[name], copies[name]) for name in given]
        control = control + _surrogate_of(surrogate, copies, draw, hard)
    free, tied = control.chunk(2)
    value = (magic(draw.log_prob, hard) * (hard - tied) + free).mean(0)
    return _training(value, draw.parameters, {name: pairs for name, pairs in learned.items() if pairs})


def _surrogate_of(surrogate: Surrogate, parameters: dict[str, Tensor], draw: _Controlled, cost: Tensor) -> Tensor:
    soft, batch = draw.soft, draw.batch_shape
    c = functional_call(surrogate, parameters, (soft,)) if isinstance(surrogate, nn.Module) else surrogate(soft)  # type: ignore[arg-type]
    wanted = soft.shape[:1] + batch  # type: ignore[union-attr]
    if not isinstance(c, Tensor) or c.shape != wanted[: c.dim()] or c.dim() < cost.dim():
        came = f"the shape {tuple(c.shape)}" if isinstance(c, Tensor) else f"a {type(c).__name__}"
        raise ValueError(
            f"the surrogate returned {came} for values of shape {tuple(soft.shape)}; wanted rows + batch, "  # type: ignore[union-attr]
            f"{tuple(wanted)}: sum over the event, and keep the batch"
        )
    return sum_to_cost(c, cost)


def _training(value: Tensor, parameters: tuple[Tensor, ...], learned: dict[str, list[tuple[Tensor, Tensor]]]) -> Tensor:
    """`value`, with the variance of its gradient in the parameters to be descended in what is learned."""
    parameters = tuple(p for p in parameters if p.requires_grad)
    if not (learned and parameters and torch.is_grad_enabled()):
        return value
    slopes = torch.autograd.grad(value.sum(), parameters, create_graph=True, allow_unused=True)
    # The mean of a gradient is its own, whatever the control variate: its square differs from the variance by a constant.
    loss = sum((s.square().sum() for s in slopes if s is not None), value.new_zeros(())) / max(value.numel(), 1)
    ride = torch.zeros_like(loss)
    for name, pairs in learned.items():
        copies = [copy for _, copy in pairs]
        found = torch.autograd.grad(loss, copies, retain_graph=True, allow_unused=True) if loss.requires_grad else [None]
        if all(slope is None for slope in found):
            raise ValueError(
                f"{name} gets no gradient, because the variance does not depend on it: is it cut from the graph (detach, round, "
                "item), or the cost flat between the values of the law? Let it not require a gradient to keep it as it is"
            )
        ride = ride + sum((p * slope).sum() for (p, _), slope in zip(pairs, found, strict=True) if slope is not None)
    return descend(value, ride)


def _leaf(x: Tensor) -> Tensor:
    """What is learned, as a leaf of its own: the gradient of the value does not reach what is learned, that of the variance does."""
    return x.detach().requires_grad_()


def _apart(x: float | Tensor) -> float | Tensor:
    return _leaf(x) if isinstance(x, Tensor) and x.requires_grad else x


def _pair(given: float | Tensor, apart: float | Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(given, apart)] if isinstance(given, Tensor) and isinstance(apart, Tensor) and given.requires_grad else []


def _check_scale(scale: float | Tensor) -> None:
    if isinstance(scale, Tensor) and scale.numel() != 1:
        raise ValueError(f"the scale of a control variate has shape {tuple(scale.shape)}; it must be one number")


def _check_surrogate(surrogate: Surrogate) -> None:
    if isinstance(surrogate, type) or not callable(surrogate):
        raise TypeError(f"the surrogate must be an nn.Module or a function, from values to rows + batch; got {surrogate!r}")
