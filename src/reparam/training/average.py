"""A moving average of the weights, which may be a better model than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["QUANTITY", "Average"]

#: What a checkpoint calls it, among the quantities that it holds of each parameter.
QUANTITY = "average"


class Average:
    """An exponential moving average of parameters, `a_t = d_t a_(t-1) + (1 - d_t) w_t`, with `d_t = min(d, (1 + t) / (10 + t))`.

    Args:
        parameters: the live ones, by name; a decay of 0 keeps no average.
        decay: `d`, from 0 to below 1.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.live = dict(parameters) if decay else {}
        self.held = {name: parameter.detach().clone() for name, parameter in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, the first of which is 1."""
        if self.held:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_([*self.held.values()], [*self.live.values()], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters hold their averages in the block, and what they held before after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.live.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.held[name])
            self.held[name] = kept

    def quantities(self) -> dict[str, Tensor]:
        """The averages, as a checkpoint has them."""
        return {f"{QUANTITY}/{name}": tensor for name, tensor in self.held.items()}

    @torch.no_grad()
    def restore(self, quantities: Mapping[str, Tensor]) -> None:
        """Take up the averages of a checkpoint; of parameters without one, the weights."""
        for name, parameter in self.live.items():
            self.held[name].copy_(quantities.get(f"{QUANTITY}/{name}", parameter))
