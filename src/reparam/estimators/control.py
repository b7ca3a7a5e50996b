"""The score function with a control variate whose expectation has a pathwise gradient: REBAR, RELAX, LAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators.estimator import Draw
from reparam.estimators.factors import Factors, factors
from reparam.estimators.gumbel import conditional_scores, noisy_scores, softened
from reparam.estimators.score import check_fixed_support
from reparam.estimators.variate import Controlled, Surrogate, apart, check_scale, check_surrogate, controlled
from reparam.noise import Source
from reparam.paths import rsample, sample
from reparam.paths.parameters import map_parameters
from reparam.paths.relaxed import check_temperature

__all__ = ["LAX", "REBAR", "RELAX"]


@dataclass(frozen=True)
class REBAR:
    """The score function with the relaxed cost as control variate, for coins and one-hot choices.

    With hard values b, relaxed ones s at a temperature τ, and s̃ relaxed ones given b, the gradient is that of

        log q(b) (f(b) − η f(s̃)) + η (f(s) − f(s̃)),

    unbiased for every τ and scale η, also in what else f depends on; so are second derivatives, where f has them between the values
    of the law. The cost is evaluated at all three: n samples are 3 n rows. For n ≥ 2 the mean of f(b) − η f(s̃) over the other
    samples is a baseline, unless the rows of the source depend on each other. So with `scale=0` it is `LeaveOneOut()`, or `Score()`
    for one sample.

    Temperature and scale are learned where they are tensors that require a gradient: the optimiser that they are given to
    descends the variance of the gradient in the logits, whether the cost is minimised or maximised. Such a
    temperature must stay positive: keep its logarithm, and make the estimator anew in each step, `rp.REBAR(log_t.exp(), scale)`.
    Learned parts do not go through `torch.func` and `torch.compile`, nor in a graph through later nodes that have first
    derivatives only, such as those of `DisARM`.

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
        check_scale(self.scale)

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        return _relaxed_draw(factors(q, "REBAR", soft=True), q, n, source, self.temperature, soft_rows=True)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return controlled(draw, cost, self.temperature, self.scale, None)


@dataclass(frozen=True)
class RELAX:
    """The score function with a learned control variate, for coins and choices.

    With hard values b, relaxed ones s, s̃ relaxed ones given b, and c = r + η f, the gradient is that of

        log q(b) (f(b) − c(s̃)) + c(s) − c(s̃),

    unbiased for every surrogate r; so are second derivatives, where c has them. Other samples give a baseline, as in `REBAR`. With
    the `scale` η = 0 of the default f is evaluated at the n hard values only, and may be a black box of them; otherwise at 3 n
    rows, as `REBAR` does.

    The surrogate is trained by the optimiser that its parameters are given to: it descends the variance of the gradient in the
    logits, whether the cost is minimised or maximised; so do temperature and scale, where they are tensors that
    require a gradient. That takes a derivative of the gradient, so a surrogate of relu units learns less than one of smooth ones.
    Learned parts do not go through `torch.func` and `torch.compile`.

    Args:
        surrogate: an `nn.Module` or function r, from relaxed values `rows + batch + event`, inside the unit interval for coins and
            on the simplex for choices (of indices too), to `rows + batch`; each element of the batch by itself. Only a module's own
            parameters are trained: those that a function around it holds get noise of mean zero.
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
        check_surrogate(self.surrogate)
        check_temperature(self.temperature)
        check_scale(self.scale)

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        law = factors(q, "RELAX with the relaxed cost (scale other than 0)" if self._soft else "RELAX", soft=self._soft)
        return _relaxed_draw(law, q, n, source, self.temperature, soft_rows=self._soft)

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return controlled(draw, cost, self.temperature, self.scale if self._soft else None, self.surrogate)

    @property
    def _soft(self) -> bool:
        """Whether the cost is evaluated at relaxed values; a tensor may be learned away from zero."""
        return isinstance(self.scale, Tensor) or self.scale != 0


@dataclass(frozen=True)
class LAX:
    """The score function with a learned control variate, for laws that have a differentiable sampler.

    With x = g(θ, ε), the gradient is that of

        log q(x) (f(x) − c(x)) + c(g(θ, ε)),

    x constant in the first term: unbiased for every surrogate c and every f, a black box or one with steps too. It is `Pathwise`
    where c = f, and where c = 0 `LeaveOneOut`, or `Score` for one sample. The surrogate is trained as that of `RELAX`, by the
    variance in the tensors that the law is made of. Learned parts do not go through `torch.func` and `torch.compile`.

    Args:
        surrogate: an `nn.Module` or function c, from samples `rows + batch + event` to `rows + batch`; each element of the
            batch by itself. Only a module's own parameters are trained, as in `RELAX`.

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
        check_surrogate(self.surrogate)

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        check_fixed_support(q)
        x = rsample(q, (n,), source=source)
        # A copy: a caching transform would recognise its own output, and answer with the inverse that is in the graph.
        value = x.detach().clone()
        made_of: list[Tensor] = []
        map_parameters(q, lambda t: made_of.append(t) or t)  # type: ignore[func-returns-value]
        return Controlled(
            value,
            q.batch_shape,
            q.log_prob(value),
            soft=torch.cat([x, value]),
            parameters=tuple(t for t in made_of if t.requires_grad),
            independent=getattr(source, "independent", True),
        )

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        return controlled(draw, cost, 1.0, None, self.surrogate)


def _relaxed_draw(
    law: Factors, q: Distribution, n: int, source: Source | None, temperature: float | Tensor, *, soft_rows: bool
) -> Draw:
    value = sample(q, (n,), source=source)
    index = law.index(value)
    # The free relaxed values have noise of their own: given the outcome of the others, or all of their noise, the variance is more.
    scores = torch.cat([noisy_scores(law, n, source), conditional_scores(law, index, source)[0]])
    own = apart(check_temperature(temperature))
    # A category that cannot come has a score of minus infinity, of which there is no derivative in the temperature.
    soft = softened(law, scores.clamp(min=-1e9), own).to(law.logits.dtype)
    rows = torch.cat([value, soft]) if soft_rows else value
    return Controlled(
        rows,
        q.batch_shape,
        law.joint(law.log_prob(index)),
        soft=soft,
        parameters=(law.logits,),
        temperature=own,
        independent=getattr(source, "independent", True),
    )
