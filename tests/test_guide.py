"""Guides: their densities are exact, their start finds the mode, and they fit what they can."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    HalfNormal,
    LogNormal,
    MultivariateNormal,
    Normal,
    biject_to,
    constraints,
)

import reparam as rp
from reparam.distributions import VonMisesFisher
from reparam.errors import BadInputError
from reparam.graphical.guide import Draw, constrain, free_size, make_guide
from reparam.graphical.node import Latent
from reparam.models.graphical import Graphical, Node, fit
from reparam.models.graphical_config import Config
from reparam.nn.guide import VectorGuide, find_start

REAL, POSITIVE = constraints.real, constraints.positive


def drawing(n: int, seed: int = 0) -> Draw:
    """Draws of n rows, as `rp.graph` makes them of one node; a law that knows them gets none of its own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, law: Distribution) -> Tensor:
        rows = () if len(law.batch_shape) > 1 else (n,)
        noise = rp.Fresh(generator)
        return rp.rsample(law, rows, source=noise) if law.has_rsample else law.sample(rows)

    return draw


def latent(name: str, support: constraints.Constraint = REAL, event: tuple[int, ...] = (), **given: object) -> Latent:
    start = (
        biject_to(support)(torch.randn(50, *biject_to(support).inverse_shape(torch.Size(event))))
        if not given.get("categories")
        else torch.zeros(50, *event)
    )
    settings = {"shared": False, "cells": False, "estimator": None, "categories": 0} | given
    return Latent(name, torch.Size(event), support, start=start, **settings)  # type: ignore[arg-type]


def moved(guide: torch.nn.Module, seed: int = 0) -> None:
    """Parameters away from where they begin."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


# The law of a vector.


@pytest.mark.parametrize("kind", ["mean_field", "full_rank", "flow"])
def test_the_log_density_is_that_of_the_map_from_noise(kind: str) -> None:
    guide = VectorGuide(3, kind).double()  # type: ignore[arg-type]
    moved(guide)
    guide.centre(torch.tensor([1.0, -2.0, 3.0]), torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, -1.0, 3.0]]).double())
    eps = torch.randn(5, 3, dtype=torch.double)

    def push(noise: Tensor) -> tuple[Tensor, Tensor]:
        u, log_q = guide(lambda law: rp.path(law).push(noise[None, None]))
        return u[0, 0], log_q[0, 0]

    for noise in eps:
        value, log_q = push(noise)
        jacobian = torch.autograd.functional.jacobian(lambda noise: push(noise)[0], noise)
        expected = Normal(0.0, 1.0).log_prob(noise).sum() - torch.linalg.slogdet(jacobian)[1]
        assert value.shape == (3,)
        assert torch.allclose(log_q, expected, rtol=1e-9)


def test_the_gradient_vanishes_where_the_guide_is_the_posterior() -> None:
    target = MultivariateNormal(torch.tensor([100.0, -0.01]), torch.tensor([[900.0, 0.15], [0.15, 1e-4]]))
    guide = VectorGuide(2, "full_rank")
    assert guide.start(target.log_prob, torch.tensor([90.0, 0.0]) + torch.tensor([50.0, 0.1]) * torch.randn(20, 2))
    value, log_q = guide(lambda law: rp.rsample(law, (16,)))
    (log_q - target.log_prob(value)).mean().backward()
    # Rounding is left: of an ordinary gradient each entry's standard deviation would be about 1/4.
    for parameter in guide.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 0.02


def bound(guide: VectorGuide, target: Callable[[Tensor], Tensor], n: int = 4000) -> float:
    """E log p - E log q: of a normalised density minus the divergence of the guide from it."""
    with torch.no_grad():
        value, log_q = guide(lambda law: rp.rsample(law, (n,)))
        return (target(value) - log_q).mean().item()


def train(guide: VectorGuide, target: Callable[[Tensor], Tensor], steps: int, learning_rate: float, n: int = 16) -> None:
    optimizer = torch.optim.Adam(guide.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        value, log_q = guide(lambda law: rp.rsample(law, (n,)))
        (log_q - target(value)).mean().backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("kind", "gap"), [("mean_field", 0.83), ("full_rank", 0.0)])
def test_fits_a_correlated_normal_as_well_as_its_kind_can(kind: str, gap: float) -> None:
    """The divergence of the best diagonal normal from a normal of correlation 0.9 is -log(1 - 0.81) / 2 = 0.83 nats."""
    target = MultivariateNormal(torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    guide = VectorGuide(2, kind)  # type: ignore[arg-type]
    guide.centre(torch.zeros(2), torch.ones(2))
    assert bound(guide, target.log_prob) < -10
    train(guide, target.log_prob, 250, 0.02)
    # The standard error is 0.02 for the diagonal law and nearly nothing for the other.
    assert abs(bound(guide, target.log_prob) + gap) < 0.15


def neck(x: Tensor) -> Tensor:
    """Neal's funnel in four dimensions: no normal law comes nearer to it than 1.34 nats."""
    return Normal(0.0, 3.0).log_prob(x[..., 0]) + Normal(0.0, (x[..., :1] / 2).exp()).log_prob(x[..., 1:]).sum(-1)


def test_the_start_goes_where_the_mass_is() -> None:
    """The mode is at x0 = -13.5, where hardly any is: the bound there is below -5."""
    guide = VectorGuide(4, "full_rank")
    assert guide.start(neck, torch.randn(20, 4))
    assert -2 < bound(guide, neck) < -1.3  # the standard error is 0.02


@pytest.mark.slow
def test_a_flow_bends_beyond_every_normal() -> None:
    guide = VectorGuide(4, "flow")
    guide.start(neck, torch.randn(20, 4))
    train(guide, neck, 600, 0.01, 32)
    assert bound(guide, neck) > -0.6  # the standard error is 0.02; at first it is below -1.3


def test_start_bears_any_units_and_takes_a_side_of_a_symmetry() -> None:
    scales = torch.tensor([1e4, 1.0, 1e-4])
    correlation = torch.tensor([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 1.0]])
    target = MultivariateNormal(3 * scales, scale_tril=scales[:, None] * torch.linalg.cholesky(correlation))
    found = find_start(target.log_prob, 20 * scales * torch.randn(10, 3))
    assert found is not None
    mode, factor = found
    assert ((mode / scales - 3).abs() < 0.05).all()
    assert torch.allclose(factor @ factor.T / torch.outer(scales, scales), correlation, atol=0.02)

    def two_sides(x: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack([Normal(4.0, 1.0).log_prob(x[..., 0]), Normal(-4.0, 1.0).log_prob(x[..., 0])]), 0)

    places = torch.cat([torch.zeros(3, 1) + torch.tensor([[1.0], [-1.0], [0.5]]), torch.linspace(-1, 1, 9)[:, None]])
    side = find_start(two_sides, places)
    assert side is not None
    assert abs(side[0].abs().item() - 4) < 0.01


def funnel(x: Tensor) -> Tensor:
    """Five effects with a scale exp(x0): the density grows without bound as they all shrink. Its integral is 1."""
    return Normal(0.0, 10.0).log_prob(x[..., 0]) + Normal(0.0, x[..., :1].exp()).log_prob(x[..., 1:]).sum(-1)


def test_a_density_without_a_mode_has_a_start() -> None:
    """Steps alone come to -3.47 nats."""
    guide, places = VectorGuide(6, "full_rank"), torch.randn(20, 6)
    guide.begin(places)
    assert bound(guide, funnel) < -5
    assert guide.start(funnel, places)
    assert abs(bound(guide, funnel) + 3.47) < 0.15  # the standard error is 0.01


def test_no_start_is_found_where_there_is_no_law() -> None:
    guide, places = VectorGuide(1, "full_rank"), torch.randn(20, 1)
    for flat in (lambda x: x[..., 0], lambda x: torch.nan + x[..., 0], lambda x: 0 * x[..., 0]):
        assert not guide.start(flat, places)
        assert torch.equal(guide.shift, places.quantile(0.5, 0))


def test_start_finds_the_nearest_normal_and_not_the_curvature_at_the_mode() -> None:
    """Of log x, x exponential, the nearest normal has mean -1/2 and variance 1, as 1 = E exp(u) = 1 / variance.
    The mode is 0.
    """

    def log_density(u: Tensor) -> Tensor:
        return u[..., 0] - u[..., 0].exp()

    found, laplace = (find_start(log_density, torch.randn(20, 1), draws) for draws in (2000, 0))
    assert found is not None
    assert laplace is not None
    # 2000 draws of pairs: E exp(u) has a standard error of 0.03.
    assert abs(found[0].item() + 0.5) < 0.1
    assert abs(found[1].item() - 1) < 0.1
    assert abs(laplace[0].item()) < 0.05
    assert abs(laplace[1].item() - 1) < 0.1


def test_what_no_guide_can_be_is_said() -> None:
    with pytest.raises(BadInputError, match=r"guide='diagonal': give one of mean_field, full_rank, flow"):
        VectorGuide(2, "diagonal")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="give at least 1"):
        VectorGuide(0)
    with pytest.raises(BadInputError, match="use mean_field, or amortised=True"):
        VectorGuide(10**6)


# The way to supports.


@pytest.mark.parametrize(
    ("support", "event"),
    [
        (constraints.real, ()),
        (constraints.positive, ()),
        (constraints.nonnegative, (2, 2)),
        (constraints.interval(-1.0, 3.0), ()),
        (constraints.independent(constraints.positive, 1), (3,)),
        (constraints.simplex, (4,)),
        (constraints.independent(constraints.simplex, 1), (2, 3)),
        (constraints.corr_cholesky, (3, 3)),
        (constraints.greater_than(2.0), (2,)),
    ],
)
def test_log_determinants_are_those_of_the_map(support: constraints.Constraint, event: tuple[int, ...]) -> None:
    shape = torch.Size(event)
    u = torch.randn(5, 2, free_size(support, shape), dtype=torch.double)
    z, log_det = constrain(u, support, shape)
    assert z.shape == (5, 2, *event)
    assert log_det.shape == (5, 2)
    assert support.check(z).all()
    # A simplex and a factor of correlations have fewer coordinates than entries: the volume is that of the free entries.
    base = support.base_constraint if isinstance(support, constraints.independent) else support
    free = {constraints.simplex: torch.arange(event[-1] if event else 1) < (event[-1] if event else 1) - 1}
    free[constraints.corr_cholesky] = torch.ones(3, 3).tril(-1) > 0

    def entries(u: Tensor) -> Tensor:
        z = constrain(u, support, shape)[0]
        return (z[..., free[base]] if base in free else z).flatten()

    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(entries, u[i, 0])
        assert torch.allclose(log_det[i, 0], torch.linalg.slogdet(jacobian)[1], rtol=1e-6, atol=1e-8)


def test_values_stay_inside_supports_and_floats() -> None:
    z, log_det = constrain(torch.tensor([[-300.0], [300.0]]), POSITIVE, torch.Size())
    assert (z > 0).all()
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    z, _ = constrain(torch.tensor([[-300.0], [300.0]]), constraints.unit_interval, torch.Size())
    assert ((z > 0) & (z < 1)).all()


def test_a_sphere_has_no_coordinates_without_bounds() -> None:
    with pytest.raises(BadInputError, match="biject_to"):
        free_size(VonMisesFisher(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(1.0)).support, torch.Size([3]))


# The guide of a graph.


def test_log_q_is_the_density_of_the_values() -> None:
    guide = make_guide(
        [latent("tau", POSITIVE, shared=True), latent("z")], Config(guide="mean_field", amortised=False), rows=4, features=0
    )
    assert guide.joint is not None
    moved(guide)
    drawn = guide.sample(drawing(6), torch.zeros(3, 0), torch.tensor([3, 0, 1]), {})
    assert drawn.values["tau"].shape == (6, 1)
    assert drawn.values["z"].shape == (6, 3)
    everything = guide.sample(drawing(6), torch.zeros(4, 0), torch.arange(4), {}).values
    assert torch.equal(everything["z"][:, [3, 0, 1]], drawn.values["z"])
    u = torch.cat([everything["tau"].log(), everything["z"]], 1)
    loc = guide.joint.shift + guide.joint.scale * guide.joint.loc
    scale = guide.joint.scale * guide.joint.log_sigma.exp()
    expected = Normal(loc, scale).log_prob(u).sum(-1, keepdim=True) - everything["tau"].log()
    assert torch.allclose(drawn.log_q_shared, expected, atol=1e-5)
    assert torch.equal(drawn.log_q_rows, torch.zeros(1))
    assert guide.whole == {"z"}


def test_latents_by_themselves_count_where_they_are_wanted() -> None:
    gap = latent("x", POSITIVE, (2,), cells=True)
    guide = make_guide([gap], Config(amortised=False), rows=5, features=0)
    assert not guide.startable
    assert guide.joint is None
    moved(guide)
    wanted = torch.tensor([True, False, True])
    index = torch.tensor([4, 2, 0])
    drawn = guide.sample(drawing(7), torch.zeros(3, 0), index, {"x": wanted})
    single = guide.each[0]
    loc, log_scale = single.table[index].chunk(2, -1)
    law = LogNormal(single.shift + single.spread * loc, single.spread * (5 * torch.tanh(log_scale / 5)).exp())
    expected = law.log_prob(drawn.values["x"]).sum(-1) * wanted
    assert drawn.values["x"].shape == (7, 3, 2)
    assert torch.allclose(drawn.log_q_rows, expected, atol=1e-4)
    assert guide.sample(drawing(7), torch.zeros(3, 0), None, {}).values == {}


def test_amortised_latents_know_the_row_and_the_shared_ones() -> None:
    guide = make_guide([latent("mu", shared=True), latent("z")], Config(amortised=True), rows=5, features=2)
    moved(guide)
    assert guide.apart == ("z",)
    assert guide.whole == frozenset()
    seen = torch.randn(3, 2)
    drawn = guide.sample(drawing(7), seen, None, {})  # new rows
    assert drawn.values["mu"].shape == (7, 1)
    assert drawn.values["z"].shape == (7, 3)
    assert drawn.log_q_shared.shape == (7, 1)
    assert drawn.log_q_rows.shape == (7, 3)
    other = guide.sample(drawing(7), seen + torch.tensor([1.0, 0.0]), None, {})
    assert torch.equal(drawn.values["mu"], other.values["mu"])
    assert not torch.allclose(drawn.values["z"], other.values["z"])


def test_by_default_long_tables_are_amortised() -> None:
    local = latent("z", REAL, (3,))
    assert not make_guide([local], Config(), rows=85, features=4).amortised  # 255 numbers
    assert make_guide([local], Config(), rows=86, features=4).amortised
    assert not make_guide([latent("mu", shared=True)], Config(), rows=10**6, features=4).amortised
    assert make_guide([], Config(), rows=5, features=4).sample(drawing(2), torch.zeros(3, 4), None, {}).values == {}


def test_an_estimator_of_its_own_needs_a_law_of_its_own() -> None:
    own = latent("z", estimator=rp.Score())
    with pytest.raises(BadInputError, match=r"node 'z' names Score, and guide='full_rank'"):
        make_guide([own], Config(), rows=3, features=0)
    assert make_guide([latent("z", estimator=rp.Pathwise())], Config(), rows=3, features=0).startable
    guide = make_guide([own, latent("w")], Config(guide="mean_field", amortised=False), rows=3, features=0)
    names = []

    def draw(name: str, law: Distribution) -> Tensor:
        names.append(name)
        return rp.rsample(law, (2,))

    guide.sample(draw, torch.zeros(3, 0), torch.arange(3), {})
    assert names == ["guide", "z"]
    assert guide.about("z") == "normal for each row"
    assert guide.about("w") == "normal"


@pytest.mark.parametrize("amortised", [False, True])
def test_a_sampled_discrete_latent_learns_its_posterior(amortised: bool) -> None:
    """z in 0..2 with y = z + noise: by leave-one-out, the guide comes to the posterior, which Bayes' rule tells."""
    y = torch.tensor([0.1, 0.9, 2.2, 1.4])
    guide = make_guide(
        [latent("z", REAL, categories=3, estimator=rp.LeaveOneOut())], Config(amortised=amortised), rows=4, features=1
    )
    prior, means = torch.log(torch.tensor([0.5, 0.3, 0.2])), torch.arange(3.0)

    def cost(sample: rp.estimators.graph.Sampler) -> Tensor:
        drawn = guide.sample(sample, y[:, None], torch.arange(4), {})
        z = drawn.values["z"]
        return drawn.log_q_rows - prior[z] - Normal(means[z], 0.7).log_prob(y)

    optimizer = torch.optim.Adam(guide.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        rp.graph(cost, estimators={"z": rp.LeaveOneOut()}, n=32, batch_shape=(4,)).mean().backward()
        optimizer.step()
        schedule.step()
    exact = (prior + Normal(means, 0.7).log_prob(y[:, None])).softmax(-1)
    laws: list[Tensor] = []

    def look(name: str, law: Distribution) -> Tensor:
        assert isinstance(law, Categorical)
        laws.append(law.probs)
        return law.sample((1,))

    guide.sample(look, y[:, None], torch.arange(4), {})
    assert (laws[0] - exact).abs().max() < 0.05  # at first 0.4


def test_amortised_normals_come_to_the_posterior_of_each_row() -> None:
    """z ~ N(0, 1), y ~ N(z, 1): the posterior is N(y / 2, 1/2)."""
    generator = torch.Generator().manual_seed(0)
    y = 1.4 * torch.randn(64, generator=generator)
    guide = make_guide([latent("z")], Config(amortised=True), rows=64, features=1)

    def cost(sample: rp.estimators.graph.Sampler) -> Tensor:
        drawn = guide.sample(sample, y[:, None], torch.arange(64), {})
        z = drawn.values["z"]
        return drawn.log_q_rows - Normal(0.0, 1.0).log_prob(z) - Normal(z, 1.0).log_prob(y)

    optimizer = torch.optim.Adam(guide.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        rp.graph(cost, n=4, batch_shape=(64,)).mean().backward()
        optimizer.step()
        schedule.step()
    found = rp.graph(cost, n=100, batch_shape=(64,)).mean().item()
    # At the posterior the cost is -log p(y) at every draw, so that nothing is left to chance.
    assert abs(found + Normal(0.0, math.sqrt(2)).log_prob(y).mean().item()) < 0.01


def test_start_of_a_graph_finds_the_posterior_of_a_hierarchy() -> None:
    """mu ~ N(0, 10), theta_r ~ N(mu, 2), y_r ~ N(theta_r, 3): a joint normal, which the start alone makes exact."""
    y = torch.tensor([3.0, -1.0, 4.0, 1.0, 5.0])
    guide = make_guide([latent("mu", shared=True), latent("theta")], Config(guide="full_rank"), rows=5, features=1)
    assert guide.startable

    def log_joint(values: dict[str, Tensor]) -> Tensor:
        mu, theta = values["mu"], values["theta"]
        return (
            Normal(0.0, 10.0).log_prob(mu).sum(-1)
            + Normal(mu, 2.0).log_prob(theta).sum(-1)
            + Normal(theta, 3.0).log_prob(y).sum(-1)
        )

    assert guide.start_at(log_joint)
    drawn = guide.sample(drawing(16), y[:, None], torch.arange(5), {})
    evidence = MultivariateNormal(torch.zeros(5), 13 * torch.eye(5) + 100).log_prob(y)
    weights = log_joint(drawn.values) - drawn.log_q_shared[:, 0]
    assert torch.allclose(weights, evidence.expand(16), atol=0.01)


def test_start_takes_the_rows_that_lack_nothing() -> None:
    """y ~ N(b x, 1), b ~ N(0, 5): without a step, q(b) is the posterior given the rows in which x is known."""
    x, y = torch.tensor([1.0, 2.0, math.nan, -1.0, math.nan]), torch.tensor([2.0, 3.0, 9.0, -1.0, 9.0])
    nodes = [
        Node("b", lambda: Normal(0.0, 5.0), shared=True),
        Node("x", lambda: Normal(0.0, 1.0)),
        Node("y", lambda b, x: Normal(b * x, 1.0)),
    ]
    model = Graphical(nodes, Config(), {"x": x, "y": y})
    assert model.guide is not None
    assert model.guide.apart == ("x",)
    assert model.rows is not None
    drawn = model.draw_latents(2000, model.rows).values["b"]
    precision = 1 / 25 + 6
    assert abs(drawn.mean().item() - 9 / precision) < 0.06  # 6 standard errors
    assert abs(drawn.std().item() * precision**0.5 - 1) < 0.1  # 6 standard errors


def test_a_guide_is_saved_and_loaded() -> None:
    latents = [latent("mu", shared=True), latent("x", cells=True), latent("s", POSITIVE)]
    one, other = (make_guide(latents, Config(guide="flow", amortised=False), rows=3, features=1) for _ in range(2))
    moved(one)
    assert one.joint is not None
    one.joint.start(lambda u: -u.square().sum(-1), torch.randn(9, 4))
    other.load_state_dict(one.state_dict())
    a, b = (each.sample(drawing(2), torch.zeros(3, 1), torch.arange(3), {}) for each in (one, other))
    assert all(torch.equal(a.values[name], b.values[name]) for name in ("mu", "x", "s"))
    assert torch.equal(a.log_q_shared, b.log_q_shared)
    assert torch.equal(a.log_q_rows, b.log_q_rows)


def test_gaps_follow_the_start():
    """A regression whose covariate has gaps: the noise is .5 as the data were made, and not that which y has without it.

    When the gaps' laws were left where they began, the joint law explained their y by noise. The posterior
    standard deviation of the noise is .03, so that a right answer is 5 of them within the bound.
    """
    generator = torch.Generator().manual_seed(0)
    u = 1 + 2 * torch.randn(120, generator=generator)
    y = 1.5 * u - 2 + 0.5 * torch.randn(120, generator=generator)
    nodes = [
        Node("a", lambda: Normal(0.0, 3.0), shared=True),
        Node("b", lambda: Normal(0.0, 3.0), shared=True),
        Node("s", lambda: HalfNormal(2.0), shared=True),
        Node("u", lambda: Normal(1.0, 2.0)),
        Node("y", lambda a, b, s, u: Normal(a + b * u, s)),
    ]
    u[torch.arange(120) % 3 == 0] = torch.nan
    model = Graphical(nodes, Config(guide="flow", samples=8), data={"u": u, "y": y})
    fit(model, steps=100, learning_rate=5e-3)
    assert model.posterior("s").mean("s") < 0.65
