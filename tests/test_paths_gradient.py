"""Every path's gradient is exact, to second order, in both modes of differentiation and under torch's transforms."""

import numpy as np
import pytest
import torch
import torch.distributions as td

import reparam as rp
from cases import CASES, FACTOR, LOC, UNIVARIATE, holds, ids
from reparam.noise import EXPONENTIAL, NORMAL
from reparam.testing.derivatives import compiled, derivatives, implicit_gradient, transforms


def matrix_free(case):
    """The law in parameters that can be moved one by one: a covariance as a product, a factor as a lower triangle."""
    if case.name in ("mvn, covariance", "mvn, precision"):
        parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (LOC, FACTOR)]
        return lambda m, a: case.law(m, a @ a.mT), parameters
    if case.name in ("mvn, factor", "mvn, batch of factors"):
        return lambda m, a: case.law(m, a.tril()), case.tensors(requires_grad=True)
    return case.law, case.tensors(requires_grad=True)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_derivatives_match_finite_differences_to_second_order(case):
    law, leaves = matrix_free(case)
    holds(derivatives, case, make=law, parameters=tuple(leaf.detach() for leaf in leaves))


@pytest.mark.parametrize("case", UNIVARIATE, ids=ids)
def test_gradients_are_implicit_derivatives_of_the_distribution_function(case):
    if case.name == "extreme value, nearly zero":
        pytest.skip("differences of the exact law cannot step around a parameter of 1e-9")
    holds(implicit_gradient, case)


def noise_at(p, probability, falling):
    """The noise whose sample is the quantile at `probability`."""
    if p.noise.kind is NORMAL:
        return torch.special.ndtri(probability)
    if p.noise.kind is EXPONENTIAL:
        return -torch.log(probability) if falling else -torch.log1p(-probability)
    return probability


def largest_error(case, law):
    """Of the gradient of each sample in each parameter, against differences of the exact quantile at fixed probability."""
    probability = torch.tensor([1e-6, 1e-3, 0.05, 0.3, 0.501, 0.8, 0.99, 0.9999], dtype=torch.float64)
    leaves = [t.expand(len(probability)).clone().requires_grad_() for t in case.tensors()]
    p = rp.path(law(*leaves))
    x = p.push(noise_at(p, probability, case.falling))
    slopes = torch.autograd.grad(x.sum(), leaves, allow_unused=True)
    worst = 0.0
    for index, slope in enumerate(slopes):
        size = abs(case.parameters[index])
        step = min(1e-4, 1e-2 * size) if size > 1e-6 else 1e-4

        def quantile(shift, index=index):
            moved = list(case.parameters)
            moved[index] += shift
            exact = case.exact(*moved)
            q = probability.numpy()
            return np.where(q < 0.5, exact.ppf(q), exact.isf(1 - q))

        exact = (8 * (quantile(step) - quantile(-step)) - (quantile(2 * step) - quantile(-2 * step))) / (12 * step)
        found = np.zeros_like(exact) if slope is None else slope.numpy()
        rounding = 4e-16 * np.abs(x.detach().numpy()) / step  # of the differences: a heavy tail is far out
        error = np.maximum(np.abs(found - exact) - rounding, 0.0)
        worst = max(worst, float((error / (np.abs(exact) + 1e-3 * np.abs(exact).max())).max()))
    return worst


@pytest.mark.parametrize("case", UNIVARIATE, ids=ids)
def test_gradients_of_samples_are_those_of_the_exact_quantile(case):
    # The differences are good to about 1e-9 of the largest slope.
    assert largest_error(case, case.law) < 1e-5


WRONG = {
    "detached scale": ("laplace", lambda m, s: td.Laplace(m, s.detach())),
    "swapped parameters": ("weibull", lambda s, k: td.Weibull(k, s)),
    "scale off by 2 %": ("cauchy", lambda m, s: td.Cauchy(m, 1.02 * s)),
    "gradient off by 2 %": ("normal", lambda m, s: td.Normal(m, s + 0.02 * (s - s.detach()))),
    "dropped sign": ("gumbel", lambda m, s: td.Gumbel(m, (2 * s.detach() - s))),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_gradients_are_caught(fault):
    name, law = WRONG[fault]
    assert largest_error(next(c for c in UNIVARIATE if c.name == name), law) > 1e-2


@pytest.mark.parametrize("name", ["generalized pareto, zero", "continuous bernoulli, flat"])
def test_removable_singularities_are_smooth(name):
    """The path and its first two derivatives, on both sides of every switch between formulas."""
    case = next(c for c in UNIVARIATE if c.name == name)
    eps = torch.tensor([0.01, 0.5, 3.0], dtype=torch.float64)
    *others, _ = case.tensors()

    def push(shape):
        return rp.path(case.law(*others, shape)).push(eps)

    def jets(at):
        value = torch.tensor(at, dtype=torch.float64)
        first = torch.func.jacfwd(push)
        return torch.stack([push(value), first(value), torch.func.jacfwd(first)(value)])

    for switch in (0.0, 1.0, -1.0, *(r / float(e) for r in (0.25, 1.0) for e in eps)):
        below, above = jets(switch - 1e-7), jets(switch + 1e-7)
        assert torch.allclose(below, above, rtol=1e-5, atol=1e-5)
        assert jets(switch).isfinite().all()


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_function_transforms(case):
    if case.law is td.Wishart or "wishart, cov" in case.name or case.name == "wishart":
        pytest.skip("torch's own Wishart looks at numbers when it is made")
    law, leaves = matrix_free(case)
    holds(transforms, case, make=law, parameters=tuple(leaf.detach() for leaf in leaves))


@pytest.mark.parametrize("law", [td.Weibull, td.Laplace, td.Kumaraswamy])
def test_vmap_goes_through_validation(law):
    parameters = torch.rand(2, 3) + 0.5
    costs = torch.func.vmap(lambda a, b: rp.rsample(law(a, b), (4,)).sum(), randomness="different")(*parameters)
    assert len(set(costs.tolist())) == 3


# One case of a name's first word each: the others run the same code.
ONE_OF_EACH = list({case.name.partition(",")[0]: case for case in reversed(CASES)}.values())


@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own doings
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=ids)
def test_compiles_to_one_graph(case):
    if case.law is td.Wishart or case.name.startswith("wishart"):
        pytest.skip("torch's own Wishart looks at numbers when it is made")
    if rp.path(case.make()).sample is not None:  # a solver's steps, written out, take up to a minute: see the slow test
        torch._dynamo.reset()
        td.Distribution.set_default_validate_args(False)
        fresh = torch.compile(lambda *p: rp.rsample(case.law(*p), (4,)), fullgraph=True, backend="aot_eager")
        leaves = case.tensors(torch.float32, requires_grad=True)
        x = fresh(*leaves)
        assert x.isfinite().all()
        for slope in torch.autograd.grad(x.sum(), leaves, allow_unused=True):
            assert slope is None or slope.isfinite().all()
        return
    holds(compiled, case, backend="aot_eager")


@pytest.mark.filterwarnings("default")
def test_a_validated_distribution_from_outside_the_graph_compiles():
    torch._dynamo.reset()
    d = td.Independent(td.Normal(torch.zeros(3), torch.ones(3), validate_args=True), 1, validate_args=True)
    sampled = torch.compile(lambda: rp.rsample(d, (4,)), fullgraph=True, backend="aot_eager")()
    assert sampled.shape == (4, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_compiles_to_native_code(case):
    holds(compiled, case, backend="inductor")


def test_backward_twice():
    scale = torch.tensor(2.0, requires_grad=True)
    x = rp.rsample(td.Weibull(scale, torch.tensor(1.5)), (8,)).sum()
    x.backward(retain_graph=True)
    x.backward()
    assert torch.isclose(scale.grad, x.detach())  # twice x / scale
