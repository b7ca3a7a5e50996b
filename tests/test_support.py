"""Sums over values: what a range leaves out, batches whose elements have ranges of their own, and what is refused."""

import pytest
import torch
from torch.distributions import Binomial, Geometric, Independent, NegativeBinomial, Normal, Poisson

import reparam as rp
from reparam.estimators.support import probabilities, support, support_size

COUNTS = {
    "Poisson": lambda: Poisson(torch.tensor([0.0, 0.1, 3.0, 400.0], dtype=torch.float64)),
    "Geometric": lambda: Geometric(torch.tensor([1.0, 0.9, 0.01], dtype=torch.float64)),
    "NegativeBinomial": lambda: NegativeBinomial(
        torch.tensor([0.1, 4.0, 50.0], dtype=torch.float64), torch.tensor([0.99, 0.3, 0.5], dtype=torch.float64)
    ),
    "Binomial": lambda: Binomial(torch.tensor([3, 50, 2000]), torch.tensor([0.0, 0.3, 0.999], dtype=torch.float64)),
    "Binomial of logits": lambda: Binomial(torch.tensor([3, 50]), logits=torch.tensor(2.0, dtype=torch.float64)),
    "Independent": lambda: Independent(Poisson(torch.tensor([[0.3, 0.1], [0.2, 1.0]], dtype=torch.float64)), 1),
}


@pytest.mark.parametrize("tail", [1e-2, 1e-6, 1e-9])
@pytest.mark.parametrize("law", COUNTS)
def test_no_more_than_the_tail_is_left_out(law, tail):
    q = COUNTS[law]()
    values = support(q, tail)
    assert values.shape == (support_size(q, tail), *q.batch_shape, *q.event_shape)
    left = 1 - probabilities(q, values).sum(0)
    assert (left < tail).all()
    assert (left > -1e-10).all()  # lgamma of 2000 has twelve digits


def test_a_batch_has_ranges_of_its_own_of_a_common_length():
    # Around 1e6 a range of 6e4 would hold both rates; each has its own.
    values = support(Poisson(torch.tensor([1e6, 1.0e6 + 5e4], dtype=torch.float64)), 1e-6)
    assert len(values) < 15_000
    assert (values[1:] - values[:-1] == 1).all()


def test_binomials_of_several_totals_are_exact():
    total = torch.tensor([2, 7])
    p = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    value = rp.expect(lambda z: (z - 1) ** 2, Binomial(total, p))
    mean = total * p
    assert isinstance(rp.choose(Binomial(total, p)).estimator, rp.Enumerate)
    truth = mean * (1 - p) + (mean - 1) ** 2
    assert torch.allclose(value, truth, rtol=1e-12)
    slopes = [torch.autograd.grad(v.sum(), p)[0] for v in (value, truth)]
    assert torch.allclose(*slopes, rtol=1e-11)


def test_a_certain_binomial_has_the_right_slope():
    p = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    value = rp.expect(lambda z: z, Binomial(4, p))
    assert value.tolist() == [0.0, 4.0]
    assert torch.allclose(torch.autograd.grad(value.sum(), p)[0], torch.full((2,), 4.0, dtype=torch.float64))


def test_a_rate_of_zero_has_the_right_slope():
    rate = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    value = rp.expect(lambda z: z + 2, Poisson(rate), estimator=rp.Enumerate(tail=1e-9))
    assert value == 2
    assert torch.autograd.grad(value, rate)[0] == 1


def test_single_precision_of_a_large_rate():
    # Torch's log-density of a float32 Poisson is off by 1e-2 here: a difference of terms of 1e5.
    rate = torch.tensor(1e4, requires_grad=True)
    value = rp.expect(lambda z: z / 1e4, Poisson(rate), estimator=rp.Enumerate(tail=1e-9))
    assert value.dtype == torch.float32
    assert abs(value.item() - 1) < 1e-5
    assert abs(torch.autograd.grad(value, rate)[0].item() * 1e4 - 1) < 1e-4


def test_joint_counts():
    rate = torch.tensor([0.3, 1.0], dtype=torch.float64, requires_grad=True)
    value = rp.expect(lambda z: (z.sum(-1) - 1) ** 2, Independent(Poisson(rate), 1), estimator=rp.Enumerate(tail=1e-13))
    truth = rate.sum() + (rate.sum() - 1) ** 2
    assert torch.allclose(value, truth, rtol=1e-10)
    assert torch.allclose(*(torch.autograd.grad(v, rate)[0] for v in (value, truth)), rtol=1e-9)


class TestMisuse:
    @pytest.mark.parametrize("tail", [-1e-9, 1.0, float("nan")])
    def test_tail(self, tail):
        with pytest.raises(ValueError, match=r"probability that may be left out, such as 1e-9"):
            rp.Enumerate(tail=tail)

    def test_what_has_no_end_is_told_how(self):
        with pytest.raises(NotImplementedError, match=r"use rp.Enumerate\(tail=1e-9\), which leaves out"):
            rp.expect(lambda z: z, Poisson(3.0), estimator=rp.Enumerate())
        with pytest.raises(NotImplementedError, match="Normal has no finite support"):
            rp.expect(lambda z: z, Normal(0.0, 1.0), estimator=rp.Enumerate(tail=1e-9))

    def test_too_many(self):
        with pytest.raises(ValueError, match="more than the limit of 65536"):
            rp.expect(lambda z: z, Geometric(torch.tensor(1e-6)), estimator=rp.Enumerate(tail=1e-9))

    def test_bias_says_what_is_left_out(self):
        assert rp.Enumerate().bias is None
        assert "at most 1e-09 of the probability" in rp.Enumerate(tail=1e-9).bias
