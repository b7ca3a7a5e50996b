"""Every setting of a flow shows in it, and what `evaluate` says is what it is called."""

import math

import pytest
import torch
from torch import nn

from reparam.errors import BadInputError
from reparam.models.flow import Config, Flow
from reparam.nn.autoregressive import Autoregressive
from reparam.noise import Fresh
from reparam.paths import sample_and_log_prob

SMALL = {"transforms": 2, "bins": 4, "hidden": (8,)}


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def shaken(flow):
    """The same flow with random weights."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(0, 0.5)
    return flow.eval()


def parts(**settings):
    return [part for part in Flow(Config(**{**SMALL, **settings}), (3,)).modules() if isinstance(part, Autoregressive)]


def test_every_setting_of_the_transforms_shows():
    assert [len(parts(transforms=n)) for n in (1, 3)] == [1, 3]
    assert [{part.sizes for part in parts(**s)} for s in ({}, {"bins": 6}, {"family": "maf"})] == [
        {(1, 1, 4, 4, 3)},
        {(1, 1, 6, 6, 5)},
        {(1, 1)},
    ]
    assert [{part.places for part in parts(coupling=c)} for c in (False, True)] == [{3}, {2}]
    assert [layer.out_features for layer in parts(hidden=(8, 5), transforms=1)[0].net if hasattr(layer, "out_features")][:2] == [
        8,
        5,
    ]
    for activation, kind in (("relu", nn.ReLU), ("tanh", nn.Tanh)):
        assert any(isinstance(layer, kind) for layer in parts(activation=activation)[0].net)
    assert [[m.p for m in part.modules() if isinstance(m, nn.Dropout)] for part in parts(dropout=0.3)] == [[0.3], [0.3]]


def test_dropout_acts_in_training_alone():
    flow, x = shaken(Flow(Config(dropout=0.5, **SMALL), (3,))), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flow.log_prob(x), flow.log_prob(x))
    flow.train()
    assert not torch.equal(flow.log_prob(x), flow.log_prob(x))


def test_estimators_differ_at_the_same_noise():
    gradients = []
    for estimator in ("pathwise", "leave_one_out", "score"):
        flow = shaken(Flow(Config(target="ring", estimator=estimator, **SMALL), (2,))).train()
        flow.loss(torch.zeros(16, 1), fresh()).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None]))
    assert all(not torch.allclose(gradients[i], gradients[i - 1], rtol=1e-2) for i in range(3))


@pytest.mark.parametrize("condition", [False, True])
def test_evaluation_is_the_mean_over_data_with_their_labels(condition):
    flow = shaken(Flow(Config(conditional=condition, **SMALL), (2,), classes=("a", "b")))
    x, places = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    each = torch.cat([flow.log_prob(x[i : i + 1], places[i : i + 1] if condition else None) for i in range(7)]).double()
    found = flow.evaluate((x, places) if condition else x, batch_size=3)
    assert found.log_likelihood == pytest.approx(each.mean().item(), abs=1e-4)
    assert found.log_likelihood_error == pytest.approx(each.std().item() / math.sqrt(7), abs=1e-4)


def test_the_evaluation_of_a_target_is_of_its_weights():
    flow = shaken(Flow(Config(target="ring", **SMALL), (2,)))
    found = flow.evaluate(torch.zeros(50, 1), source=fresh(), batch_size=50)
    with torch.no_grad():
        x, log_q = sample_and_log_prob(flow.law(), (50,), source=fresh())
    log_w = (flow.target.log_density(x) - log_q).double()
    w = log_w.exp()
    assert found.elbo == pytest.approx(log_w.mean().item(), abs=1e-4)
    assert found.elbo_error == pytest.approx(log_w.std().item() / math.sqrt(50), abs=1e-4)
    assert found.log_normaliser == pytest.approx(w.mean().log().item(), abs=1e-4)
    assert found.effective_share == pytest.approx((w.sum() ** 2 / w.square().sum() / 50).item(), abs=1e-4)
    assert found.effective_share < 0.9


def test_no_data_have_no_evaluation():
    with pytest.raises(BadInputError, match="0 data are evaluated"):
        Flow(Config(**SMALL), (2,)).evaluate(torch.zeros(0, 2))


@pytest.mark.parametrize("condition", [False, True])
def test_noise_stands_for_data(condition):
    flow = shaken(Flow(Config(conditional=condition, **SMALL), (2,), classes=("a", "b")))
    x, places = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 2
    noise = flow.describe((x, places) if condition else x)["noise"]
    assert not noise.requires_grad
    torch.testing.assert_close(flow.push(noise, places if condition else None), x, rtol=1e-3, atol=1e-3)
    with pytest.raises(BadInputError, match="fitted to ring, without data"):
        Flow(Config(target="ring", **SMALL), (2,)).describe(x)
