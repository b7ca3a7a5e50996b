"""Several critics at once: networks of the same widths, a layer of all of them one multiplication of batched matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from reparam.errors import BadInputError
from reparam.nn.network import ACTIVATIONS

__all__ = ["Critics", "SlowCopy"]

_SMOOTH = ("tanh", "softplus")
# The last layer starts small: a critic that knows nothing says nearly zero.
_LAST_GAIN = 0.1


class Critics(nn.Module):
    """An ensemble of dense networks from `inputs` numbers to one, which start apart and never meet.

    Args:
        count: networks.
        inputs: numbers that each sees, all the same ones.
        hidden: widths of their hidden layers.
        activation: between layers, a name of `reparam.nn.network.ACTIVATIONS`.

    Raises:
        BadInputError: for no network.

    Example:
        >>> import torch
        >>> twins = Critics(2, inputs=4, hidden=(32, 32), activation="relu")
        >>> twins(torch.zeros(5, 4)).shape
        torch.Size([2, 5])
    """

    def __init__(self, count: int, inputs: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        if count < 1:
            raise BadInputError(f"{count} critics: give at least 1")
        self.count, self.inputs = count, inputs
        self.activation = ACTIVATIONS[activation]()
        widths = (inputs, *hidden, 1)
        self.weights = nn.ParameterList(torch.empty(count, a, b) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(count, 1, b) for b in widths[1:])
        for weight in self.weights:
            gain = _LAST_GAIN if weight is self.weights[-1] else 1.0 if activation in _SMOOTH else math.sqrt(2.0)
            for each in weight.detach():
                nn.init.xavier_uniform_(each, gain)

    def layers(self, *, constant: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Weights, count x from x to, and biases, count x 1 x to; constant for a loss that must not move them."""
        pairs = zip(self.weights, self.biases, strict=True)
        return [(w.detach(), b.detach()) if constant else (w, b) for w, b in pairs]

    def forward(self, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """What each says of x, rows + (inputs,): count + rows, in the format of the weights.

        Args:
            x: the inputs.
            layers: to be used instead of its own: constant ones, or those of a slow copy.
        """
        layers = self.layers() if layers is None else layers
        rows = x.shape[:-1]
        h = x.reshape(1, -1, x.shape[-1]).expand(self.count, -1, -1)
        for i, (weight, bias) in enumerate(layers):
            h = torch.baddbmm(bias, h if i == 0 else self.activation(h), weight)
        return h.reshape(self.count, *rows).to(self.weights[0].dtype)

    def extra_repr(self) -> str:
        return f"count={self.count}, widths={(self.inputs, *(w.shape[-1] for w in self.weights))}"


class SlowCopy(nn.Module):
    """A copy of critics that follows them slowly, `copy += rate * (critics - copy)`: constant, and part of the checkpoint.

    Args:
        critics: what it is a copy of; not part of it.
        rate: from above 0 to 1.

    Raises:
        BadInputError: for a rate out of range.

    Example:
        >>> import torch
        >>> twins = Critics(2, inputs=4, hidden=(8,), activation="relu")
        >>> slow = SlowCopy(twins, rate=0.5)
        >>> _ = torch.nn.init.ones_(twins.biases[-1])
        >>> slow.follow(twins)
        >>> [float(b) for b in slow.layers()[-1][1].flatten()]
        [0.5, 0.5]
    """

    def __init__(self, critics: Critics, rate: float) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise BadInputError(f"a rate of {rate}, with which slow critics follow: give a number from above 0 to 1")
        self.rate = rate
        for i, (weight, bias) in enumerate(critics.layers(constant=True)):
            self.register_buffer(f"weight_{i}", weight.clone())
            self.register_buffer(f"bias_{i}", bias.clone())

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """As `Critics.forward` takes them."""
        copies: Iterator[Tensor] = self.buffers()
        return list(zip(copies, copies, strict=True))

    @torch.no_grad()
    def follow(self, critics: Critics) -> None:
        """One step towards the critics."""
        own = [tensor for pair in self.layers() for tensor in pair]
        torch._foreach_lerp_(own, [tensor.detach() for pair in critics.layers() for tensor in pair], self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
