"""The networks between data, latents and distributions: dense, and convolutional for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from reparam.errors import BadInputError

__all__ = ["ACTIVATIONS", "conv_decoder", "conv_encoder", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}

# The last layer starts small: a posterior near the prior, a likelihood near the mean of the data, whatever the input.
_LAST_GAIN = 0.1


def mlp(widths: Sequence[int], activation: str) -> nn.Sequential:
    """Dense layers of the given widths, input and output included, with the activation between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), _activation(activation)]
    return _initialised(nn.Sequential(*layers[:-1]))


def conv_encoder(
    shape: tuple[int, ...], channels: Sequence[int], hidden: Sequence[int], features: int, activation: str
) -> nn.Sequential:
    """Images of a shape (C, H, W) to `features` values: a stride-2 convolution for each of `channels`, then dense layers.

    Raises:
        BadInputError: when the shape is not that of an image, or is too small for so many halvings.
    """
    sizes = _sizes(shape, channels)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((shape[0], *channels)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), _activation(activation)]
    dense = mlp((channels[-1] * math.prod(sizes[-1]), *hidden, features), activation)
    return nn.Sequential(*_initialised(nn.Sequential(*layers), last=1.0), nn.Flatten(), *dense)


def conv_decoder(
    features: int, hidden: Sequence[int], channels: Sequence[int], shape: tuple[int, ...], outputs: int, activation: str
) -> nn.Sequential:
    """The mirror of [`conv_encoder`][reparam.nn.network.conv_encoder]: `features` values to `outputs` images of a shape (C, H, W).

    The result has shape (batch, outputs * C, H, W).
    """
    sizes = _sizes(shape, channels)
    dense = mlp((features, *hidden, channels[-1] * math.prod(sizes[-1])), activation)
    layers: list[nn.Module] = []
    stages = (*reversed(channels), outputs * shape[0])
    for i, (small, large) in enumerate(pairwise(reversed(sizes))):
        # Halving rounds an odd size down; the row and the column it dropped are padded back.
        padding = (large[0] - 2 * small[0], large[1] - 2 * small[1])
        layers += [nn.ConvTranspose2d(stages[i], stages[i + 1], 4, 2, 1, output_padding=padding), _activation(activation)]
    unflatten = nn.Unflatten(1, (channels[-1], *sizes[-1]))
    return nn.Sequential(*dense, _activation(activation), unflatten, *_initialised(nn.Sequential(*layers[:-1])))


def _sizes(shape: tuple[int, ...], channels: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width before each stage and after the last."""
    shape = tuple(shape)
    if len(shape) != 3 or min(shape[1:]) < 8:
        raise BadInputError(f"a convolutional network takes images (C, H, W) with H, W >= 8, the data have shape {shape}: use mlp")
    most = min(shape[1:]).bit_length() - 1
    if not 1 <= len(channels) <= most:
        raise BadInputError(f"channels={tuple(channels)} has {len(channels)} stages, data of shape {shape} allow 1 to {most}")
    return [(shape[1] >> i, shape[2] >> i) for i in range(len(channels) + 1)]


def _activation(name: str) -> nn.Module:
    # A rectifier needs only its output to differentiate, so it may overwrite what the layer before it returned.
    return nn.ReLU(inplace=True) if name == "relu" else ACTIVATIONS[name]()


def _initialised(layers: nn.Sequential, last: float = _LAST_GAIN) -> nn.Sequential:
    """Glorot's uniform weights, He's gain for rectifiers, zero biases, and the last layer times `last`."""
    rectified = any(isinstance(layer, nn.ReLU | nn.SiLU | nn.GELU | nn.ELU) for layer in layers)
    weighted = [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    for layer in weighted:
        gain = last if layer is weighted[-1] else math.sqrt(2.0) if rectified else 1.0
        nn.init.xavier_uniform_(layer.weight, gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layers
