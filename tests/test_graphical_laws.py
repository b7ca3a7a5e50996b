"""Laws of nodes that are learned: they are what their formulas say, and maximum likelihood finds what made the data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from reparam.errors import BadInputError
from reparam.graphical.laws import CategoricalTable, LinearCategorical, LinearNormal


def moved(law: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in law.parameters():
            parameter.add_(torch.randn(parameter.shape))
    return law


def learned(law: nn.Module, value: Tensor, *parents: Tensor, steps: int = 200) -> float:
    """Maximum likelihood by Adam; the log-likelihood of a datum that it ends with."""
    optimizer = torch.optim.Adam(law.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -law(*parents).log_prob(value).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    return -loss.item()


def test_a_table_has_a_row_for_each_combination() -> None:
    law = moved(CategoricalTable(3, given=(2, 4)))
    a, b = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2])
    expected = law.logits[a, b].softmax(-1)
    assert torch.allclose(law(a, b).probs, expected)
    # Parents that are summed lie in dimensions of their own, and may come as floats.
    everything = law(torch.arange(2.0)[:, None, None], torch.arange(4)[:, None])
    assert everything.batch_shape == (2, 4, 1)
    assert torch.allclose(everything.probs[1, 2, 0], expected[2])
    assert CategoricalTable(3)().batch_shape == ()


def test_a_linear_normal_is_a_regression_for_each_class() -> None:
    law = moved(LinearNormal(2, given=(3,), loc=100.0, scale=10.0, units=[(3.0, 2.0), (0.0, 1.0)]))
    c, x, y = torch.tensor([2, 0]), torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.5])
    made = law(c, x, y)
    expected = 10 * (law.bias[c] + law.weight[c, 0] * (x - 3) / 2 + law.weight[c, 1] * y)
    assert torch.allclose(made.loc, expected)
    assert torch.allclose(made.scale, 10 * (nn.functional.softplus(law.free_scale[c]) + 1e-3))
    assert law(torch.arange(3)[:, None], x, y).batch_shape == (3, 2)
    assert LinearNormal(loc=3.0, scale=2.0)().loc == 3


def test_a_linear_category_is_a_logistic_regression() -> None:
    law = moved(LinearCategorical(3, inputs=2, given=(2,), units=[(3.0, 2.0), (0.0, 1.0)]))
    d, x, y = torch.tensor([1, 0]), torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.5])
    expected = law.bias[d] + law.weight[d, 0] * (x[:, None] - 3) / 2 + law.weight[d, 1] * y[:, None]
    assert torch.allclose(law(d, x, y).probs, expected.softmax(-1))
    assert law(torch.arange(2)[:, None], x, y).batch_shape == (2, 2)


def test_maximum_likelihood_has_its_closed_form() -> None:
    """Frequencies of a table, least squares of a linear normal: within what 200 steps of Adam leave."""
    generator = torch.Generator().manual_seed(0)
    c = torch.randint(3, (500,), generator=generator)
    x = torch.randn(500, generator=generator)
    y = torch.tensor([160.0, 170.0, 180.0])[c] + torch.tensor([5.0, -5.0, 0.0])[c] * x + 4 * torch.randn(500, generator=generator)

    table = CategoricalTable(3)
    learned(table, c)
    assert torch.allclose(table().probs, torch.bincount(c) / 500, atol=1e-3)

    law = LinearNormal(1, given=(3,), loc=170.0, scale=10.0)
    found = learned(law, y, c, x, steps=400)
    best = torch.empty(500)
    for k in range(3):
        inputs = torch.stack([torch.ones_like(x), x], 1)[c == k]
        fitted = inputs @ torch.linalg.lstsq(inputs, y[c == k]).solution
        best[c == k] = Normal(fitted, (y[c == k] - fitted).square().mean().sqrt()).log_prob(y[c == k])
    assert abs(found - best.mean().item()) < 0.01


def test_a_category_is_learned_from_reals() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, generator=generator)
    truth = Categorical(logits=torch.stack([torch.zeros(500), 2 * x - 1], -1))
    c = (torch.rand(500, generator=generator) < truth.probs[:, 1]).long()
    law = LinearCategorical(2, inputs=1)
    # Two parameters gain about one nat in all over the truth, 0.002 a datum.
    gain = learned(law, c, x) - truth.log_prob(c).mean().item()
    assert 0 <= gain < 0.02


def test_classes_part_and_the_smallest_scale_holds() -> None:
    law = LinearNormal(given=(4,), loc=5.0, scale=2.0)
    assert torch.allclose(law(torch.arange(4)).loc, torch.tensor([3.0, 13 / 3, 17 / 3, 7.0]))
    with torch.no_grad():
        law.free_scale.fill_(-100.0)
    assert torch.allclose(law(torch.arange(4)).scale, torch.tensor(2e-3))


def test_units_come_with_the_weights() -> None:
    one, other = moved(LinearNormal(1, given=(2,), loc=170.0, scale=10.0, units=[(4.0, 2.0)])), LinearNormal(1, given=(2,))
    other.load_state_dict(one.state_dict())
    parents = torch.tensor([0, 1]), torch.tensor([0.3, -2.0])
    assert torch.equal(one(*parents).scale, other(*parents).scale)
    assert torch.equal(one(*parents).loc, other(*parents).loc)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(BadInputError, match="categories=1: give at least 2"):
        CategoricalTable(1)
    with pytest.raises(BadInputError, match="how many values each discrete parent has"):
        CategoricalTable(2, given=(0,))
    with pytest.raises(BadInputError, match="give scales above zero"):
        LinearNormal(scale=0.0)
    with pytest.raises(BadInputError, match=r"for inputs=2: give \(mean, standard deviation\) of each real parent"):
        LinearNormal(2, units=[(0.0, 1.0)])
    with pytest.raises(BadInputError, match="of each real parent"):
        LinearCategorical(2, 1, units=[(0.0, 0.0)])
    with pytest.raises(BadInputError, match="take CategoricalTable"):
        LinearCategorical(2, inputs=0)
    with pytest.raises(ValueError, match=r"LinearNormal\(1, given=\(2,\)\) takes 2 parents, discrete and then real ones; 1 came"):
        LinearNormal(1, given=(2,))(torch.tensor([0]))
