"""What the guide of a graphical model knows: draws of latents, and their densities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.graphical.node import Node
from reparam.noise import Source
from reparam.paths import sample

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = ["Drawn", "Given", "drawn_of", "needed", "wide"]


@dataclass(frozen=True)
class Given:
    """What is known of a node in B rows.

    Attributes:
        value: (B,) + event; anything where it is not known.
        known: (B,), whether it is.
    """

    value: Tensor = field(repr=False)
    known: Tensor = field(repr=False)


@dataclass(frozen=True)
class Drawn:
    """What a guide drew, n times.

    Attributes:
        values: of shared nodes (n, 1) + event, of others (n, B) + event.
        used: of the others, (B,), in which rows they are latents.
        log_q: log-density of the others at these draws, (n, B) or (1, 1), in nats.
        log_q_shared: that of shared ones, and of laws of all rows together, (n, 1) or (1, 1).
    """

    values: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    used: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    log_q: Tensor = field(default_factory=lambda: torch.zeros(1, 1), repr=False)
    log_q_shared: Tensor = field(default_factory=lambda: torch.zeros(1, 1), repr=False)

    def rows(self, start: int, end: int) -> Drawn:
        """The same for some of the rows."""
        part = {name: self.values[name][:, start:end] for name in self.used}
        used = {name: each[start:end] for name, each in self.used.items()}
        log_q = self.log_q[:, start:end] if self.log_q.shape[1] > 1 else self.log_q
        return Drawn({**self.values, **part}, used, log_q, self.log_q_shared)


def drawn_of(
    model: Graphical,
    nodes: Mapping[str, Node],
    given: Mapping[str, Given],
    batch: int,
    n: int,
    x: Tensor | None,
    index: Tensor | None,
    source: Source | None,
) -> Drawn:
    """Draws of the guide; of new rows, without `x`, those of shared latents and of a network of the row."""
    guide, done = model.guide, model.done
    if guide is None or not any(latent.name in nodes and latent.name not in done for latent in guide.latents):
        return Drawn()
    columns = model.columns
    if x is None:
        x = torch.full((batch, len(columns.names)), torch.nan)
        for name, each in given.items():
            if places := list(columns.places.get(name, ())):
                known = each.known[:, None]
                x[:, places] = torch.where(known, each.value.to(x.dtype).reshape(batch, -1), torch.nan)
    use = needed(nodes, given, batch)
    rows = [latent.name for latent in guide.latents if not latent.shared]
    nobody = torch.zeros(batch, dtype=torch.bool)
    wanted = {
        name: use[name] & ~(given[name].known if name in given else nobody) if name in nodes and name not in done else nobody
        for name in rows
    }
    with torch.no_grad():
        found = guide.sample(
            lambda _, law: sample(wide(law, n, law.batch_shape[-1]), source=source), columns.seen(x), index, wanted
        )
    values = {name: value for name, value in found.values.items() if name in nodes and name not in done}
    whole = getattr(guide, "whole", ())
    used = {name: torch.ones_like(nobody) if name in whole else wanted[name] for name in values if name in wanted}
    log_q, log_q_shared = (torch.atleast_2d(each) for each in (found.log_q_rows, found.log_q_shared))
    return Drawn(values, used, log_q, log_q_shared)


def needed(nodes: Mapping[str, Node], given: Mapping[str, Given], batch: int) -> dict[str, Tensor]:
    """In which rows something that is known is, or depends on, each node: (batch,) bools."""
    found = {name: torch.zeros(batch, dtype=torch.bool) for name in nodes}
    for name in reversed(list(nodes)):
        if name in given:
            found[name] = found[name] | given[name].known
        for parent in nodes[name].parents or ():
            if parent in found:
                found[parent] = found[parent] | found[name]
    return found


def wide(law: Distribution, n: int, last: int) -> Distribution:
    """The law for n draws of so many rows each, which an unexpanded one would share."""
    shape = torch.broadcast_shapes(law.batch_shape, (n, last))
    made: Distribution = law if shape == law.batch_shape else law.expand(shape)
    return made
