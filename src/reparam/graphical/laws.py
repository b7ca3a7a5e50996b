"""Laws of nodes with parameters that are learned: tables and linear functions of discrete and real parents."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn.functional import softplus

from reparam.errors import BadInputError

__all__ = ["CategoricalTable", "LinearCategorical", "LinearNormal"]


class CategoricalTable(nn.Module):
    """A category given discrete parents: a row of probabilities for each combination of their values.

        P(c | a, b) = softmax(logits[a, b])[c]

    Args:
        categories: K, how many values it has.
        given: how many values each parent has.

    Raises:
        BadInputError: for fewer than two categories, or a parent without values.

    Source: Koller and Friedman, "Probabilistic Graphical Models" (2009), section 5.1.

    Example:
        >>> import torch
        >>> rain = CategoricalTable(2)
        >>> wet = CategoricalTable(2, given=(2, 2))
        >>> rain().probs, wet(torch.tensor([0, 1, 1]), torch.tensor([1, 1, 0])).batch_shape
        (tensor([0.5000, 0.5000], grad_fn=<SoftmaxBackward0>), torch.Size([3]))
    """

    def __init__(self, categories: int, given: Sequence[int] = ()) -> None:
        super().__init__()
        self.categories, self.given = _categories(categories), _given(given)
        self.logits = nn.Parameter(torch.zeros(*self.given, categories))

    def forward(self, *parents: Tensor) -> Categorical:
        """The law given values of the parents, rows + (B,) each."""
        _check(self, parents, len(self.given), "discrete")
        return Categorical(logits=_entry(self.logits, parents))

    def extra_repr(self) -> str:
        return f"{self.categories}, given={self.given}"


class LinearNormal(nn.Module):
    """A real number given discrete and real parents: a linear regression for each combination of the discrete values.

        (y | c, x) / unit ~ N(bias[c] + sum_i weight[c, i] (x_i - centre_i) / spread_i, sigma[c]^2)

    Without real parents it is a normal for each combination; without discrete ones, one regression.

    Args:
        inputs: how many real parents there are.
        given: how many values each discrete parent has; these come first.
        loc, scale: where all begin, in the units of y; `scale` is the unit of bias, weights and sigma. Biases are apart from each
            other by up to as much, so that classes that no label tells apart can part.
        least: the smallest scale as a share of `scale`; a class with one member would have none.
        units: the mean and the standard deviation of each real parent, (centre, spread), so that bias and weights are of the order
            of one and learned apart; (0, 1) by default.

    Raises:
        BadInputError: for a parent without values, or scales that are not positive.

    Source: Lauritzen and Wermuth, "Graphical models for associations between variables" (1989), conditional Gaussian laws.

    Example:
        >>> import torch
        >>> height = LinearNormal(1, given=(2,), loc=170.0, scale=10.0)
        >>> height(torch.tensor([0, 1, 1]), torch.tensor([0.0, 0.0, 0.5])).loc
        tensor([160., 180., 180.], grad_fn=<AddBackward0>)
    """

    unit: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        inputs: int = 0,
        given: Sequence[int] = (),
        *,
        loc: float = 0.0,
        scale: float = 1.0,
        least: float = 1e-3,
        units: Sequence[tuple[float, float]] = (),
    ) -> None:
        super().__init__()
        if not (scale > 0 and least > 0) or inputs < 0:
            raise BadInputError(
                f"inputs={inputs}, scale={scale}, least={least}: give scales above zero, and a number of real parents"
            )
        self.inputs, self.given, self.least = inputs, _given(given), float(least)
        self.register_buffer("unit", torch.tensor(float(scale)))
        _register(self, inputs, units)
        combinations = prod(self.given)
        apart = torch.linspace(-1.0, 1.0, combinations) if combinations > 1 else torch.zeros(1)
        # In units of the scale, so that steps of one size suit every column.
        self.bias = nn.Parameter((loc / scale + apart).reshape(self.given))
        self.weight = nn.Parameter(torch.zeros(*self.given, inputs))
        self.free_scale = nn.Parameter(torch.full(self.given, 0.5413))  # softplus of it is 1

    def forward(self, *parents: Tensor) -> Normal:
        """The law given values of the parents, rows + (B,) each: the discrete ones, then the real ones."""
        _check(self, parents, len(self.given) + self.inputs, "discrete and then real")
        places, reals = parents[: len(self.given)], parents[len(self.given) :]
        loc = self.unit * _entry(self.bias, places)
        if reals:
            weight = _entry(self.weight, places)
            loc = loc + self.unit * sum(weight[..., i] * x for i, x in enumerate(_standard(self, reals)))
        return Normal(loc, self.unit * (softplus(_entry(self.free_scale, places)) + self.least))

    def extra_repr(self) -> str:
        return f"{self.inputs}, given={self.given}"


class LinearCategorical(nn.Module):
    """A category given discrete and real parents: a logistic regression for each combination of the discrete values.

        P(c | d, x) = softmax(bias[d] + sum_i weight[d, i] (x_i - centre_i) / spread_i)[c]

    Args:
        categories: K, how many values it has.
        inputs: how many real parents there are.
        given: how many values each discrete parent has; these come first.
        units: the mean and the standard deviation of each real parent, (centre, spread), so that weights are of the order of one;
            (0, 1) by default.

    Raises:
        BadInputError: for fewer than two categories, no real parent, or a discrete one without values.

    Example:
        >>> import torch
        >>> passed = LinearCategorical(2, inputs=1)
        >>> passed(torch.tensor([0.5, 2.0])).probs.shape
        torch.Size([2, 2])
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self, categories: int, inputs: int, given: Sequence[int] = (), *, units: Sequence[tuple[float, float]] = ()
    ) -> None:
        super().__init__()
        if inputs < 1:
            raise BadInputError(f"inputs={inputs}: give a number of real parents, or take CategoricalTable")
        self.categories, self.inputs, self.given = _categories(categories), inputs, _given(given)
        _register(self, inputs, units)
        self.bias = nn.Parameter(torch.zeros(*self.given, categories))
        self.weight = nn.Parameter(torch.zeros(*self.given, inputs, categories))

    def forward(self, *parents: Tensor) -> Categorical:
        """The law given values of the parents, rows + (B,) each: the discrete ones, then the real ones."""
        _check(self, parents, len(self.given) + self.inputs, "discrete and then real")
        places, reals = parents[: len(self.given)], parents[len(self.given) :]
        weight = _entry(self.weight, places)
        moved = sum(weight[..., i, :] * x[..., None] for i, x in enumerate(_standard(self, reals)))
        return Categorical(logits=_entry(self.bias, places) + moved)

    def extra_repr(self) -> str:
        return f"{self.categories}, {self.inputs}, given={self.given}"


def _entry(table: Tensor, places: Sequence[Tensor]) -> Tensor:
    """The part of a table at values of the discrete parents, whose shapes broadcast."""
    return table[tuple(place.long() for place in places)] if places else table


def _register(law: LinearNormal | LinearCategorical, inputs: int, units: Sequence[tuple[float, float]]) -> None:
    """Keep the units of real parents with the weights: who loads them need not know the data."""
    units = tuple(units) or ((0.0, 1.0),) * inputs
    if len(units) != inputs or any(len(unit) != 2 or not unit[1] > 0 for unit in units):
        raise BadInputError(f"units={units} for inputs={inputs}: give (mean, standard deviation) of each real parent")
    law.register_buffer("centre", torch.tensor([float(centre) for centre, _ in units]))
    law.register_buffer("spread", torch.tensor([float(spread) for _, spread in units]))


def _standard(law: LinearNormal | LinearCategorical, reals: Sequence[Tensor]) -> list[Tensor]:
    return [(x - law.centre[i]) / law.spread[i] for i, x in enumerate(reals)]


def _check(law: nn.Module, parents: Sequence[Tensor], wanted: int, kinds: str) -> None:
    if len(parents) != wanted:
        raise ValueError(f"{law} takes {wanted} parents, {kinds} ones; {len(parents)} came: name them in the node's parents=(...)")


def _categories(categories: int) -> int:
    if categories < 2:
        raise BadInputError(f"categories={categories}: give at least 2")
    return categories


def _given(given: Sequence[int]) -> tuple[int, ...]:
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in given):
        raise BadInputError(f"given={tuple(given)}: give how many values each discrete parent has")
    return tuple(given)
