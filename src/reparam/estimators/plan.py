"""What `graph` would do with a model, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from reparam.estimators.estimator import Estimator
from reparam.estimators.graph import Sampler, run
from reparam.noise import Source

__all__ = ["Plan", "Step", "plan"]


@dataclass(frozen=True)
class Step:
    """What becomes of one random node.

    Attributes:
        node: its name.
        law: the class of its distribution.
        estimator: of its gradient.
        rows: how many values of it the cost is evaluated at.
        bias: None when unbiased; otherwise the sentence that says how it is biased.
        why: why this estimator.
    """

    node: str
    law: str
    estimator: Estimator
    rows: int
    bias: str | None
    why: str


@dataclass(frozen=True)
class Plan:
    """The steps in the order in which nodes are drawn; prints as a table."""

    steps: tuple[Step, ...]

    @property
    def rows(self) -> int:
        """How many rows the cost is evaluated at, for each element of the batch."""
        total = 1
        for step in self.steps:
            total *= step.rows
        return total

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __str__(self) -> str:
        table = [("node", "law", "estimator", "rows", "bias", "why")]
        for s in self.steps:
            table.append((s.node, s.law, type(s.estimator).__name__, str(s.rows), s.bias or "none", s.why))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        product = " × ".join(str(s.rows) for s in self.steps)
        each = f"{product} = {self.rows}" if len(self.steps) > 1 else str(self.rows)
        return "\n".join([*lines, f"The cost is evaluated at {each} rows."])


def plan(
    model: Callable[[Sampler], Tensor],
    *,
    estimators: Mapping[str, Estimator] | None = None,
    n: int | Mapping[str, int] = 1,
    batch_shape: int | tuple[int, ...] = (),
    source: Source | Mapping[str, Source] | None = None,
) -> Plan:
    """What `rp.graph` would do with the same arguments: node, law, estimator, rows, bias, and why.

    The model runs once, on all rows, and nothing is differentiated; a source that is given is drawn from.

    Raises:
        ValueError: what `rp.graph` would raise.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Bernoulli, Normal
        >>> def model(sample):
        ...     z = sample("z", Normal(torch.zeros(()), 1.0))
        ...     return (z - sample("c", Bernoulli(logits=z))) ** 2
        >>> print(rp.plan(model, n=4))
        node  law        estimator  rows  bias  why
        z     Normal     Pathwise   4     none  a sample of it is a differentiable function of noise
        c     Bernoulli  Enumerate  2     none  its 2 values can be summed exactly
        The cost is evaluated at 4 × 2 = 8 rows.
    """
    # With gradients enabled, though none is taken: some estimators draw rows for the parameters that need one only.
    nodes, _ = run(model, estimators, n, batch_shape, source)
    return Plan(
        tuple(
            Step(name, node.law, node.estimator, node.draw.value.shape[0], node.estimator.bias, node.why)
            for name, node in nodes.items()
        )
    )
