"""Bayesian networks: the law of what they give, by each method, and the bound that they are trained by."""

import copy
import io
import pickle
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import HalfNormal, Independent, Laplace, MultivariateNormal, Normal
from torch.distributions.kl import kl_divergence
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization
from torch.utils.checkpoint import checkpoint

import reparam as rp
from reparam.nn import Bayesian, bayesianize
from reparam.nn.weight_prior import EmpiricalBayes, FanIn, divergence, scale_mixture
from reparam.stats import law_tests, mean_test

METHODS = ("local", "flipout", "weights")
D = torch.float64


class Twice(nn.Module):
    """One layer, called on two parts of a datum."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return torch.cat([self.layer(x[:, :3]), self.layer(x[:, 3:])], -1)


class Read(nn.Module):
    """A weight that is read without calling its layer, and one that is read besides."""

    def __init__(self, besides):
        super().__init__()
        self.first, self.last, self.besides = nn.Linear(3, 4), nn.Linear(4, 4), besides

    def forward(self, x):
        h = self.first(x) if self.besides else x @ self.first.weight.T
        return F.linear(self.last(h), self.first.weight.T)


class Flat(nn.Module):
    """The places of a sequence as rows of one matrix, and back."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


class Times(nn.Module):
    """A layer of times, not of data: as many of each."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).transpose(0, 1).softmax(-1)


def reused():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), nn.Sequential(layer))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Heads(nn.Module):
    """Layers of which a call uses one."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])

    def forward(self, x, which=0):
        return self.heads[which](x)


class Words(nn.Module):
    """Places of two words."""

    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(input=self.table((x > 0).long()).sum(-2))


class Sized(nn.Module):
    """A transposed convolution that is told its output's size, through a hook of someone's own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ConvTranspose1d(2, 2, 3, stride=2)
        self.layer.register_forward_hook(lambda layer, args, output: 2 * output)

    def forward(self, x):
        return self.layer(x, output_size=[8])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.layer(x)


def mlp(*widths):
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


# A module, the shape of its input, and how method="local" draws its layers.
CASES = {
    "linear": (lambda: nn.Linear(3, 4), (3, 3), {"": "local"}),
    "no bias": (lambda: nn.Linear(3, 4, bias=False), (3, 3), {"": "local"}),
    "dense": (lambda: mlp(3, 5, 2), (3, 3), {"0": "local", "2": "local"}),
    "one datum": (lambda: nn.Linear(3, 4), (3,), {"": "weights"}),
    "sequence": (lambda: nn.Linear(2, 3), (3, 4, 2), {"": "flipout"}),
    "flat": (Flat, (3, 4, 2), {"layer": "weights"}),
    "conv1d": (lambda: nn.Conv1d(2, 3, 2, padding=1, padding_mode="circular"), (3, 2, 4), {"": "flipout"}),
    "conv2d": (lambda: nn.Conv2d(4, 2, 2, groups=2, stride=2), (3, 4, 4, 4), {"": "flipout"}),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (2, 1, 2, 2, 3), {"": "flipout"}),
    "transposed": (lambda: nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=1), (3, 2, 2, 2), {"": "flipout"}),
    "unbatched": (lambda: nn.Conv1d(2, 3, 2), (2, 4), {"": "weights"}),
    "twice": (Twice, (3, 6), {"layer": "flipout"}),
    "read": (lambda: Read(False), (3, 3), {"first": "weights", "last": "local"}),
    "read besides": (lambda: Read(True), (3, 3), {"first": "weights", "last": "local"}),
    "tied": (Tied, (3, 3), {}),
    "reused": (reused, (3, 3), {}),
    "times": (Times, (3, 3, 2), {"layer": "weights"}),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)),
        (4, 3),
        {"0": "weights", "2": "weights"},
    ),
    "recurrent": (Recurrent, (3, 4, 2), {"head": "local"}),
    "attention": (Attentive, (2, 3, 4), {"layer.linear1": "flipout", "layer.linear2": "flipout"}),
    "norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), (3, 3), {"0": "local"}),
    "words": (Words, (3, 4), {"layer": "local"}),
    "sized": (Sized, (3, 2, 3), {"layer": "flipout"}),
    "parametrized": (lambda: register_parametrization(nn.Linear(3, 2), "weight", nn.Softplus()), (3, 3), {}),
    "heads": (Heads, (3, 3), {"heads.0": "local", "heads.1": "weights"}),
}


def drawn(net, x, n):
    """Independent calls of the network, as n + the shape of one."""
    with torch.no_grad():
        net(x)
        if any(isinstance(part, nn.LSTM | nn.MultiheadAttention) for part in net.modules()):  # which torch cannot batch
            return torch.stack([net(x) for _ in range(n // 4)])
        return torch.func.vmap(lambda _: net(x), randomness="different")(torch.empty(n))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_a_datum_sees_one_draw_of_all_weights(name, method):
    """Of small scales the output is linear in the weights, and any part of a datum's is normal with a variance that is known.

    The noise of two places, calls or readers of one weight must be that of one weight: three random parts of the first datum's
    output look at its whole covariance. The false-alarm rate is 3e-9 a case; a variance that is wrong by a third, at n = 4000, or
    by a half, at n = 1000, is caught.
    """
    make, shape, expected = CASES[name]
    net = bayesianize(make().to(D), num_data=10, method=method, scale=1e-3)
    x = torch.randn(shape, dtype=D)
    y = drawn(net, x, 4000)
    if method != "weights":
        assert net.routes == {layer: method if way == "local" else way for layer, way in expected.items()}
    mean = net.module(x)
    of_datum = (lambda out: out[0]) if name not in ("one datum", "unbatched") else (lambda out: out)
    part = torch.randn(3, *of_datum(mean).shape, dtype=D)
    weights = {key: q.mean for key, q in net.posterior().items()}
    # The slope of the parts in each weight, and so their variances.
    slope = torch.func.jacrev(lambda w: (part * of_datum(net.at(w, x))).flatten(1).sum(1), chunk_size=1)(weights)
    variance = sum((slope[key].square() * q.variance).flatten(1).sum(1) for key, q in net.posterior().items())
    off = torch.stack([of_datum(row - mean) for row in y])
    for z in torch.einsum("kr,nr->kn", part.flatten(1), off.flatten(1)) / variance.sqrt()[:, None]:
        assert all(found := law_tests(torch.special.ndtr(z))), "\n".join(map(str, found))


def test_data_are_independent_by_local_noise_and_uncorrelated_by_flipout():
    """Two data with the same input: what "weights" gives is the same; the correlation of the others is at most 0.19."""
    for method, correlated in (("local", False), ("flipout", False), ("weights", True)):
        net = bayesianize(nn.Linear(3, 1).to(D), num_data=10, method=method)
        y = drawn(net, torch.ones(2, 3, dtype=D), 4000).squeeze(-1)
        z = (y - y.mean(0)) / y.std(0)
        assert bool(mean_test(z[:, 0] * z[:, 1], float(correlated), alpha=1e-9)), method
        off = (y - net.module(torch.ones(2, 3, dtype=D)).squeeze(-1)).abs()  # without the signs of inputs they would be the same
        assert torch.allclose(off[:, 0], off[:, 1]) == correlated


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_the_bound_of_linear_regression(method):
    """E log p(y | x, w) = log N(y; x mu, s^2) - x^2 sigma^2 / 2 s^2: every gradient of the bound has that mean.

    Of 8 gradients, with a false-alarm rate of 1e-9 each, an error of a fifth of a standard deviation is caught.
    """
    x, y, s = torch.randn(20, 3, dtype=D), torch.randn(20, 1, dtype=D), 0.7
    net = bayesianize(nn.Linear(3, 1, dtype=D), num_data=40, method=method, scale=0.5)
    net(x)

    def bound(parameters, noisy):
        if noisy:
            out = torch.func.functional_call(net, parameters, (x,))
            spread = 0.0
        else:
            mean = {key.removeprefix("module."): p for key, p in parameters.items() if key.startswith("module.")}
            scale = {key.removeprefix("log_scale."): p.exp() for key, p in parameters.items() if key.startswith("log_scale.")}
            out = F.linear(x, mean["weight"], mean["bias"])
            spread = F.linear(x**2, scale["weight"] ** 2, scale["bias"] ** 2) / (2 * s**2)
        return (Normal(out, s).log_prob(y) - spread).sum(-1).mean()

    parameters = {key: p.detach() for key, p in net.named_parameters()}
    exact = torch.func.grad(bound)(parameters, False)
    draws = torch.func.vmap(lambda _: torch.func.grad(bound)(parameters, True), randomness="different")(torch.empty(4000))
    for key, value in exact.items():
        for column, wanted in zip(draws[key].flatten(1).T, value.flatten(), strict=True):
            assert (v := mean_test(column, float(wanted), alpha=1e-9)), f"{key}: {v}"


def test_training_ends_at_the_mean_field_optimum():
    """Of linear regression the best product of normals has the posterior's mean, and 1 / sqrt(diagonal of its precision)."""
    torch.manual_seed(1)
    x, s = torch.randn(60, 3, dtype=D), 0.5
    x[:, 1] += 0.8 * x[:, 0]
    y = x @ torch.tensor([[1.0], [-2.0], [0.3]], dtype=D) + s * torch.randn(60, 1, dtype=D)
    net = bayesianize(nn.Linear(3, 1, bias=False, dtype=D), num_data=60, prior=Normal(0.0, 2.0))
    steps = 1500
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (-net.elbo(Normal(net(x), s).log_prob(y).sum(-1))).backward()
        optimizer.step()
        schedule.step()
    precision = x.T @ x / s**2 + torch.eye(3, dtype=D) / 4
    q = net.posterior()["weight"]
    sd = precision.diagonal().rsqrt()
    # In posterior standard deviations, and relative: a KL that is not divided by the data, or is twice, moves both by more.
    assert ((q.mean[0] - torch.linalg.solve(precision, x.T @ y / s**2)[:, 0]) / sd).abs().max() < 0.1
    assert (q.stddev[0] / sd - 1).abs().max() < 0.05


def test_the_methods_differ_in_variance():
    """The gradients of 8 means, of a batch of 256: with drawn weights their variance is fifteen times that of the others.

    Of 300 calls the standard error of a variance is a twelfth.
    """
    x, y = torch.randn(256, 8), torch.randn(256, 1)
    variance = {}
    for method in METHODS:
        torch.manual_seed(0)
        net = bayesianize(nn.Linear(8, 1), num_data=640, method=method, scale=1.0)
        net(x)
        parameters = {key: p.detach() for key, p in net.named_parameters()}

        def loss(parameters, net=net):
            return (torch.func.functional_call(net, parameters, (x,)) - y).square().mean()

        draws = torch.func.vmap(lambda _, p=parameters, f=loss: torch.func.grad(f)(p), randomness="different")(torch.empty(300))
        variance[method] = float(draws["module.weight"].var(0).sum())
    assert variance["local"] < 1.6 * variance["flipout"] < 1.6 * variance["weights"] / 8


# --- the bound


def test_bound_per_datum():
    net = bayesianize(nn.Linear(2, 1), num_data=50)
    log_likelihood = Normal(net(torch.randn(7, 2)), 1.0).log_prob(torch.randn(7, 1)).sum(-1)
    torch.testing.assert_close(net.elbo(log_likelihood), log_likelihood.mean() - net.kl() / 50)
    q = net.posterior()
    exact = sum(kl_divergence(each, Normal(0.0, 1.0)).sum() for each in q.values())
    torch.testing.assert_close(net.kl(), exact)
    for wrong in (log_likelihood.sum(), log_likelihood[:, None], torch.empty(0)):
        with pytest.raises(ValueError, match="one value for each datum"):
            net.elbo(wrong)
    with pytest.raises(ValueError, match=r"51 data and num_data=50.*training set"):
        net.elbo(torch.randn(51))


def test_the_bound_is_that_of_the_objective():
    """Of the same noise, against `rp.elbo` with the weights as its latent."""
    x, y = torch.randn(7, 3), torch.randn(7, 2)
    net = bayesianize(nn.Linear(3, 2, bias=False), num_data=np.int64(40), method="weights", prior=Normal(0.0, 0.5))
    q = Independent(Normal(net.module.weight, net.log_scale.weight.exp()), 2)
    prior = Independent(Normal(torch.zeros(2, 3), 0.5), 2)
    torch.manual_seed(5)
    ours = net.elbo(Normal(net(x), 1.0).log_prob(y).sum(-1))
    torch.manual_seed(5)
    wanted = rp.elbo(lambda w: Normal(x @ w.mT, 1.0).log_prob(y).sum(-1).mean(-1), q, prior=prior, num_data=40)
    torch.testing.assert_close(ours, wanted)
    for a, b in zip(*(torch.autograd.grad(bound, list(net.parameters())) for bound in (ours, wanted)), strict=True):
        torch.testing.assert_close(a, b)


def posterior(*shape):
    return Normal(torch.randn(*shape, dtype=D), torch.rand(*shape, dtype=D) + 0.1)


@pytest.mark.parametrize(
    "prior", [Normal(0.3, 0.5), Laplace(0.0, 1.0), Normal(torch.zeros(4, dtype=D), torch.rand(4, dtype=D) + 1)]
)
def test_divergence_in_closed_form(prior):
    q = posterior(3, 4)
    torch.testing.assert_close(divergence(q, q.scale.log(), prior), kl_divergence(q, prior.expand((3, 4))).sum())


def test_divergence_from_a_mixture_is_unbiased():
    """Against the integral on a grid; a false alarm once in 1e9, an error of 0.04 nats of about 10 is caught."""
    torch.testing.assert_close(scale_mixture(2.0, 0.1, 0.3).variance, torch.tensor(0.3 * 2.0**2 + 0.7 * 0.1**2))
    prior, q = scale_mixture(1.0, 0.1, 0.3), Normal(torch.tensor([0.5, -0.02], dtype=D), torch.tensor([0.2, 0.05], dtype=D))
    grid = torch.linspace(-3, 3, 60_001, dtype=D)[:, None]
    exact = float((q.log_prob(grid).exp() * (q.log_prob(grid) - prior.log_prob(grid))).sum() * 1e-4)
    found = torch.func.vmap(lambda _: divergence(q, q.scale.log(), prior), randomness="different")(torch.empty(20_000))
    assert (v := mean_test(found, exact)), v


def test_empirical_bayes_takes_the_best_scale():
    q = posterior(5, 4)
    best = divergence(q, q.scale.log(), EmpiricalBayes()("w", q))
    s = EmpiricalBayes()("w", q).stddev
    for factor in (0.9, 1.1):
        assert divergence(q, q.scale.log(), Normal(torch.zeros((), dtype=D), factor * s)) > best
    # The hyperprior's weight is that of 2 shape weights.
    heavy = EmpiricalBayes(shape=1e6, rate=4e6)("w", q).stddev
    torch.testing.assert_close(heavy, torch.tensor(2.0, dtype=D), atol=1e-4, rtol=0)
    wanted = (3.0 + (q.loc**2 + q.variance).sum() / 2) / (2.0 + 1 + 10)
    torch.testing.assert_close(EmpiricalBayes(shape=2.0, rate=3.0)("w", q).variance, wanted)
    # The slopes are those of the divergence less the log-density of s^2 under the hyperprior, at its most probable value.
    loc, log_scale = torch.randn(5, 4, dtype=D, requires_grad=True), torch.randn(5, 4, dtype=D, requires_grad=True)
    q = Normal(loc, log_scale.exp())
    ours = divergence(q, log_scale, EmpiricalBayes(shape=2.0, rate=3.0)("w", q))
    s2 = (3.0 + (loc**2 + (2 * log_scale).exp()).sum() / 2) / (2.0 + 1 + 10)
    whole = kl_divergence(q, Normal(0.0, s2.sqrt())).sum() + (2.0 + 1) * s2.log() + 3.0 / s2
    for a, b in zip(*(torch.autograd.grad(total, (loc, log_scale), retain_graph=True) for total in (ours, whole)), strict=True):
        torch.testing.assert_close(a, b)


def test_priors_of_networks():
    module = mlp(10, 20, 1)
    net = bayesianize(module, num_data=10, prior=FanIn(gain=2.0, bias=0.5))
    q = net.posterior()
    wanted = {"0.weight": 2 / 10**0.5, "0.bias": 0.5, "2.weight": 2 / 20**0.5, "2.bias": 0.5}
    exact = sum(kl_divergence(q[name], Normal(0.0, sd)).sum() for name, sd in wanted.items())
    torch.testing.assert_close(net.kl(), exact)

    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(()))

        def forward(self, name, q):
            return Normal(0.0, self.log_scale.exp())

    net = bayesianize(module, num_data=10, prior=Learned())
    net.kl().backward()
    assert net.prior.log_scale.grad
    assert "prior.log_scale" in net.state_dict()
    for prior, error in (
        (lambda name, q: None, TypeError),
        (MultivariateNormal(torch.zeros(2), torch.eye(2)), TypeError),
        (Independent(Normal(torch.zeros(2), 1.0), 1), TypeError),
        (HalfNormal(1.0), ValueError),
        (Normal(torch.zeros(7), 1.0), ValueError),
        (Normal(torch.zeros(3, 20, 10), 1.0), ValueError),
    ):
        with pytest.raises(error, match=r"the prior of 0\.weight"):
            bayesianize(module, num_data=10, prior=prior).kl()
    for wrong in ({"gain": 0.0}, {"bias": float("nan")}):
        with pytest.raises(ValueError, match="standard deviation"):
            FanIn(**wrong)
    for wrong in ({"shape": 1.0}, {"rate": -1.0}):
        with pytest.raises(ValueError, match="two positive"):
            EmpiricalBayes(**wrong)
    for wrong in ({"wide": 0.1, "narrow": 1.0}, {"share": 1.0}):
        with pytest.raises(ValueError, match="0 < narrow"):
            scale_mixture(**wrong)


# --- where the noise comes from


def test_noise_sources():
    net = bayesianize(nn.Linear(3, 2, bias=False), num_data=10)
    x = torch.ones(4, 3)
    net(x)
    at = [net(x, source=rp.Fresh(torch.Generator().manual_seed(7))) for _ in range(2)]
    assert torch.equal(*at)
    off = net(x, source=rp.Antithetic()) - net.module(x)
    torch.testing.assert_close(off[:2], -off[2:])
    eps = torch.randn(4, 2)
    scale = F.linear(x**2, net.posterior()["weight"].variance).sqrt()
    torch.testing.assert_close(net(x, source=rp.Replay(eps)), net.module(x) + scale * eps)
    drawn = net.weights(8, source=rp.Sobol(seed=0))["weight"]
    assert drawn.shape == (8, 2, 3)
    # Eight points of a low-discrepancy sequence: one in each eighth of every margin.
    u = Normal(0.0, 1.0).cdf((drawn - net.module.weight) / net.posterior()["weight"].scale)
    assert torch.equal((8 * u).floor().sort(0).values, torch.arange(8.0)[:, None, None].expand(8, 2, 3))
    twins = net.weights((2,), source=rp.Antithetic())["weight"] - net.module.weight
    torch.testing.assert_close(twins[0], -twins[1])
    flip = bayesianize(nn.Linear(3, 2), num_data=10, method="flipout")
    assert flip(x, source=rp.Antithetic()).shape == flip(x, source=rp.Sobol(seed=1)).shape == (4, 2)


@pytest.mark.parametrize("method", METHODS)
def test_networks_at_drawn_weights(method):
    net = bayesianize(mlp(3, 5, 2), num_data=10, method=method)
    x = torch.randn(4, 3)
    net(x)
    weights = net.weights(6)
    y = torch.func.vmap(lambda w: net.at(w, x))(weights)
    one = {name: w[2] for name, w in weights.items()}
    torch.testing.assert_close(y[2], net.at(one, x))
    h = torch.tanh(x @ one["0.weight"].T + one["0.bias"]) @ one["2.weight"].T + one["2.bias"]
    torch.testing.assert_close(y[2], h)


# --- looking at the first forward


def test_looking_leaves_no_trace():
    net = bayesianize(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)), num_data=10, fixed=("1.*",))
    twin = copy.deepcopy(net)
    x = torch.randn(5, 3, requires_grad=True)
    state = torch.get_rng_state()
    first = net(x)
    torch.set_rng_state(state)
    twin._seen = dict(net._seen)
    assert torch.equal(first, twin(x))
    for (name, value), other in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert x.grad is None
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_part_that_is_used_twice_keeps_its_parameters(method):
    """`functional_call` leaves what it puts at two names of one place."""
    norm = nn.BatchNorm1d(3)
    net = bayesianize(nn.Sequential(norm, reused(), norm), num_data=10, method=method)
    before, values = dict(net.named_parameters()), copy.deepcopy(dict(net.named_parameters()))
    net(torch.randn(5, 3))
    assert all(p is before[name] and torch.equal(p, values[name]) for name, p in net.named_parameters())
    assert net.module[0].num_batches_tracked == 2


def test_each_mode_is_looked_at():
    """In training a batch norm makes data look at each other, in evaluation it does not."""
    net = bayesianize(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), num_data=10).eval()
    x = torch.randn(5, 3)
    net(x)
    assert net.routes == {"0": "local", "2": "local"}
    assert net.train().routes is None
    net(x)
    assert net.routes == {"0": "weights", "2": "weights"}
    assert net.eval().routes == {"0": "local", "2": "local"}
    assert not torch.allclose(net(x), net(x))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_looking_without_gradients(off):
    net = bayesianize(Read(True), num_data=10)
    with off():
        assert net(torch.randn(3, 3)).shape == (3, 3)
    assert net.routes == {"first": "weights", "last": "local"}


def test_attention_is_drawn_in_evaluation_too():
    """Torch has a fast path there that does not call the layers."""
    net = bayesianize(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), 2), num_data=10).eval()
    x = torch.randn(2, 3, 4)
    with torch.no_grad():
        assert not torch.allclose(net(x), net(x))
        spread = torch.stack([net(x) for _ in range(50)]).std(0)
        fixed = bayesianize(net.module, num_data=10, method="weights").eval()
        wanted = torch.stack([fixed(x) for _ in range(50)]).std(0)
    assert 0.6 < spread.mean() / wanted.mean() < 1.6


def test_sequences_with_time_first_have_their_weights_drawn():
    net = bayesianize(nn.TransformerEncoderLayer(4, 2, 6), num_data=10)
    net(torch.randn(3, 2, 4))
    assert set(net.routes.values()) == {"weights"}


def test_a_head_that_was_not_called_at_first():
    net = bayesianize(Heads(), num_data=10)
    x = torch.randn(5, 3)
    net(x)
    assert not torch.allclose(net(x, which=1), net(x, which=1))


def test_another_way_of_calling_is_refused():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x, steps=1):
            for _ in range(steps):
                x = self.layer(x)
            return x

    net = bayesianize(Steps(), num_data=10)
    net(torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"the layer 'layer' was called again .*method='weights'"):
        net(torch.randn(5, 3), steps=2)
    assert net(torch.randn(5, 3)).shape == (5, 3)
    flat = bayesianize(Flat(), num_data=10)
    flat(torch.randn(4, 1, 2))  # one place each looks like one row a datum
    with pytest.raises(ValueError, match=r"shape \(12, 2\) in a forward of 4 data"):
        flat(torch.randn(4, 3, 2))
    vectors = bayesianize(nn.Linear(2, 3), num_data=10)
    vectors(torch.randn(4, 2))
    with pytest.raises(ValueError, match=r"was called with an input of shape \(4, 3, 2\)"):
        vectors(torch.randn(4, 3, 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_kept_elsewhere_is_refused(method):
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.kept = [self.layer.bias]

        def forward(self, x):
            return self.layer(x) + self.kept[0]

    with pytest.raises(ValueError, match=r"layer\.bias by a reference .*fixed=\('layer\.bias',\)"):
        bayesianize(Keeps(), num_data=10, method=method)(torch.randn(2, 3))
    net = bayesianize(Keeps(), num_data=10, method=method, fixed=("layer.bias",))
    assert net(torch.randn(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("method", METHODS)
def test_computing_again_in_the_backward_is_refused(method):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.b(checkpoint(lambda x: torch.tanh(self.a(x)), x, use_reentrant=False))

    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"computes 'a' again .* checkpoint the call of the whole"):
        bayesianize(Checkpointed(), num_data=10, method=method)(x)
    # Around the whole it is the same draw.
    net = bayesianize(mlp(3, 4, 1), num_data=10, method=method)
    slopes = []
    for call in (net, lambda x: checkpoint(net, x, use_reentrant=False)):
        torch.manual_seed(4)
        slopes.append(torch.autograd.grad(call(x).sum(), list(net.parameters())))
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b)


def test_outputs_that_are_laws():
    class Law(Read):
        def forward(self, x):
            return Independent(Normal(super().forward(x), 1.0), 1)

    net = bayesianize(Law(True), num_data=10)
    assert net(torch.randn(3, 3)).log_prob(torch.zeros(3)).shape == (3,)
    assert net.routes == {"first": "weights", "last": "local"}

    @dataclass
    class Found:
        logits: torch.Tensor

    class Named(Read):
        def forward(self, x):
            return Found(super().forward(x))

    net = bayesianize(Named(True), num_data=10)
    assert net(torch.randn(3, 3)).logits.shape == (3, 3)
    assert net.routes == {"first": "weights", "last": "local"}


# --- a module like any other


def test_what_stays_as_it_is():
    module = mlp(3, 4, 1)
    module[0].bias.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    net = bayesianize(module, num_data=10, fixed=("2.*",), scale=0.3)
    assert net.names == ("0.weight",)
    torch.testing.assert_close(net.posterior()["0.weight"].scale, torch.full((4, 3), 0.3 / 3**0.5))
    assert "method='local'" in repr(net)
    assert "(log_scale): 1 tensors" in repr(net)
    x = torch.randn(6, 3)
    torch.testing.assert_close(net.module(x), module(x))
    (-net.elbo(net(x).sum(-1))).backward()
    assert net.module[2].weight.grad.any()  # a point, and trained
    assert not module[0].weight.grad
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 3), lambda: nn.Conv1d(2, 3, 2)])
def test_a_bias_that_stays_a_point(make):
    """At means of zero, and weights without spread, nothing but the bias is left."""
    net = bayesianize(make(), num_data=10, method="flipout", fixed=("bias",))
    with torch.no_grad():
        net.module.weight.zero_()
        net.log_scale.weight.fill_(-60.0)
    y = net(torch.randn(4, 2) if isinstance(net.module, nn.Linear) else torch.randn(4, 2, 5))
    torch.testing.assert_close(y.transpose(0, 1).flatten(1).mean(1), net.module.bias)


@pytest.mark.parametrize("method", METHODS)
def test_copies_files_and_state(method):
    net = bayesianize(nn.Sequential(nn.Conv1d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 1)), num_data=10, method=method)
    x = torch.randn(5, 2, 4)
    net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert not torch.allclose(other(x), other(x))
        with torch.no_grad():
            for p in other.log_scale.parameters():
                p.fill_(-30.0)
        torch.testing.assert_close(other(x), net.module(x))
        assert not torch.allclose(net(x), net.module(x))
    # What a resumed run starts from: a new network with the saved state draws the same noise.
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    again = bayesianize(copy.deepcopy(net.module), num_data=10, method=method)
    again.load_state_dict(torch.load(file, weights_only=True))
    torch.manual_seed(3)
    wanted = net(x)
    torch.manual_seed(3)
    assert torch.equal(again(x), wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(method, dtype):
    net = bayesianize(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype), num_data=10, method=method)
    y = net(torch.randn(5, 3, dtype=dtype))
    assert y.dtype == dtype
    (-net.elbo(y.sum(-1))).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert bayesianize(nn.Linear(3, 4), num_data=10, method=method).double()(torch.randn(5, 3, dtype=D)).dtype == D


@pytest.mark.parametrize("prior", [None, EmpiricalBayes(), Laplace(0.0, 1.0)])
def test_the_divergence_of_many_weights_in_half_precision(prior):
    """Its sum is beyond what half precision holds; the scales that it starts from are rounded by a thousandth."""
    net = bayesianize(nn.Linear(300, 300), num_data=10, prior=prior)
    wanted = net.kl().detach()
    assert wanted > torch.finfo(torch.float16).max
    torch.testing.assert_close(net.half().kl().detach(), wanted, rtol=5e-3, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision(method):
    """The scales are small: squared in half precision they would vanish."""
    net = bayesianize(nn.Linear(3, 400), num_data=10, method=method, scale=1e-3)
    x = torch.ones(5, 3)
    with torch.autocast("cpu", dtype=torch.float16):
        off = torch.stack([net(x) for _ in range(20)]).detach().float() - net.module(x).detach().float()
    wanted = F.linear(x**2, net.posterior()["weight"].variance, net.posterior()["bias"].variance).sqrt().detach()
    # Of 400 units and 20 calls at least: 5 % is 6 standard errors. Rounding to half precision adds less.
    assert abs(float((off / wanted).square().mean().sqrt()) - 1) < 0.05
    # In half precision throughout, around means that do not round the noise away.
    with torch.no_grad():
        for p in net.module.parameters():
            p.zero_()
        half = net.half()
        off = torch.stack([half(x.half()) for _ in range(20)]).float()
    assert abs(float((off / wanted).square().mean().sqrt()) - 1) < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_slopes_where_inputs_are_zero_and_batches_empty(method):
    net = bayesianize(nn.Linear(3, 2), num_data=10, method=method, fixed=("bias",))
    x = torch.zeros(4, 3, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert net(torch.empty(0, 3)).shape == (0, 2)
    assert net.eval()(torch.empty(0, 3)).shape == (0, 2)


@pytest.mark.parametrize("method", METHODS)
def test_compiled_and_transformed(method):
    net = bayesianize(mlp(3, 4, 1), num_data=10, method=method)
    x = torch.randn(5, 3)
    if method != "weights":
        with pytest.raises(RuntimeError, match="call the network once"):
            torch.func.vmap(lambda x: net(x), randomness="different")(x[None])
    net(x)
    loss = torch.compile(lambda x: -net.elbo(net(x).sum(-1)), fullgraph=True, backend="eager")
    loss(x).backward()
    assert loss(x) != loss(x)
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "prior", [None, scale_mixture(), Normal(torch.zeros(()), 2.0), Laplace(0.0, 1.0), FanIn(), EmpiricalBayes()]
)
def test_all_that_is_drawn_is_where_the_network_is(method, prior):
    """Of the meta device, which refuses tensors of others as a GPU does."""
    net = bayesianize(nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 1)), num_data=10, method=method, prior=prior)
    net.to("meta")
    y = net(torch.empty(5, 2, 4, device="meta"))
    loss = -net.elbo(y.sum(-1))
    loss.backward()
    assert (y.shape, loss.shape, loss.device.type) == ((5, 1), (), "meta")
    assert all(p.grad.is_meta for p in net.parameters())


# --- what is refused


@pytest.mark.parametrize("method", METHODS)
def test_copies_without_parameters_are_refused(method):
    with pytest.raises(NotImplementedError, match="DistributedDataParallel"):
        bayesianize(nn.Linear(3, 2), num_data=10, method=method)._replicate_for_data_parallel()(torch.randn(4, 3))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_data": 0}, ValueError, "size of the training set"),
        ({"num_data": 0.5}, ValueError, "size of the training set"),
        ({"num_data": True}, ValueError, "size of the training set"),
        ({"num_data": float("nan")}, ValueError, "size of the training set"),
        ({"num_data": torch.tensor(5)}, ValueError, "size of the training set"),
        ({"method": "dropout"}, ValueError, "there are local, flipout, weights"),
        ({"scale": 0.0}, ValueError, "positive multiple"),
        ({"scale": "big"}, ValueError, "positive multiple"),
        ({"fixed": "*.bias"}, TypeError, r"one string.*\('\*.bias',\)"),
        ({"fixed": ("*.beta",)}, ValueError, r"'\*.beta', and the parameters are 0.weight, 0.bias"),
        ({"fixed": ("*",)}, ValueError, "no parameter is left"),
        ({"prior": "normal"}, TypeError, "the prior is 'normal'"),
        ({"module": F.relu}, TypeError, "no torch.nn.Module"),
        ({"module": nn.ReLU()}, ValueError, "no parameter is left"),
        ({"module": nn.LazyLinear(3)}, ValueError, "call the module once"),
        ({"module": nn.Linear(2, 2, dtype=torch.complex64)}, ValueError, "laws are of reals"),
        ({"module": Bayesian(nn.Linear(2, 2), num_data=1)}, TypeError, "already"),
    ],
)
def test_refused(arguments, error, message):
    given = {"module": nn.Sequential(nn.Linear(3, 2)), "num_data": 10} | arguments
    with pytest.raises(error, match=message):
        bayesianize(given.pop("module"), **given)
