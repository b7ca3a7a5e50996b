"""Noise on the outputs of layers that are linear in their weights: it has the law of drawing the weights, and less variance."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reparam.noise import NORMAL, Noise, Source
from reparam.paths import noise_like
from reparam.paths.by_row import normal_by_row

__all__ = ["DIMENSIONS", "Forward", "NoisyLayer", "Route", "by_datum", "positional"]

Route = Literal["local", "flipout", "weights"]

# How many dimensions of an input are places. Not for subclasses: the last layer of torch's attention, one of them, is not called.
DIMENSIONS: dict[type[nn.Module], int] = {
    nn.Linear: 0,
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}


@dataclass
class Forward:
    """One forward of the network.

    Attributes:
        scale: the standard deviations of the weights, by name.
        routes: how the layers are drawn.
        data: how many data the network was called with.
        source: of noise.
        flips: what each layer has drawn for flipout: the signs s and r of each datum, and dW, db.
        called: the layers that have been called.
    """

    scale: Mapping[str, Tensor]
    routes: Mapping[str, Route]
    data: int | None
    source: Source | None
    flips: dict[str, tuple[Tensor, Tensor, dict[str, Tensor]]] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)


class NoisyLayer:
    """A forward hook that adds noise to the output of a layer, whose own weights are the means.

    Local reparameterization draws the outputs, which are normal and independent for one vector x a datum:

        y = W x + b + sqrt(sigma_W^2 x^2 + sigma_b^2) eps.

    Flipout draws one perturbation dW, db of the weights for all data, and gives each datum signs s of its inputs and r of its
    outputs, the same ones at all places and calls. A datum then sees the weights `W + r s^T dW`, of the same law as W + dW:

        y = W x + b + r (dW (s x) + db).

    Outside of a forward of the network it does nothing.

    Args:
        name: of the layer in the network.
        layer: of a class in `DIMENSIONS`, with weights that nothing else uses.

    Attributes:
        parameters: the names in the network of the weight and the bias, by their names in the layer.
        now: the forward that goes on, if any that adds noise here.

    Source: Kingma et al., arXiv:1506.02557; Wen et al., arXiv:1803.04386.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(3, 2)
        >>> noisy = NoisyLayer("", layer)
        >>> x, scale = torch.ones(5, 3), {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
        >>> noisy.now = Forward(scale, routes={"": "local"}, data=5, source=None)
        >>> off = layer(x) - x @ layer.weight.T - layer.bias          # normal, of standard deviation two
        >>> noisy.now = None
        >>> off.shape, torch.allclose(layer(x), x @ layer.weight.T + layer.bias)
        (torch.Size([5, 2]), True)
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.name = name
        self.now: Forward | None = None
        # The layer without its weights and hooks, to be called with others.
        self._bare = copy.deepcopy(layer).to("meta")
        for hooks in (self._bare._forward_hooks, self._bare._forward_pre_hooks):
            hooks.clear()
        self.parameters = {short: f"{name}.{short}" if name else short for short, _ in layer.named_parameters()}
        layer.register_forward_hook(self, prepend=True, with_kwargs=True)

    def apply(self, weights: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """What the layer gives with these weights; a bias that is missing is zero."""
        if type(self._bare) is nn.Linear:
            return nn.functional.linear(args[0], weights["weight"], weights.get("bias"))
        if "bias" in self.parameters and "bias" not in weights:
            weights = {**weights, "bias": weights["weight"].new_zeros(self._bare.get_parameter("bias").shape)}
        made: Tensor = functional_call(self._bare, dict(weights), args, dict(kwargs), tie_weights=False)
        return made

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        now = self.now
        if now is None:
            return None
        local = now.routes[self.name] == "local"
        args, kwargs = positional(args, kwargs)
        x, again = args[0], self.name in now.called
        if not by_datum(layer, x.shape, now.data) or (local and (x.dim() != 2 or again)):
            raise ValueError(
                f"the layer {self.name!r} was called{' again' if again else ''} with an input of shape {tuple(x.shape)} in a "
                f"forward of {now.data} data; in the first forward of this network it was called otherwise, and its noise was "
                "planned for that: use method='weights'"
            )
        now.called.add(self.name)
        scale = {short: now.scale[name] for short, name in self.parameters.items() if name in now.scale}
        if local:
            return self._local(now, scale, x, output)
        return self._flipout(now, scale, args, kwargs, output)

    def _local(self, now: Forward, scale: Mapping[str, Tensor], x: Tensor, output: Tensor) -> Tensor:
        # Squares of small scales are below what half precision holds.
        dtype = torch.promote_types(scale["weight"].dtype, torch.float32)
        with nullcontext() if output.dtype == dtype else torch.autocast(x.device.type, enabled=False):
            squares = {name: s.to(dtype).square() for name, s in scale.items()}
            variance = self.apply(squares, (x.to(dtype).square(),), {})
        # The root has an infinite slope at zero, where an input is zero throughout.
        return normal_by_row(output, variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt(), now.source)

    def _flipout(
        self, now: Forward, scale: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> Tensor:
        x, channel = args[0], -1 if type(self._bare) is nn.Linear else 1
        if self.name not in now.flips:
            change = {name: s * noise_like(s, NORMAL).draw(source=now.source) for name, s in scale.items()}
            now.flips[self.name] = (
                _signs(x, x.shape[channel], now.source),
                _signs(output, output.shape[channel], now.source),
                change,
            )
        s, r, change = now.flips[self.name]
        off = self.apply(change, (x * _beside(s, x, channel), *args[1:]), kwargs)
        return torch.addcmul(output, off, _beside(r, output, channel))


def by_datum(layer: nn.Module, shape: torch.Size, data: int | None) -> bool:
    """Whether an input of a layer has a row for each of the data that its network was called with.

    Example:
        >>> by_datum(torch.nn.Linear(3, 1), torch.Size([5, 4, 3]), 5), by_datum(torch.nn.Linear(3, 1), torch.Size([20, 3]), 5)
        (True, False)
    """
    places = DIMENSIONS[type(layer)]
    batched = len(shape) == places + 2 if places else len(shape) >= 2
    return data is not None and batched and shape[0] == data


def positional(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a layer, its input first."""
    rest = dict(kwargs)
    return args or (rest.pop("input"),), rest


def _signs(like: Tensor, channels: int, source: Source | None) -> Tensor:
    """A row of random signs for each datum."""
    eps = Noise(NORMAL, torch.Size([channels]), like.dtype, like.device).draw(like.shape[0], source=source)
    return torch.where(eps < 0, -1.0, 1.0).to(like.dtype)


def _beside(signs: Tensor, x: Tensor, channel: int) -> Tensor:
    shape = [1] * x.dim()
    shape[0], shape[channel] = signs.shape
    return signs.reshape(shape)
