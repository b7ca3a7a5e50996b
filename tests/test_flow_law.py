"""Bijections against their Jacobians, densities against their integrals, and a flow's law as a distribution with a path."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch.distributions import Normal
from torch.func import jacrev, vmap

import reparam as rp
from reparam.nn.autoregressive import Autoregressive, stack
from reparam.nn.bijection import Chain
from reparam.nn.flow_law import FlowLaw
from reparam.nn.preprocess import Logit, Standardise, dequantise, quantise
from reparam.noise import Fresh, Replay
from reparam.paths import sample_and_log_prob
from reparam.stats import mean_test
from reparam.testing import check_path

F64 = torch.float64
FAMILIES = {"nsf": {"bins": 6}, "maf": {}, "nsf coupling": {"bins": 6, "coupling": True}, "maf coupling": {"coupling": True}}


def made(family, dim, *, transforms=3, context=0, spread=1.0, seed=0):
    """A chain with random weights far from those of the start."""
    torch.manual_seed(seed)
    chain = Chain(Standardise(dim), *stack(dim, transforms, context=context, hidden=(16, 16), **FAMILIES[family])).double()
    chain.parts[0].fit(torch.randn(50, dim, dtype=F64) * 2 + 1)
    with torch.no_grad():
        for part in list(chain.parts)[1:]:
            part.net[-1].weight.mul_(10 * spread)
            part.net[-1].bias.normal_(0, 0.3 * spread)
    return chain.eval()


def normal(n, dim, seed=0):
    return torch.randn(n, dim, dtype=F64, generator=torch.Generator().manual_seed(seed))


# Bijections.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dim", "context"), [(1, 0), (1, 2), (2, 0), (3, 2), (6, 0)])
def test_log_determinant_is_that_of_the_jacobian_and_the_inverse_inverts(family, dim, context):
    chain, x = made(family, dim, context=context), 1 + 2 * normal(40, dim)
    c = normal(40, context, 1) if context else None
    z, log_det = chain(x, c)
    one = (lambda x, c: chain(x, c)[0]) if context else (lambda x: chain(x)[0])
    jacobian = vmap(jacrev(one))(x, c) if context else vmap(jacrev(one))(x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)
    back, same = chain.inverse(z, c)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(same, log_det, rtol=1e-8, atol=1e-8)
    eps = normal(40, dim, 2)
    torch.testing.assert_close(chain(chain.inverse(eps, c)[0], c)[0], eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_in_single_precision(family):
    """Both ways, to a thousandth of a standard deviation at weights far from the start."""
    chain = made(family, 5).float()
    eps = normal(1000, 5).float()
    x, log_det = chain.inverse(eps)
    z, same = chain(x)
    torch.testing.assert_close(z, eps, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(log_det, same, rtol=1e-3, atol=1e-3)


def test_each_column_depends_on_those_before_it_only():
    chain = made("nsf", 4, transforms=1)
    jacobian = jacrev(lambda x: chain(x)[0])(normal(1, 4)[0])
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.tril() != 0).sum() == 10


@pytest.mark.parametrize("dim", [2, 3, 5, 8])
def test_couplings_put_any_two_columns_on_different_sides(dim):
    parts = stack(dim, 2 * max(1, (dim - 1).bit_length()), coupling=True)
    assert all(part.places == 2 for part in parts)
    for i in range(dim):
        for j in range(i):
            assert {-1, 1} <= {int(part.place[i] - part.place[j]) for part in parts}


def test_affine_conditionals_are_the_normals_that_the_network_says():
    part = Autoregressive(torch.arange(2), hidden=(8,)).double()
    with torch.no_grad():
        part.net[-1].weight.normal_()
        part.net[-1].bias.normal_()
    law, x = FlowLaw(part, (2,)), normal(20, 2)
    theta = part.net(20 * torch.tanh(x / 20))
    shift, raw = theta[:, 0::2], theta[:, 1::2]
    log_scale = raw / (1 + (raw / math.log(1e-3)).abs())
    truth = Normal(-shift / log_scale.exp(), (-log_scale).exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(law.log_prob(x), truth)
    assert (shift[:, 0] == shift[0, 0]).all()
    assert (shift[:, 1] != shift[0, 1]).any()


@pytest.mark.parametrize("piece", [Standardise(3), Logit(-1.0, 4.0), Chain(Logit(-1.0, 4.0), Standardise(3))])
def test_scaling_is_counted(piece):
    piece = piece.double()
    x = 5 * torch.rand(50, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) - 1
    x[0] = torch.tensor([-1.0, 4.0, 1.5])
    for part in piece.modules():
        if isinstance(part, Standardise):
            part.fit(3 * x + 1)
    z, log_det = piece(x)
    jacobian = vmap(jacrev(lambda x: piece(x)[0]))(x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian)[1], rtol=1e-8, atol=1e-8)
    back, same = piece.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(same, log_det)


def test_logit_is_finite_at_both_ends_and_exact_there():
    z = Logit(0.0, 256.0)(torch.tensor([[0.0], [1e-3], [256 - 1.6e-5], [256.0]]))[0]
    assert z.isfinite().all()
    assert (z.diff(dim=0) > 0).all()
    with pytest.raises(ValueError, match="lower end first"):
        Logit(1.0, 1.0)


def test_noise_of_counts_stays_in_their_cells():
    x = torch.arange(256.0).repeat(1000, 1)
    noisy = dequantise(x, Fresh(torch.Generator().manual_seed(0)))
    assert torch.equal(quantise(noisy, 255), x)
    largest = Replay(torch.full((1000, 256), 1 - 2**-24))
    assert torch.equal(quantise(dequantise(x, largest), 255), x)


# The density.


@pytest.mark.parametrize("family", FAMILIES)
def test_density_of_one_variable_integrates_to_one(family):
    law = FlowLaw(made(family, 1), (1,))
    grid = torch.linspace(-100, 100, 20_001, dtype=F64)
    assert abs(torch.trapezoid(law.log_prob(grid[:, None]).exp(), grid).item() - 1) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_density_of_two_variables_integrates_to_one(family):
    chain = Chain(Logit(0.0, 3.0), *made(family, 2, transforms=2).parts)
    law = FlowLaw(chain, (2,), interval=(0.0, 3.0))
    # In logits, where the density has no ends.
    t = torch.linspace(-20, 20, 161, dtype=F64)
    logit = torch.cartesian_prod(t, t)
    x, log_det = chain.parts[0].inverse(logit)
    inside = ((x >= 0) & (x <= 3)).all(-1)
    density = torch.where(inside, law.log_prob(x) - log_det, -torch.inf).exp()
    assert abs(density.sum().item() * (t[1] - t[0]).item() ** 2 - 1) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_nothing_blows_up_far_out(family, spread, dtype):
    """Whatever the weights: the density, the samples and their gradients (normalizing-flows #73, zuko #20)."""
    chain = made(family, 4, transforms=4, spread=spread).to(dtype)
    law = FlowLaw(chain, (4,))
    far = torch.tensor([0.0, 6.0, -1e4], dtype=dtype)
    x = torch.cartesian_prod(far, far, far, far).requires_grad_()
    log_prob = law.log_prob(x)
    assert log_prob.isfinite().all()
    assert torch.autograd.grad(log_prob.sum(), x)[0].isfinite().all()
    samples, log_q = sample_and_log_prob(law, (100,), source=Fresh(torch.Generator().manual_seed(0)))
    assert samples.isfinite().all()
    assert log_q.isfinite().all()
    (log_q.sum() + torch.tanh(samples).sum()).backward()
    assert all(p.grad.isfinite().all() for p in chain.parameters())
    assert law.push(torch.full((1, 4), 1e6, dtype=dtype)).isfinite().all()


def test_what_is_no_datum_has_no_density():
    law = FlowLaw(made("nsf", 2), (2,))
    bad = torch.tensor([[math.inf, 0.0], [-math.inf, math.inf], [math.nan, 0.0]], dtype=F64)
    assert law.log_prob(bad)[:2].tolist() == [-math.inf, -math.inf]
    assert law.log_prob(bad)[2].isnan()
    bounded = FlowLaw(Chain(Logit(0.0, 1.0), *made("nsf", 2).parts), (2,), interval=(0.0, 1.0))
    x = torch.tensor([[0.5, 0.5], [0.5, 1.5], [-0.1, 0.5], [math.nan, 2.0]], dtype=F64, requires_grad=True)
    log_prob = bounded.log_prob(x)
    assert [value.isfinite().item() for value in log_prob] == [True, False, False, False]
    assert log_prob[1] == -math.inf
    assert log_prob[3].isnan()
    log_prob[:3].sum().backward()
    assert x.grad[:3].isfinite().all()
    with pytest.raises(ValueError, match=r"shape \(5, 3\)"):
        law.log_prob(torch.zeros(5, 3, dtype=F64))


# The law.


def test_path_of_a_flow_keeps_what_paths_promise():
    chain = made("nsf", 2, context=1).requires_grad_(False)
    report = check_path(
        lambda c: FlowLaw(chain, (2,), c),
        [[0.3], [-1.0]],
        scores=lambda x, c: torch.special.ndtr(chain(x, c.expand(*x.shape[:-1], 1))[0]),
        draws=4000,
        single=False,
        half=False,
    )
    assert report


@pytest.mark.parametrize("source", [lambda: rp.Sobol(seed=0), lambda: rp.Antithetic(), lambda: Replay(normal(8, 3))])
def test_every_source_of_noise_serves(source):
    law = FlowLaw(made("nsf coupling", 3), (3,))
    given = source()
    x = rp.rsample(law, (8,), source=given)
    assert x.shape == (8, 3)
    assert x.requires_grad
    if isinstance(given, Replay):
        torch.testing.assert_close(rp.path(law).pull(x), given.eps)
        pair = sample_and_log_prob(law, (8,), source=given)
        torch.testing.assert_close(pair[0], x)
        torch.testing.assert_close(pair[1], law.log_prob(x))
    if isinstance(given, rp.Antithetic):
        eps = rp.path(law).pull(x)
        torch.testing.assert_close(eps[4:], -eps[:4])


@pytest.mark.parametrize("estimator", [rp.Pathwise(), rp.LeaveOneOut(), rp.Score()])
def test_gradient_of_an_expectation_is_that_of_its_integral(estimator):
    """Against quadrature of the density; 4000 estimates of 8 rows, whose error is below 5 % of the norm, 30 % for scores."""
    chain = made("nsf", 1, transforms=1)
    law, grid = FlowLaw(chain, (1,)), torch.linspace(-60, 60, 20_001, dtype=F64)[:, None]
    parameters = [chain.parts[1].net[-1].bias]

    def f(x):
        return (torch.sin(x) + 0.1 * x.square()).squeeze(-1)

    exact = (law.log_prob(grid).exp() * f(grid)).sum() * (grid[1] - grid[0]).item()
    truth = torch.autograd.grad(exact, parameters)[0]
    wide = FlowLaw(chain, (1,), torch.zeros(4000, 0, dtype=F64))  # a batch of laws that are the same
    value = rp.expect(f, wide, estimator=estimator, n=8, source=Fresh(torch.Generator().manual_seed(0)))
    assert value.shape == (4000,)
    verdict = mean_test(value, exact.item())
    assert verdict, verdict
    weights = torch.eye(20, dtype=F64).repeat_interleave(200, 0)  # the mean gradients of 20 parts
    parts = torch.stack([torch.autograd.grad(value @ w / 200, parameters, retain_graph=True)[0] for w in weights.T])
    error = parts.std(0) / math.sqrt(20)
    assert error.norm() < (0.05 if isinstance(estimator, rp.Pathwise) else 0.3) * truth.norm()
    assert ((parts.mean(0) - truth).abs() < 8 * error + 1e-12).all()  # Student's t of 19: 1e-6 in all


def test_batches_of_laws_and_copies_without_a_graph():
    chain, context = made("maf", 2, context=3), normal(5, 3)
    law = FlowLaw(chain, (2,), context)
    assert (law.batch_shape, law.event_shape) == ((5,), (2,))
    wide = law.expand((4, 5))
    x = rp.rsample(wide, (7,))
    assert x.shape == (7, 4, 5, 2)
    torch.testing.assert_close(wide.log_prob(x)[:, 1], law.log_prob(x[:, 1]))
    torch.testing.assert_close(law.log_prob(x[0, 0])[2], FlowLaw(chain, (2,), context[2]).log_prob(x[0, 0, 2]))
    image = FlowLaw(made("maf", 6), (1, 2, 3))
    assert image.log_prob(image.sample((4,))).shape == (4,)
    cut = rp.detached(law)
    assert not cut.log_prob(x[0, 0].detach()).requires_grad
    assert all(p.requires_grad for p in chain.parameters())


def test_transforms_of_functions_go_through():
    law, x = FlowLaw(made("nsf", 2), (2,)), normal(6, 2)
    torch.testing.assert_close(vmap(law.log_prob)(x), law.log_prob(x))
    slope = vmap(torch.func.grad(law.log_prob))(x)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(slope, torch.autograd.grad(law.log_prob(leaf).sum(), leaf)[0])
    torch.testing.assert_close(vmap(rp.path(law).push)(x), law.push(x))


@pytest.mark.slow
def test_compiled_it_is_the_same():
    law, x = FlowLaw(made("nsf", 2), (2,)), normal(6, 2)
    torch.testing.assert_close(torch.compile(lambda x: law.log_prob(x), fullgraph=True)(x), law.log_prob(x))
    torch.testing.assert_close(torch.compile(lambda e: rp.path(law).push(e), fullgraph=True)(x), law.push(x))


# Zuko.


def test_zuko_is_loaded_by_a_flow_only_and_leaves_validation_of_distributions_on():
    code = """
import json, sys, torch
from torch.distributions import Distribution, Normal
from torch.distributions.transforms import _InverseTransform
before = Distribution._validate_args, Distribution.arg_constraints, _InverseTransform.__name__
import reparam, reparam.models, reparam.data, reparam.training
without = "zuko" in sys.modules
import reparam.models.flow
same = before == (Distribution._validate_args, Distribution.arg_constraints, _InverseTransform.__name__)
try:
    Normal(0.0, -1.0)
    refused = False
except ValueError:
    refused = True
print(json.dumps([without, same, refused, "zuko" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, True, True, True]
