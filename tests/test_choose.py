"""The automatic choice covers every law, and a graph says what it does."""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Geometric,
    Independent,
    MixtureSameFamily,
    Multinomial,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
)

import reparam as rp
from reparam.cli.examples import classes, example
from reparam.paths.path import is_discrete
from reparam.stats import mean_test

COINS = Independent(Bernoulli(logits=torch.zeros(20)), 1)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("cls", list(classes()), ids=lambda c: c.__name__)
def test_every_law_has_an_unbiased_estimator_that_works(cls, n):
    q = example(cls)
    choice = rp.choose(q, n)
    assert choice.estimator.bias is None
    assert str(choice).startswith(f"{choice.law}: {type(choice.estimator).__name__}, because ")
    event = len(q.event_shape)
    value = rp.expect(lambda z: z.double().square().flatten(z.dim() - event).sum(-1) if event else z.double().square(), q, n=n)
    assert value.shape == q.batch_shape
    assert value.isfinite().all()
    # What is discrete is never differentiated through.
    assert not (is_discrete(q) and isinstance(choice.estimator, rp.Pathwise))


def name(q, n, source=None):
    return type(rp.choose(q, n, source).estimator).__name__


def test_of_finite_laws():
    large = Categorical(logits=torch.zeros(100))
    assert name(Categorical(logits=torch.zeros(32)), 1) == "Enumerate"
    assert [name(large, n) for n in (1, 2, 8, 9, 100)] == [
        "Score",
        "WithoutReplacement",
        "WithoutReplacement",
        "LeaveOneOut",
        "Enumerate",
    ]
    assert name(OneHotCategorical(logits=torch.zeros(100)), 4) == "WithoutReplacement"
    assert name(Categorical(logits=torch.zeros(70_000)), 4) == "LeaveOneOut"
    assert name(Independent(Categorical(logits=torch.zeros(2, 100)), 1), 4) == "LeaveOneOut"
    assert name(Multinomial(50, torch.ones(40)), 4) == "LeaveOneOut"


def test_of_coins():
    assert [name(COINS, n) for n in (1, 2, 3, 4)] == ["Score", "DisARM", "LeaveOneOut", "LeaveOneOut"]
    # Rows that depend on each other are no baselines; opposite pairs still are what they are.
    assert [name(COINS, n, rp.Sobol(0)) for n in (1, 3, 4)] == ["Score", "Score", "DisARM"]


def test_of_counts():
    for q in (Poisson(3.0), Geometric(0.3), NegativeBinomial(3.0, 0.4), Binomial(100, 0.3)):
        assert [name(q, n) for n in (1, 4)] == ["StochasticTriple", "StochasticTriple"]
    # Of several counts at once one moves in a sample, and all have the score of each row.
    assert [name(Independent(Poisson(torch.ones(20)), 1), n) for n in (1, 4)] == ["Score", "LeaveOneOut"]
    mixture = MixtureSameFamily(Categorical(torch.ones(3)), Poisson(torch.ones(3)))
    assert name(mixture, 4) == "LeaveOneOut"


def test_in_words():
    assert str(rp.choose(COINS, 2)) == (
        "Independent(Bernoulli): DisARM, because it is made of coins, and rows in opposite pairs vary less than others"
    )
    counts = Independent(Poisson(torch.ones(20)), 1)
    assert str(rp.choose(counts)).endswith("no sample is differentiable; two or more rows would lower the variance")
    assert "rows that depend on each other are no baselines" in str(rp.choose(counts, 4, rp.Antithetic()))
    assert "it counts" in str(rp.choose(Poisson(3.0)))
    assert "has no differentiable sampler" in str(rp.choose(Shut(), 4))


class Shut(Distribution):
    """A continuous law with neither a path nor a sampler that is differentiable."""

    arg_constraints = {}
    support = torch.distributions.constraints.real

    def __init__(self):
        super().__init__(validate_args=False)

    def sample(self, sample_shape=()):
        return torch.zeros(sample_shape)

    def log_prob(self, value):
        return -value.square()


class TestPlan:
    def model(self, sample):
        z = sample("z", Normal(torch.zeros(3, requires_grad=True), 1.0))
        c = sample("c", Categorical(logits=torch.stack([z, -z, 0 * z], -1)))
        k = sample("k", Poisson(z.exp()))
        return (z - c + k) ** 2

    def test_is_data(self):
        plan = rp.plan(self.model, estimators={"k": rp.Enumerate(tail=1e-3)}, n={"z": 5}, batch_shape=3, source={"z": fresh()})
        z, c, k = plan
        assert [s.node for s in plan] == ["z", "c", "k"]
        assert [s.law for s in plan] == ["Normal", "Categorical", "Poisson"]
        assert [type(s.estimator) for s in plan] == [rp.Pathwise, rp.Enumerate, rp.Enumerate]
        assert (z.rows, c.rows, z.bias, c.why) == (5, 3, None, "its 3 values can be summed exactly")
        assert k.bias == rp.Enumerate(tail=1e-3).bias
        assert k.why == "it was named"
        assert plan.rows == 15 * k.rows

    def test_prints_as_a_table(self):
        plan = rp.plan(self.model, estimators={"k": rp.LeaveOneOut()}, n={"z": 5, "k": 4}, batch_shape=3)
        lines = str(plan).splitlines()
        assert lines[0].split() == ["node", "law", "estimator", "rows", "bias", "why"]
        assert len(lines) == 5
        for heading in ("law", "estimator", "rows", "bias", "why"):
            at = lines[0].index(heading)
            assert all(line[at - 1] == " " and line[at] != " " for line in lines[1:4])
        assert lines[-1] == "The cost is evaluated at 5 × 3 × 4 = 60 rows."

    def test_moves_no_baseline(self):
        average = rp.MovingAverage()
        rp.plan(self.model, estimators={"k": rp.Score(average)}, batch_shape=3)
        assert average.weight == 0

    def test_rows_are_those_of_graph(self):
        seen = []

        def model(sample):
            cost = self.model(sample)
            seen.append(cost.shape[:-1].numel())
            return cost

        given = {"estimators": {"k": rp.StochasticTriple()}, "n": 2, "batch_shape": 3}
        rp.graph(model, **given)
        assert rp.plan(model, **given).rows == seen[0] == seen[1]

    def test_fails_as_graph_does(self):
        with pytest.raises(ValueError, match="did you mean 'z'"):
            rp.plan(self.model, estimators={"zz": rp.Score()}, batch_shape=3)


# Four nodes, each estimated in another way: z ~ N(m, 1), k ~ Poisson(exp(r + z / 4)), two coins whose logits are tilted by k,
# a choice tilted by z; the cost is an interaction of all.
LEAVES = (0.3, -0.2, 0.4, 0.5)


def four(m, r, a, w):
    def model(sample):
        z = sample("z", Normal(m, 1.0))
        k = sample("k", Poisson((r + z / 4).exp()))
        logits = torch.stack([a - k / 3, a + z + 0 * k], -1)
        b = sample("b", Independent(Bernoulli(logits=logits), 1))
        c = sample("c", OneHotCategorical(logits=torch.stack([w * z, -z, 0 * z], -1)))
        third = c[..., 1] - c[..., 2]
        return torch.sin(z) + 0.3 * k * third + b.prod(-1) * (z + third) + b.sum(-1) * torch.cos(k)

    return model


def exact(m, r, a, w):
    """Gauss-Hermite in z, sums over everything else."""
    import numpy

    nodes, weights = numpy.polynomial.hermite_e.hermegauss(60)
    source = Given(torch.as_tensor(nodes))
    estimators = {"z": source, "k": rp.Enumerate(tail=1e-13), "b": rp.Enumerate(), "c": rp.Enumerate()}
    source.weights = torch.as_tensor(weights) / math.sqrt(2 * math.pi)
    return rp.graph(four(m, r, a, w), estimators=estimators)


class Given:
    """Normal quadrature as an estimator: z = m + node."""

    bias = None

    def __init__(self, nodes):
        self.nodes = nodes

    def draw(self, q, n, source):
        return rp.Draw(q.loc + self.nodes, q.batch_shape)

    def weigh(self, draw, cost):
        return self.weights @ cost


AVERAGE = rp.MovingAverage()
MIXES = {
    "score": ({"z": rp.Pathwise(), "k": rp.LeaveOneOut(), "b": rp.DisARM(), "c": rp.WithoutReplacement()}, 2),
    "baselines": (
        {"z": rp.LeaveOneOut(), "k": rp.Enumerate(tail=1e-9), "b": rp.Score(AVERAGE), "c": rp.SumAndSample(1)},
        2,
    ),
    "jumps": ({"z": rp.Pathwise(), "k": rp.StochasticTriple(), "b": rp.Enumerate(), "c": rp.MeasureValued()}, 2),
    "controls": ({"z": rp.Pathwise(), "k": rp.MeasureValued(), "b": rp.ARM(), "c": rp.REBAR(0.5)}, 2),
    "chosen": ({}, 2),
}


@pytest.mark.parametrize("mix", MIXES)
def test_a_model_of_four_nodes(mix):
    estimators, n = MIXES[mix]
    truth_leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in LEAVES]
    truth = exact(*truth_leaves)
    slopes = torch.autograd.grad(truth, truth_leaves)
    size = 20_000
    leaves = [torch.full((size,), v, dtype=torch.float64, requires_grad=True) for v in LEAVES]
    value = rp.graph(four(*leaves), estimators=estimators, n=n, batch_shape=size, source=fresh(1))
    for found, want in zip((value.detach(), *torch.autograd.grad(value.sum(), leaves)), (truth, *slopes), strict=True):
        verdict = mean_test(found, want.item())
        assert verdict.detectable < 0.3
        assert verdict, verdict
