"""The answer to a query of a graphical model: values, their weights, and what people ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reparam.noise import UNIFORM, Noise, Source

__all__ = ["Posterior"]

# Lines of one node that are printed.
_SHOWN = 12
_LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Posterior:
    """The law of some nodes given others, as weighted values.

        P(z ∈ A | evidence) = Σ_c Σ_r w_cr 1[z_cr ∈ A]

    c runs over the values of discrete nodes that are summed exactly, r over draws of the others. A query with one value for each
    given node has one answer; one with N values, or about N rows of data, has N, in the first dimension of what the methods return.
    Values shared by all rows have one answer about data. Made by `model.posterior`.

    Attributes:
        values: by name, `c dimensions + (draws or 1, rows or 1) + event`.
        weights: `c dimensions + (draws or 1, rows)`; for each row they sum to 1.
        supports: of discrete nodes, the values they can take, `(K,) + event`; other nodes are continuous.
        categories: of nodes that have names for their values, the names.
        alone: whether there is one answer, without a dimension for rows.
        shared: nodes with one answer whatever the rows: what all rows share, in a query about data.
        effective: of each row, the draws of equal weight that would be worth as much, `(rows,)`; infinite where no draw was needed.
        rows: the number of each row, which `table` shows; by default from 0 on.
        known: of nodes that are known in some of the rows, in which, `(rows,)`: `table` leaves them out.
        about: what the query was, in words.

    Example:
        >>> import torch
        >>> from reparam.graphical.posterior import Posterior
        >>> rain = torch.tensor([0.0, 1.0]).reshape(2, 1, 1)
        >>> found = Posterior({"rain": rain}, torch.tensor([0.25, 0.75]).reshape(2, 1, 1), {"rain": torch.tensor([0.0, 1.0])})
        >>> found.mean("rain"), found.probs("rain")
        (tensor(0.7500), tensor([0.2500, 0.7500]))
        >>> found.draws("rain", 1000).shape
        torch.Size([1000])
    """

    values: Mapping[str, Tensor] = field(repr=False)
    weights: Tensor = field(repr=False)
    supports: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    alone: bool = True
    shared: frozenset[str] = frozenset()
    effective: Tensor = field(default_factory=lambda: torch.full((1,), torch.inf))
    rows: Sequence[int] | None = None
    known: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    about: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that were asked for."""
        return tuple(self.values)

    def mean(self, name: str) -> Tensor:
        """The mean of a node, `rows + event`, in its units.

        Raises:
            ValueError: for a node that was not asked for, or whose values are categories.
        """
        value, weight = self._numbers(name)
        return self._answer(name, (weight * value).sum(0))

    def sd(self, name: str) -> Tensor:
        """The standard deviation of a node, `rows + event`, in its units; of draws it is that of the weighted draws.

        Raises:
            ValueError: for a node that was not asked for, or whose values are categories.
        """
        value, weight = self._numbers(name)
        value = value - value[:1]  # so that of one value it is zero, and not the square root of a rounding
        mean = (weight * value).sum(0)
        return self._answer(name, (weight * (value - mean).square()).sum(0).sqrt())

    def quantile(self, name: str, p: float | Sequence[float] = _LEVELS) -> Tensor:
        """The least value below or at which there is a probability of at least p, `rows + event`; for several p they come first.

        Raises:
            ValueError: for a node that was not asked for or whose values are categories, or p outside of [0, 1].
        """
        wanted = torch.as_tensor(p, dtype=torch.float64)
        if not bool(((wanted >= 0) & (wanted <= 1)).all()):
            raise ValueError(f"a quantile of {name!r} was asked at p = {p}: give probabilities from 0 to 1")
        value, weight = self._numbers(name)
        value, order = value.sort(0)
        below = weight.expand(value.shape).gather(0, order).cumsum(0)
        # Rounding leaves the sum of all weights a little off 1.
        share = (below / below[-1]).movedim(0, -1).contiguous()
        place = torch.searchsorted(share, wanted.reshape(-1).expand(*share.shape[:-1], wanted.numel()).contiguous())
        found = value.movedim(0, -1).gather(-1, place.clamp(max=len(value) - 1)).movedim(-1, 0)
        made = torch.stack([self._answer(name, each) for each in found])
        return made if wanted.dim() else made[0]

    def probs(self, name: str) -> Tensor:
        """The probability of each value of a discrete node, `rows + (K,)`, in the order of `support(name)`.

        Raises:
            ValueError: for a node that was not asked for, or that is continuous.
        """
        values = self.support(name)
        value, weight = self._marginal(name)
        same = value.unsqueeze(2) == values
        same = same.flatten(3).all(-1) if same.dim() > 3 else same
        return self._answer(name, (weight.unsqueeze(2) * same).sum(0))

    def support(self, name: str) -> Tensor:
        """The values of a discrete node that `probs` is of, `(K,) + event`; of counts without an end, those drawn.

        Raises:
            ValueError: for a node that was not asked for, or that is continuous.
        """
        self._value(name)
        if name not in self.supports:
            raise ValueError(f"{name!r} is continuous and has no probabilities: ask for mean, sd, quantile or draws of it")
        return self.supports[name]

    def draws(self, name: str, n: int = 1000, *, source: Source | None = None) -> Tensor:
        """Draws of equal weight of a node, `(n,) + rows + event`: `joint(n)[name]`.

        Raises:
            ValueError: for a node that was not asked for, or n below 1.
        """
        self._value(name)
        return self.joint(n, source=source)[name]

    def joint(self, n: int = 1000, *, source: Source | None = None) -> dict[str, Tensor]:
        """Draws of all nodes that were asked for, jointly, by name; each `(n,) + rows + event`.

        Resampling is systematic: of equal weights, as many draws as there were come out once each.

        Raises:
            ValueError: for n below 1.
        """
        if n < 1:
            raise ValueError(f"{n} draws were asked for: give a number of 1 or more")
        weight = self.weights.movedim(-2, 0)  # draws first, so that neighbouring rows take the same draw where they can
        total = weight.flatten(0, -2).double().cumsum(0)
        offset = Noise(UNIFORM, total.shape[1:], torch.float64, total.device).draw(source=source)
        place = (torch.arange(n, device=total.device)[:, None] + offset) / n * total[-1]
        cell = torch.searchsorted(total.T.contiguous(), place.T.contiguous(), right=True).clamp(max=len(total) - 1).T
        at = torch.unravel_index(cell, weight.shape[:-1])
        at = (*at[1:], at[0], torch.arange(cell.shape[1], device=cell.device).expand_as(cell))
        made = {}
        for name, value in self.values.items():
            places = [where if size > 1 else torch.zeros_like(where) for where, size in zip(at, value.shape, strict=False)]
            drawn = value[tuple(places)]
            made[name] = drawn[:, 0] if self._one(name) else drawn
        return made

    def table(self) -> list[dict[str, Any]]:
        """One dict for each number that was asked for: "node", its "row" where there are rows, "place" in a vector, and its law.

        The law is "mean", "sd", "5%", "50%" and "95%", or for discrete nodes the probability of each value by its name. Rows in
        which a node is known are left out, unless it is in all.
        """
        return [line for name in self.names for line in self._lines(name)]

    def __str__(self) -> str:
        """The table, for people: at most a dozen lines of each node."""
        blocks = [self.about] if self.about else []
        previous: list[str] | None = None
        for name in self.names:
            lines = list(self._lines(name, _SHOWN + 1))
            heads = [key for key in lines[0] if key not in ("node", "row", "place")]
            shown = "{:.4f}" if name in self.supports else "{:.4g}"
            body = [[_label(line), *(shown.format(line[head]) for head in heads)] for line in lines[:_SHOWN]]
            wide = max(12, *(len(head) + 2 for head in heads))
            first = max(16, *(len(row[0]) + 1 for row in body))
            rows = ["".join([row[0].ljust(first), *(cell.rjust(wide) for cell in row[1:])]) for row in body]
            if heads != previous:
                rows.insert(0, "".join([" " * first, *(head.rjust(wide) for head in heads)]))
            blocks += [*rows, *(["..."] if len(lines) > _SHOWN else [])]
            previous = heads
        return "\n".join(blocks)

    def _lines(self, name: str, most: int | None = None) -> Iterator[dict[str, Any]]:
        discrete = name in self.supports
        found = self.probs(name) if discrete else torch.stack([self.mean(name), self.sd(name), *self.quantile(name)], -1)
        heads = self._labels(name) if discrete else ["mean", "sd", *(f"{100 * p:g}%" for p in _LEVELS)]
        rows = found if not self._one(name) else found[None]
        # What stands between the row and the law is the place in a vector.
        flat = rows.reshape(len(rows), -1, len(heads))
        known = self.known.get(name)
        open_ = range(len(rows)) if known is None or bool(known.all()) else (~known).nonzero()[:, 0].tolist()
        for row in open_[:most]:
            for place in range(flat.shape[1]):
                start: dict[str, Any] = {"node": name}
                if not self._one(name):
                    start["row"] = row if self.rows is None else self.rows[row]
                if flat.shape[1] > 1:
                    start["place"] = place
                yield start | dict(zip(heads, flat[row, place].tolist(), strict=True))

    def _labels(self, name: str) -> list[str]:
        if name in self.categories:
            return list(self.categories[name])
        return [f"{each:g}" if isinstance(each, float | int) else str(each) for each in self.support(name).tolist()]

    def _value(self, name: str) -> Tensor:
        if name not in self.values:
            raise ValueError(f"{name!r} was not asked for: this is about {', '.join(self.names)}")
        return self.values[name]

    def _one(self, name: str) -> bool:
        """Whether a node has one answer: in a question without rows, and where the value is shared by all rows of data."""
        return self.alone or name in self.shared

    def _marginal(self, name: str) -> tuple[Tensor, Tensor]:
        """The values of a node, `M + rows + event`, and their weights, `M + rows`, with what it does not depend on summed out."""
        value, cells = self._value(name), self.weights.dim() - 1
        weight = (self.weights[..., :1] if name in self.shared else self.weights).double()
        idle = [d for d in range(cells) if value.shape[d] == 1]
        weight = weight.sum(idle, keepdim=True) if idle else weight
        shape = torch.broadcast_shapes(weight.shape, value.shape[: cells + 1])
        value = value.expand(shape + value.shape[cells + 1 :])
        return value.flatten(0, cells - 1), weight.expand(shape).flatten(0, cells - 1)

    def _numbers(self, name: str) -> tuple[Tensor, Tensor]:
        """The same, for sums: in double, with weights that broadcast."""
        if name in self.categories:
            raise ValueError(f"{name!r} is one of {', '.join(self.categories[name][:10])}, not a number: ask for probs({name!r})")
        value, weight = self._marginal(name)
        return value.double(), weight.reshape(weight.shape + (1,) * (value.dim() - weight.dim()))

    def _answer(self, name: str, found: Tensor) -> Tensor:
        found = found.to(torch.get_default_dtype())
        return found[0] if self._one(name) else found


def _label(line: Mapping[str, Any]) -> str:
    inside = [str(line[key]) for key in ("row", "place") if key in line]
    return f"{line['node']}[{', '.join(inside)}]" if inside else str(line["node"])
