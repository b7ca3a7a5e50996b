"""Mutants, estimators with one fault each: `check_estimator` must catch every one, by the property that is there for it."""

from dataclasses import replace

import pytest
import torch

import reparam as rp
from cases.estimators.row import DELTA, PHI, THETA, coin, toy
from reparam.testing import PropertyError, check_estimator

DISARM = DELTA**2 * min(THETA, 1 - THETA) * max(THETA, 1 - THETA) ** 2 * abs(THETA - 0.5)


class DroppedHalf(rp.DisARM):
    def draw(self, q, n, source):
        draw = super().draw(q, n, source)
        return replace(draw, slope=2 * draw.slope)


class WrongSign(rp.DisARM):
    def draw(self, q, n, source):
        draw = super().draw(q, n, source)
        return replace(draw, slope=-draw.slope)


class SamePairs(rp.DisARM):
    """Every pair is the first one: unbiased still, and no better for more rows."""

    def draw(self, q, n, source):
        draw = super().draw(q, 2, source)
        return replace(
            draw, value=draw.value.repeat_interleave(n // 2, 0), slope=draw.slope.repeat(n // 2, *[1] * q.logits.dim(), 1)
        )


class NotOpposite(rp.DisARM):
    """Pairs that are not antithetic are weighed as if they were."""

    def draw(self, q, n, source):
        draw = super().draw(q, n, source)
        return replace(draw, value=rp.sample(q, (n,), source=source))


class OwnRow(rp.LeaveOneOut):
    """The mean of all costs as baseline, that of its own row among them."""

    def weigh(self, draw, cost):
        one = torch.exp(draw.log_prob - draw.log_prob.detach())
        return (cost * one + cost.detach().mean(0) * (1 - one)).mean(0)


class OwnCost(rp.Score):
    """A moving average that knows the costs before it is subtracted from them."""

    def weigh(self, draw, cost):
        return super().weigh(replace(draw, baseline=0.5 * cost.detach().mean(0)), cost)


class DetachedCost(rp.DisARM):
    def weigh(self, draw, cost):
        return super().weigh(draw, cost.detach())


class BiasedValue(rp.LeaveOneOut):
    def weigh(self, draw, cost):
        value = super().weigh(draw, cost)
        return value + 0.05 * value.detach().abs()


class ValueOfOneRow(rp.LeaveOneOut):
    """The value is that of the cheapest row; the gradient is right."""

    def weigh(self, draw, cost):
        value = super().weigh(draw, cost)
        return value + (cost.amin(0) - value).detach()


class SilentSecond(rp.DisARM):
    """Second derivatives are zero, without a word."""

    def weigh(self, draw, cost):
        value = super().weigh(draw, cost.detach())
        (slope,) = torch.autograd.grad(value.sum(), draw.logits, retain_graph=True)
        moved = slope * (draw.logits - draw.logits.detach())
        return cost.mean(0) + moved.flatten(value.dim()).sum(-1)


class OtherNoise(rp.LeaveOneOut):
    """Draws from torch's own generator."""

    def draw(self, q, n, source):
        return super().draw(q, n, None)


class Mumbling(rp.LeaveOneOut):
    bias = "yes"


class Wide(rp.DisARM):
    """A gradient in double precision whatever the parameters are, and an estimate too."""

    def weigh(self, draw, cost):
        return super().weigh(draw, cost).double()


class Summed(rp.LeaveOneOut):
    """The sum over rows in place of the mean."""

    def weigh(self, draw, cost):
        return cost.shape[0] * super().weigh(draw, cost)


# The mutant, how many rows, what is known beside, and the properties that must catch it, whatever else does.
MUTANTS = {
    DroppedHalf: (2, {}, {"gradient", "nesting"}),
    WrongSign: (2, {}, {"gradient", "nesting"}),
    NotOpposite: (2, {}, {"gradient"}),
    SamePairs: (4, {"variance": (DISARM / 2,)}, {"variance"}),
    OwnRow: (2, {"second": True}, {"gradient"}),
    OwnCost: (2, {"second": True}, {"gradient"}),
    DetachedCost: (2, {}, {"direct dependence"}),
    BiasedValue: (2, {"second": True}, {"value"}),
    ValueOfOneRow: (2, {"second": True}, {"value", "nesting"}),
    SilentSecond: (2, {}, {"second derivatives"}),
    OtherNoise: (2, {"second": True}, {"randomness"}),
    Mumbling: (2, {"value": 0.2325, "second": True}, {"bias is said"}),
    Wide: (2, {}, {"single precision"}),
    Summed: (2, {"second": True}, {"value", "gradient", "direct dependence"}),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_mutants_are_caught(mutant):
    n, known, caught = MUTANTS[mutant]
    with pytest.raises(PropertyError) as error:
        check_estimator(mutant(), coin, PHI, f=toy, n=n, detects=0.02, draws=50_000, **known)
    failed = set(error.value.report.failed)
    assert caught <= failed, str(error.value)
    assert "shapes" not in failed  # which has nothing to do with any of these faults
