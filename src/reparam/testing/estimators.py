"""What a gradient estimator promises, property by property."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from reparam.estimators import Enumerate, Estimator, Sampler, Score, expect, graph
from reparam.noise import Fresh
from reparam.stats import Verdict, mean_test
from reparam.testing.subject import Found

__all__ = ["ESTIMATOR_PROPERTIES", "Experiment"]

_ALPHA = 1e-9


@dataclass(frozen=True)
class Experiment:
    """An estimator at work on a cost.

    Attributes:
        estimator: what is checked.
        make: the law as a function of its parameters; more dimensions in front of each of them are more batch dimensions.
        parameters: their values, in float64.
        f: the cost, from `rows + batch + event` to `rows + batch`.
        n: rows.
        exact: E[f] as a differentiable function of the parameters, of shape `batch`; by default it is enumerated.
        value: the expectation of the estimate where it is not E[f], of a biased estimator.
        gradient: the expectation of the gradient estimate in each parameter, of a biased estimator.
        variance: of the gradient estimate in each parameter, element by element, where a closed form is known (None: not).
        second: whether second derivatives are right; otherwise they must be refused, unless None: not looked at.
        draws: independent estimates, of which means are taken.
        detects: the largest error, in units of the truth's largest element or 1, that may go unnoticed.
        seed: of the generator that everything random comes from.
    """

    estimator: Estimator
    make: Callable[..., Distribution]
    parameters: tuple[Tensor, ...]
    f: Callable[[Tensor], Tensor]
    n: int = 1
    exact: Callable[..., Tensor] | None = None
    value: Tensor | float | None = None
    gradient: tuple[Any, ...] | None = None
    variance: tuple[Any, ...] | None = None
    second: bool | None = False
    draws: int = 100_000
    detects: float = 0.1
    seed: int = 0

    def leaves(self, draws: int | None = None) -> list[Tensor]:
        """The parameters as tensors of their own, one copy for each draw in front."""
        rows = () if draws is None else (draws,)
        return [p.expand(rows + p.shape).clone().requires_grad_() for p in self.parameters]

    def fresh(self, salt: int = 0) -> Fresh:
        return Fresh(torch.Generator().manual_seed(self.seed + salt))

    def estimates(self, leaves: list[Tensor], salt: int = 0) -> Tensor:
        """One estimate for each draw, of shape `draws + batch`, in the graph of the leaves."""
        return expect(self.f, self.make(*leaves), estimator=self.estimator, n=self.n, source=self.fresh(salt))

    def truth(self) -> tuple[Tensor, list[Tensor]]:
        """E[f], of shape `batch`, in the graph of the parameters that come with it."""
        leaves = self.leaves()
        if self.exact is not None:
            return self.exact(*leaves), leaves
        return expect(self.f, self.make(*leaves), estimator=Enumerate()), leaves

    def gradient_of(self, value: Tensor, leaves: list[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value.sum(), leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True)


def bias_is_said(case: Experiment) -> Found:
    bias = case.estimator.bias
    fine = bias is None or (isinstance(bias, str) and len(bias.split()) > 3 and bias.rstrip().endswith("."))
    yield fine, f"bias is {bias!r}; wanted None, or a sentence that says how it is biased"


def shapes(case: Experiment) -> Found:
    """An estimate has the shape of the cost without rows, whether the cost keeps the batch or sums a dimension of it."""
    leaves = case.leaves(3)
    q = case.make(*leaves)
    draw = case.estimator.draw(q, case.n, case.fresh())
    wanted = q.batch_shape + q.event_shape
    yield draw.value.shape[1:] == wanted, f"rows of shape {tuple(draw.value.shape[1:])}; wanted {tuple(wanted)}"
    value = case.estimator.weigh(draw, case.f(draw.value))
    yield value.shape == q.batch_shape, f"an estimate of shape {tuple(value.shape)}; wanted {tuple(q.batch_shape)}"


def value(case: Experiment) -> Found:
    if case.value is None and case.estimator.bias is not None and case.gradient is None:
        yield None, "biased, and the expectation of its value was not given"
        return
    wanted = case.truth()[0] if case.value is None else torch.as_tensor(case.value, dtype=torch.float64)
    found = case.estimates(case.leaves(case.draws)).detach()
    yield from _means("E[f]", found, wanted.expand(found.shape[1:]), case.detects)


def gradient(case: Experiment) -> Found:
    """The mean of the gradient estimates is the gradient of E[f], or of a biased estimator the documented one."""
    if case.estimator.bias is not None and case.gradient is None:
        yield None, "biased, and the expectation of its gradient was not given"
        return
    leaves = case.leaves(case.draws)
    found = case.gradient_of(case.estimates(leaves, 1), leaves)
    if case.gradient is None:
        exact, of = case.truth()
        wanted = case.gradient_of(exact, of)
    else:
        wanted = tuple(torch.as_tensor(g, dtype=torch.float64) for g in case.gradient)
    for i, (estimate, truth) in enumerate(zip(found, wanted, strict=True)):
        yield from _means(f"gradient in parameter {i}", estimate, truth.expand(estimate.shape[1:]), case.detects)


def variance(case: Experiment) -> Found:
    if case.variance is None:
        yield None, "no closed form was given"
        return
    leaves = case.leaves(case.draws)
    found = case.gradient_of(case.estimates(leaves, 2), leaves)
    for i, (estimate, wanted) in enumerate(zip(found, case.variance, strict=True)):
        if wanted is None:
            continue
        truth = torch.as_tensor(wanted, dtype=torch.float64).expand(estimate.shape[1:])
        squares = (estimate - estimate.mean(0)) ** 2
        yield from _means(f"variance in parameter {i}", squares, truth, 2 * case.detects)


def direct_dependence(case: Experiment) -> Found:
    """What the cost depends on beside the sample is differentiated too: d/dw E[w f] = E[f]."""
    if case.estimator.bias is not None and case.value is None and case.gradient is None:
        yield None, "biased, and the expectation of its value was not given"
        return
    w = torch.ones(case.draws, dtype=torch.float64, requires_grad=True)
    q = case.make(*case.leaves(case.draws))

    def f(z: Tensor) -> Tensor:
        cost = case.f(z)
        return cost * w.reshape(w.shape + (1,) * (cost.dim() - 2))

    estimate = expect(f, q, estimator=case.estimator, n=case.n, source=case.fresh(3))
    (found,) = torch.autograd.grad(estimate.sum(), w)
    wanted = case.truth()[0] if case.value is None else torch.as_tensor(case.value, dtype=torch.float64)
    yield from _means("derivative in a weight of the cost", found, wanted.detach().expand(q.batch_shape[1:]).sum(), case.detects)


def nesting(case: Experiment) -> Found:
    """Inside the cost of another estimator, the estimate counts as a cost: b is a coin with logit a, the cost (1 + b) f(z)."""
    if case.estimator.bias is not None:
        yield None, "biased"
        return
    leaves = case.leaves(case.draws)
    a = torch.full((case.draws,), 0.4, dtype=torch.float64, requires_grad=True)
    batch = case.make(*leaves).batch_shape
    coin = Bernoulli(logits=a.reshape(a.shape + (1,) * (len(batch) - 1)).expand(batch))

    def model(sample: Sampler) -> Tensor:
        b = sample("b", coin)
        return (1 + b) * case.f(sample("z", case.make(*leaves)))

    value = graph(
        model, estimators={"b": Score(), "z": case.estimator}, n={"z": case.n}, batch_shape=tuple(batch), source=case.fresh(4)
    )
    found = case.gradient_of(value, [*leaves, a])
    exact, of = case.truth()
    theta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    wanted = case.gradient_of((1 + theta.sigmoid()) * exact, [*of, theta])
    for name, estimate, truth in zip([*map(str, range(len(leaves))), "of the outer law"], found, wanted, strict=True):
        yield from _means(f"gradient in parameter {name}", estimate, truth.expand(estimate.shape[1:]), 3 * case.detects)


def second_derivatives(case: Experiment) -> Found:
    if case.second is None:
        yield None, "left out"
        return
    leaves = case.leaves(case.draws if case.second else 2)
    estimate = case.estimates(leaves, 5)
    first = case.gradient_of(estimate, leaves, create_graph=True)
    total = sum((g.sum() for g in first), torch.zeros(()))
    if not case.second:
        try:
            found = case.gradient_of(total, leaves) if total.requires_grad else None
        except NotImplementedError:
            yield True, "refused"
            return
        yield False, "silently zero" if found is None else "not refused, though not promised to be right"
        return
    exact, of = case.truth()
    slopes = case.gradient_of(exact, of, create_graph=True)
    wanted = case.gradient_of(sum((g.sum() for g in slopes), torch.zeros(())), of)
    for i, (found_, truth) in enumerate(zip(case.gradient_of(total, leaves), wanted, strict=True)):
        yield from _means(f"second derivatives in parameter {i}", found_, truth.expand(found_.shape[1:]), 5 * case.detects)


def randomness(case: Experiment) -> Found:
    """All of it comes from the source."""
    before = torch.random.get_rng_state()
    first, second, other = (case.estimates(case.leaves(20), salt).detach() for salt in (7, 7, 8))
    yield bool((first == second).all()), "the same generator gives the same estimates"
    yield torch.equal(before, torch.random.get_rng_state()), "torch's own generator is left alone"
    exact = torch.allclose(first, first[:1].expand_as(first), rtol=1e-12, atol=1e-12)  # but for rounding
    yield exact or not torch.equal(first, other), "another generator gives others"


def single_precision(case: Experiment) -> Found:
    leaves = [p.detach().float().requires_grad_() for p in case.leaves(5)]
    estimate = expect(lambda z: case.f(z).float(), case.make(*leaves), estimator=case.estimator, n=case.n, source=case.fresh(9))
    slopes = case.gradient_of(estimate, leaves)
    yield estimate.dtype == torch.float32, f"an estimate of {estimate.dtype}"
    yield all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in slopes), "finite float32 gradients"


def _means(what: str, samples: Tensor, truth: Tensor, detects: float) -> Iterator[tuple[bool, str, float]]:
    """Whether the mean over the first dimension of `samples` is `truth`, element by element; and whether that says anything."""
    samples, truth = samples.detach().double().reshape(len(samples), -1), truth.detach().double().flatten()
    alpha = _ALPHA / max(1, truth.numel())
    scale = max(1.0, float(truth.abs().max())) if truth.numel() else 1.0
    worst: Verdict | None = None
    for x, wanted in zip(samples.unbind(1), truth.tolist(), strict=True):
        if x.std() <= 1e-12 * max(1.0, float(x.abs().max())):  # no noise but rounding
            error = float(x.mean()) - wanted
            verdict = Verdict(what, float(abs(error) <= 1e-10 * scale), alpha, error, 1e-10 * scale)
        else:
            verdict = mean_test(x, wanted, alpha=alpha, name=what)
        if verdict.detectable > detects * scale:
            yield False, f"{what}: too noisy to say: an error of {verdict.detectable:.2g} would be missed, of {scale:.2g}", alpha
        if worst is None or verdict.p < worst.p:
            worst = verdict
    if worst is not None:
        yield bool(worst), str(worst), _ALPHA


ESTIMATOR_PROPERTIES = (
    bias_is_said,
    shapes,
    value,
    gradient,
    variance,
    direct_dependence,
    nesting,
    second_derivatives,
    randomness,
    single_precision,
)
