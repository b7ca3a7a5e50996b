"""Distinct rows: exact sums over every set that can be drawn, and what is refused."""

from itertools import permutations

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical, Poisson

import reparam as rp
from reparam.stats import mean_test

LOGITS = torch.tensor([0.5, -1.0, 0.2, 1.1, -3.0], dtype=torch.float64)
PRICES = torch.tensor([1.0, -0.5, 2.0, 0.3, 40.0], dtype=torch.float64)


def price(z):
    return PRICES[z]


def derivatives(value, logits):
    (slope,) = torch.autograd.grad(value, logits, create_graph=True)
    return value.detach(), slope.detach(), torch.stack([torch.autograd.grad(s, logits, retain_graph=True)[0] for s in slope])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
def test_the_mean_over_all_sets_is_exact(n):
    """Every order in which values can come, by noise that rings in that order, with its probability."""
    logits = LOGITS.clone().requires_grad_()
    wanted = derivatives(rp.expect(price, Categorical(logits=logits)), logits)
    p, total = LOGITS.softmax(0), [torch.zeros_like(w) for w in wanted]
    for order in permutations(range(5)):
        chance, left = torch.ones((), dtype=torch.float64), 1.0
        for i in order:
            chance, left = chance * p[i] / left, left - p[i]
        eps = torch.empty_like(p)
        eps[list(order)] = p[list(order)] * torch.arange(1.0, 6.0, dtype=torch.float64)
        value = rp.expect(price, Categorical(logits=logits), estimator=rp.WithoutReplacement(), n=n, source=rp.Replay(eps))
        total = [t + chance * part for t, part in zip(total, derivatives(value, logits), strict=True)]
    for found, want in zip(total, wanted, strict=True):
        assert torch.allclose(found, want, rtol=1e-11, atol=1e-13)


def test_rows_are_distinct_and_no_more_than_the_values():
    q = Categorical(logits=LOGITS.expand(50, 5))
    for n, rows in ((3, 3), (12, 5)):
        value = rp.WithoutReplacement().draw(q, n, None).value
        assert value.shape == (rows, 50)
        assert all(len(set(column.tolist())) == rows for column in value.unbind(1))


def test_values_that_cannot_happen_are_drawn_last_and_cost_nothing():
    p = torch.tensor([0.0, 0.5, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
    table = torch.tensor([torch.inf, 1.0, torch.nan, 2.0], dtype=torch.float64)
    for estimator in (rp.WithoutReplacement(), rp.SumAndSample(2)):
        value = rp.expect(lambda z: table[z], Categorical(p), estimator=estimator, n=3)
        assert value == 1.5
        assert torch.autograd.grad(value, p)[0].isfinite().all()


def test_rare_values_keep_their_digits():
    # All but one value have a probability of 1e-9: sums over subsets with signs would lose every digit.
    logits = torch.full((40,), -20.7, dtype=torch.float64)
    logits[0] = 0.0
    draw = rp.WithoutReplacement().draw(Categorical(logits=logits), 8, None)
    of_first = draw.weight * draw.ratio
    assert torch.allclose(of_first.sum(), torch.ones((), dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(of_first[draw.value != 0], (1 - draw.weight.max()) / 7, rtol=1e-12)


def test_structured_values():
    q = Independent(OneHotCategorical(logits=LOGITS.expand(7, 2, 5)), 1)
    for estimator in (rp.WithoutReplacement(), rp.SumAndSample(3)):
        value = estimator.draw(q, 4, rp.Sobol(0)).value
        assert value.shape == (4, 7, 2, 5)
        assert (value.sum(-1) == 1).all()


def test_sampled_values_are_none_of_the_summed():
    value = rp.SumAndSample(2).draw(Categorical(logits=LOGITS.expand(200, 5)), 9, None).value
    assert value.shape == (9, 200)
    assert set(value[:2].flatten().tolist()) == {3, 0}
    assert set(value[2:].flatten().tolist()) == {1, 2, 4}


def test_func_grad_and_vmap():
    eps = torch.arange(1.0, 6.0, dtype=torch.float64)

    def value(logits):
        q = Categorical(logits=logits, validate_args=False)
        return rp.expect(price, q, estimator=rp.WithoutReplacement(), n=3, source=rp.Replay(eps))

    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(logits), logits)
    assert torch.allclose(torch.func.grad(value)(LOGITS), slope)
    assert torch.allclose(torch.vmap(torch.func.grad(value))(LOGITS.expand(2, 5)), slope.expand(2, 5))


class TestMisuse:
    q = Categorical(logits=LOGITS.expand(3, 5))

    @pytest.mark.parametrize("n", [1, 13])
    def test_rows(self, n):
        with pytest.raises(ValueError, match=f"2 to 12 distinct rows, got n={n}"):
            rp.expect(price, self.q, estimator=rp.WithoutReplacement(), n=n)

    def test_rows_of_sum_and_sample(self):
        with pytest.raises(ValueError, match="pass n=4 or more, got n=3"):
            rp.expect(price, self.q, estimator=rp.SumAndSample(3), n=3)
        for k in (0, 1.5, True):
            with pytest.raises(ValueError, match="must be a positive integer"):
                rp.SumAndSample(k)

    @pytest.mark.parametrize("estimator", [rp.WithoutReplacement(), rp.SumAndSample(1)], ids=lambda e: type(e).__name__)
    def test_laws_and_costs(self, estimator):
        with pytest.raises(NotImplementedError, match="Poisson has no finite support"):
            rp.expect(lambda z: z, Poisson(3.0), estimator=estimator, n=2)
        large = Independent(Bernoulli(torch.full((20,), 0.5)), 1)
        with pytest.raises(ValueError, match=r"Independent\(Bernoulli\) has 1048576 values, more than the limit of 65536"):
            rp.expect(lambda z: z.sum(-1), large, estimator=estimator, n=2)
        with pytest.raises(ValueError, match=r"shape \(2,\), the rows and batch \(2, 3\)"):
            rp.expect(lambda z: price(z).sum(-1), self.q, estimator=estimator, n=2)
        with pytest.raises(ValueError, match="weigh it with the estimator that drew it"):
            estimator.weigh(rp.Score().draw(self.q, 2, None), torch.zeros(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [rp.WithoutReplacement(), rp.SumAndSample(2)], ids=lambda e: type(e).__name__)
def test_compile(estimator):
    def value(logits):
        return rp.expect(price, Categorical(logits=logits, validate_args=False), estimator=estimator, n=5)

    logits = LOGITS.clone().requires_grad_()
    found = torch.compile(value, backend="aot_eager", fullgraph=True)(logits)
    if isinstance(estimator, rp.WithoutReplacement):  # all five values: exact
        assert torch.allclose(found, rp.expect(price, Categorical(logits=logits)))
    assert torch.autograd.grad(found, logits)[0].isfinite().all()


def test_rows_that_depend_on_each_other_are_no_worse():
    size = 4000
    logits = LOGITS.expand(size, 5).clone().requires_grad_()
    truth = LOGITS.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(rp.expect(price, Categorical(logits=truth)), truth)
    for estimator in (rp.WithoutReplacement(), rp.SumAndSample(1)):
        for source in (rp.Sobol(1), rp.Antithetic(rp.Fresh(torch.Generator().manual_seed(2)))):
            value = rp.expect(price, Categorical(logits=logits), estimator=estimator, n=3, source=source)
            (slopes,) = torch.autograd.grad(value.sum(), logits)
            for column, want in zip(slopes.unbind(1), wanted, strict=True):
                verdict = mean_test(column, want.item())
                assert verdict.detectable < 0.8
                assert verdict, verdict


@pytest.mark.parametrize("estimator", [rp.WithoutReplacement(), rp.SumAndSample(2), rp.Enumerate()], ids=lambda e: type(e).__name__)
def test_many_values_take_no_square_of_them(estimator):
    # The gradient of a list of log-probabilities in place of probabilities has as many entries as there are pairs: 3 GB.
    logits = torch.zeros(30_000, requires_grad=True)
    q = torch.distributions.Categorical(logits=logits)
    rp.expect(lambda z: (z == 0).double(), q, estimator=estimator, n=4).backward()
    assert logits.grad.isfinite().all()


def test_one_hot_values_are_not_listed():
    logits = torch.zeros(20, 30_000, requires_grad=True)  # the list would be of 72 GB
    q = torch.distributions.OneHotCategorical(logits=logits)
    assert isinstance(rp.choose(q, 4).estimator, rp.WithoutReplacement)
    draw = rp.WithoutReplacement().draw(q, 4, None)
    assert draw.value.shape == (4, 20, 30_000)
    assert (draw.value.sum(-1) == 1).all()
    assert draw.value.dtype == logits.dtype
    assert (draw.value.sum(0) <= 1).all()  # distinct


@pytest.mark.parametrize("estimator", [rp.WithoutReplacement(), rp.SumAndSample(1), rp.Enumerate()], ids=lambda e: type(e).__name__)
def test_an_empty_batch_of_events(estimator):
    logits = torch.zeros(0, 3, requires_grad=True)
    q = torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)
    value = rp.expect(lambda z: z.sum(-1), q, estimator=estimator, n=4)
    value.sum().backward()
    assert value.shape == (0,)
    assert logits.grad.shape == (0, 3)
