"""Coupled estimators: variances in order, shapes of costs, transforms, corners, misuse. Means are in the table of rows."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

import reparam as rp
from cases.estimators.row import CHOICES, COINS, interaction, table
from reparam.stats import mean_test

M = 200_000
PRICES = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def gradients(f, law, parameters, estimator, n):
    leaf = torch.tensor(parameters, dtype=torch.float64).expand(M, *torch.tensor(parameters).shape).clone().requires_grad_()
    value = rp.expect(f, law(leaf), estimator=estimator, n=n, source=fresh())
    return torch.autograd.grad(value.sum(), leaf)[0]


def coins(logits):
    return Independent(Bernoulli(logits=logits), 1)


def choices(logits):
    return Independent(OneHotCategorical(logits=logits), 1)


def index(logits):
    return Categorical(logits=logits)


def price(z):
    return PRICES[z]


# Measured ratios at equal rows are below 0.83; sampling noise of a ratio is below 0.01.
@pytest.mark.parametrize(
    ("law", "parameters", "f", "better", "worse", "n"),
    [
        (coins, COINS, interaction, rp.DisARM(), rp.ARM(), (2, 2)),
        (coins, COINS, interaction, rp.DisARM(), rp.LeaveOneOut(), (2, 2)),
        (choices, CHOICES, table, rp.DisARM(), rp.LeaveOneOut(), (2, 2)),
        (index, (0.5, -1.0, 0.2, 1.1), price, rp.DisARM(), rp.LeaveOneOut(), (2, 2)),
        (index, (0.5, -1.0, 0.2, 1.1), price, rp.DisARM(), rp.ARSM(), (7 + 1, 1)),
    ],
    ids=["arm", "leave one out", "leave one out, choices", "leave one out, choice", "arsm"],
)
def test_less_variance(law, parameters, f, better, worse, n):
    ours, theirs = (gradients(f, law, parameters, e, k).var(0).sum() for e, k in zip((better, worse), n, strict=True))
    assert ours < 0.95 * theirs, (ours, theirs)


@pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM()])
def test_a_cost_that_sums_a_batch_dimension(estimator):
    logits = torch.tensor(COINS, dtype=torch.float64)
    summed = gradients(interaction, lambda w: Bernoulli(logits=w), COINS, estimator, 4)
    truth = torch.func.grad(lambda w: rp.expect(interaction, coins(w)))(logits)
    for found, wanted in zip(summed.unbind(-1), truth.tolist(), strict=True):
        verdict = mean_test(found, wanted)
        assert verdict.detectable < 0.02
        assert verdict, verdict


@pytest.mark.parametrize("estimator", [rp.DisARM(), rp.ARSM()])
def test_choices_in_a_batch_dimension_that_the_cost_sums(estimator):
    logits = torch.tensor(CHOICES, dtype=torch.float64)
    summed = gradients(table, lambda w: OneHotCategorical(logits=w), CHOICES, estimator, 2)
    truth = torch.func.grad(lambda w: rp.expect(table, choices(w)))(logits)
    for found, wanted in zip(summed.flatten(1).unbind(-1), truth.flatten().tolist(), strict=True):
        verdict = mean_test(found, wanted)
        assert verdict.detectable < 0.1
        assert verdict, verdict


@pytest.mark.parametrize(("estimator", "n"), [(rp.ARM(), 2), (rp.DisARM(), 2), (rp.ARSM(), 1)])
def test_rows_that_are_shared_between_those_of_a_node_before(estimator, n):
    logits = torch.zeros(1000, 3, dtype=torch.float64, requires_grad=True)
    law = coins(logits) if isinstance(estimator, rp.ARM) else Categorical(logits=logits)

    def model(sample):
        a = sample("a", Normal(torch.zeros(1000, dtype=torch.float64), 1.0))
        z = sample("z", law)
        return (2 + a) * (z.sum(-1) if isinstance(estimator, rp.ARM) else z)

    value = rp.graph(
        model, estimators={"a": rp.Pathwise(), "z": estimator}, n={"a": 5, "z": n}, batch_shape=(1000,), source=fresh()
    )
    (found,) = torch.autograd.grad(value.sum(), logits)
    # Of 2 E[Σ b] in each of three coins, of 2 E[index] in the logits of three equal choices.
    wanted = [0.5, 0.5, 0.5] if isinstance(estimator, rp.ARM) else [-2 / 3, 0.0, 2 / 3]
    for samples, truth in zip(found.unbind(-1), wanted, strict=True):
        verdict = mean_test(samples, truth)
        assert verdict.detectable < 0.5
        assert verdict, verdict


def test_a_walk_has_the_law_of_the_choice():
    for k in (1, 2, 3, 5, 8, 11):
        logits = torch.randn(k, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        z = rp.DisARM().draw(Categorical(logits=logits.expand(M, k)), 2, fresh()).value
        for half in z:
            found = torch.bincount(half, minlength=k) / M
            assert (found - logits.softmax(0)).abs().max() < 6.5 * 0.5 / M**0.5


@pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM(), rp.ARSM()])
def test_extreme_logits(estimator):
    for logits in ([-30.0, 30.0, 90.0], [-torch.inf, -torch.inf, 0.0, 1.0, -torch.inf]):
        w = torch.tensor(logits, requires_grad=True)
        if isinstance(estimator, rp.ARM):
            w = w.detach().clamp(-100, 100).requires_grad_()
            q = Independent(Bernoulli(logits=w), 1)
        else:
            q = OneHotCategorical(logits=w)
        value = rp.expect(lambda z: z @ torch.arange(float(z.shape[-1])), q, estimator=estimator, n=100, source=fresh())
        assert torch.autograd.grad(value, w)[0].isfinite().all()


@pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM()])
def test_antithetic_rows_resolve_rare_outcomes(estimator):
    # In single precision 1 - u has steps of 6e-8, six times the probability.
    logits = torch.full((2,), math.log(1e-8))
    u = 1 - torch.tensor([[0.5e-8, 2e-8]], dtype=torch.float64)
    noise = rp.Replay(u if isinstance(estimator, rp.ARM) else u.unsqueeze(-1))
    assert estimator.draw(Bernoulli(logits=logits), 2, noise).value.tolist() == [[0, 0], [1, 0]]


class TestTransforms:
    logits = torch.tensor([0.3, -0.5, 1.0])

    @staticmethod
    def value(estimator):
        law = Bernoulli if isinstance(estimator, rp.ARM) else Categorical
        return lambda w: rp.expect(lambda z: (z - 0.3) ** 2, law(logits=w, validate_args=False), estimator=estimator, n=2).sum()

    @pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM(), rp.ARSM()])
    def test_grad_and_vmap(self, estimator):
        f = self.value(estimator)
        assert torch.func.grad(f)(self.logits).shape == (3,)
        batch = torch.vmap(torch.func.grad(f), randomness="different")(self.logits.expand(50, 3))
        assert batch.isfinite().all()
        assert batch.std(0).max() > 0

    @pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM(), rp.ARSM()])
    def test_compile(self, estimator):
        f = torch.compile(self.value(estimator), backend="aot_eager", fullgraph=True)
        w = self.logits.clone().requires_grad_()
        f(w).backward()
        assert w.grad.isfinite().all()


class TestMisuse:
    q = Bernoulli(torch.full((5,), 0.5))

    @pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM()])
    def test_an_odd_number_of_rows(self, estimator):
        with pytest.raises(ValueError, match="draws pairs: the number of rows n=3 must be even"):
            rp.expect(lambda z: z, self.q, estimator=estimator, n=3)

    def test_other_laws(self):
        with pytest.raises(NotImplementedError, match=r"ARM is for Bernoulli .*not for Categorical: use"):
            rp.expect(lambda z: z.float(), Categorical(torch.ones(3)), estimator=rp.ARM(), n=2)
        for estimator in (rp.DisARM(), rp.ARSM()):
            with pytest.raises(NotImplementedError, match=r"not for Normal: use rp\.LeaveOneOut\(\)"):
                rp.expect(lambda z: z, Normal(0.0, 1.0), estimator=estimator, n=2)
        with pytest.raises(NotImplementedError, match=r"for coins it is rp\.ARM\(\)"):
            rp.expect(lambda z: z, self.q, estimator=rp.ARSM(), n=2)

    @pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM(), rp.ARSM()])
    def test_costs_and_draws_of_another_kind(self, estimator):
        q = Categorical(torch.ones(5, 3)) if isinstance(estimator, rp.ARSM) else self.q
        with pytest.raises(ValueError, match=r"wanted rows \((2|8),\) \+ a leading part of batch \(5,\)"):
            rp.expect(lambda z: z[:, :3].float(), q, estimator=estimator, n=2)
        foreign = rp.Score().draw(q, 2, None)
        with pytest.raises(ValueError, match="weigh it with the estimator that drew it"):
            estimator.weigh(foreign, foreign.value.float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("estimator", [rp.ARSM(), rp.DisARM()], ids=lambda e: type(e).__name__)
def test_half_precision_logits_and_a_single_precision_cost(estimator, dtype):
    logits = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    rp.expect(lambda z: (z - 1.2) ** 2, Categorical(logits=logits), estimator=estimator, n=4).sum().backward()
    assert logits.grad.dtype == dtype
    assert logits.grad.isfinite().all()
