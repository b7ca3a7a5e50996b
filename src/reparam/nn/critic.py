"""Several critics at once: networks of the same widths, a layer of all of them one multiplication of batched matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        # A rectifier needs only its output to differentiate, so it may overwrite what the layer before it returned.
        self.activation = nn.ReLU(inplace=True) if activation == "relu" else ACTIVATIONS[activation]()
        widths = (inputs, *hidden, 1)
        for i, (a, b) in enumerate(pairwise(widths)):
            gain = _LAST_GAIN if i == len(hidden) else 1.0 if activation in _SMOOTH else math.sqrt(2.0)
            self.register_parameter(f"weight_{i}", nn.Parameter(torch.empty(count, a, b)))
            self.register_parameter(f"bias_{i}", nn.Parameter(torch.zeros(count, 1, b)))
            for each in self.layers(constant=True)[-1][0]:
                nn.init.xavier_uniform_(each, gain)

    def layers(self, *, constant: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Weights, count x from x to, and biases, count x 1 x to; constant for a loss that must not move them."""
        own = iter([p.detach() if constant else p for p in _held(self._parameters)])
        return list(zip(own, own, strict=True))

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
        return h.reshape(self.count, *rows).to(layers[0][0].dtype)

    def extra_repr(self) -> str:
        return f"count={self.count}, widths={(self.inputs, *(weight.shape[-1] for weight, _ in self.layers()))}"


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
        >>> _ = torch.nn.init.ones_(twins.bias_1)
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
        own = iter(_held(self._buffers))
        return list(zip(own, own, strict=True))

    @torch.no_grad()
    def follow(self, critics: Critics) -> None:
        """One step towards the critics."""
        torch._foreach_lerp_(_held(self._buffers), _held(critics._parameters), self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def _held(tensors: Mapping[str, Tensor | None]) -> list[Tensor]:
    """Those of a module itself, in order: torch's iterators look through all modules for more, at each call."""
    return [tensor for tensor in tensors.values() if tensor is not None]
