"""Networks that see a noisy datum, how noisy it is, and perhaps its label: dense ones, and U-Nets for signals and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reparam.errors import BadInputError

__all__ = ["NETWORKS", "Condition", "ConditionalNetwork", "DenseNet", "UNet"]

NETWORKS = ("mlp", "unet", "signal")

# Width of what a network is told of noise and label.
_TOLD = 128

# Channels that share the statistics of a normalisation, and channels of a head of attention.
_GROUP = 16
_HEAD = 32
# Log-SNRs run from about -20 to 20: the slowest wave tells their ends apart, the fastest differences of one.
_SLOWEST, _FASTEST, _WAVES = 0.05, 3.0, 16


class ConditionalNetwork(nn.Module):
    """A network of noisy data N + shape, their log-SNRs (N,) and perhaps their labels (N,), to outputs N + shape.

    Args:
        kind: mlp, of the values of a datum as a vector; unet, of a signal (C, L) or an image (C, H, W); or signal, a U-Net along
            the last axis, with the places of all others as its channels: a spectrogram's frequencies, say.
        shape: of a datum.
        widths: of the blocks of an mlp, or the channels of the scales of a U-Net.
        classes: how many labels there are; 0 for a network that is told none. The label `classes` stands for an unknown one.
        dropout: share of the values inside a block that are set to zero in training.

    Raises:
        BadInputError: for a kind that does not fit the shape.

    Example:
        >>> import torch
        >>> network = ConditionalNetwork("signal", (1, 5, 7), (8, 8), classes=2)
        >>> network(torch.zeros(3, 1, 5, 7), torch.zeros(3), torch.tensor([0, 1, 2])).shape
        torch.Size([3, 1, 5, 7])
    """

    def __init__(self, kind: str, shape: Sequence[int], widths: Sequence[int], *, classes: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        *others, last = shape
        seen = {"mlp": (math.prod(shape),), "unet": tuple(shape), "signal": (math.prod(others), last)}
        self.seen = seen[kind]
        self.condition = Condition(_TOLD, classes)
        self.network = (DenseNet if kind == "mlp" else UNet)(self.seen, widths, _TOLD, dropout)

    def forward(self, z: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        told = self.condition(log_snr.to(z.dtype), label)
        return self.network(z.reshape(len(z), *self.seen), told).reshape(z.shape)  # type: ignore[no-any-return]


class Condition(nn.Module):
    """What a network is told beside the noisy datum: its log-SNR, and its class, as one vector of `width` values.

    Args:
        width: of the vector.
        classes: how many there are; 0 for a network that is told none. The label `classes` stands for an unknown one.

    Example:
        >>> import torch
        >>> tell = Condition(32, classes=10)
        >>> tell(torch.zeros(5), torch.tensor([0, 1, 2, 3, 10])).shape
        torch.Size([5, 32])
    """

    frequencies: Tensor

    def __init__(self, width: int, classes: int = 0) -> None:
        super().__init__()
        waves = torch.exp(torch.linspace(math.log(_SLOWEST), math.log(_FASTEST), _WAVES))
        self.register_buffer("frequencies", waves, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """From log-SNRs (N,) and labels (N,) to N x width."""
        angles = log_snr[:, None] * self.frequencies
        told = self.layers(torch.cat([angles.sin(), angles.cos()], -1))
        if self.labels is not None:
            told = told + self.labels(torch.full_like(log_snr, self.labels.num_embeddings - 1).long() if label is None else label)
        return F.silu(told)


class DenseNet(nn.Module):
    """Residual dense blocks for vectors: N x D, and what is told of them, to N x D.

    Args:
        shape: of a datum, (D,).
        widths: of the blocks.
        condition: width of what is told.
        dropout: share of the values inside a block that are set to zero in training.

    Example:
        >>> import torch
        >>> DenseNet((3,), (16, 16), condition=8)(torch.zeros(5, 3), torch.zeros(5, 8)).shape
        torch.Size([5, 3])
    """

    def __init__(self, shape: Sequence[int], widths: Sequence[int], condition: int, dropout: float = 0.0) -> None:
        super().__init__()
        stages = (widths[0], *widths)
        self.first = nn.Linear(shape[0], widths[0])
        self.blocks = nn.ModuleList(_Block(0, i, o, condition, dropout) for i, o in pairwise(stages))
        self.last = _last(0, widths[-1], shape[0])

    def forward(self, z: Tensor, told: Tensor) -> Tensor:
        h = self.first(z)
        for block in self.blocks:
            h = block(h, told)
        return self.last(h)  # type: ignore[no-any-return]


class UNet(nn.Module):
    """A U-Net for signals (C, L) and images (C, H, W) of any size: N x C x ..., and what is told of them, to the same shape.

    Each scale but the first has half the size of the one before it, rounded up; on the way back, each is stretched to the size
    of the one that it joins. What is learned of places (the frequencies of a spectrogram, the middle of a picture) is added to
    the first layer, and at the coarsest scale all places attend to each other.

    Args:
        shape: of a datum.
        channels: of the scales, from fine to coarse.
        condition: width of what is told.
        dropout: share of the values inside a block that are set to zero in training.

    Raises:
        BadInputError: for another shape, or for more scales than halvings lead down to one place.

    Source: Ronneberger et al., arXiv:1505.04597; Ho et al., arXiv:2006.11239.

    Example:
        >>> import torch
        >>> UNet((2, 9, 7), (8, 8), condition=8)(torch.zeros(5, 2, 9, 7), torch.zeros(5, 8)).shape
        torch.Size([5, 2, 9, 7])
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int], condition: int, dropout: float = 0.0) -> None:
        super().__init__()
        dims = len(shape) - 1
        if dims not in _CONVOLUTIONS:
            raise BadInputError(
                f"a U-Net takes signals (C, L) or images (C, H, W), and the data have shape {tuple(shape)}: "
                + ("use mlp or signal" if dims == 0 else "use mlp, or reshape them")
            )
        most = 1 + (max(shape[1:]) - 1).bit_length()
        if not 1 <= len(channels) <= most:
            raise BadInputError(
                f"channels={tuple(channels)} has {len(channels)} scales, and data of shape {tuple(shape)} allow 1 to {most}"
            )
        self.first = _layer(dims, shape[0], channels[0])
        self.places = nn.Parameter(torch.zeros(channels[0], *shape[1:]))
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(_Block(dims, c, c, condition, dropout) for c in channels[:-1])
        self.shrink = nn.ModuleList(_layer(dims, fine, coarse, stride=2) for fine, coarse in pairs)
        self.middle = nn.ModuleList(_Block(dims, channels[-1], channels[-1], condition, dropout) for _ in range(2))
        self.attention = _Attention(channels[-1])
        self.grow = nn.ModuleList(_layer(dims, coarse, fine) for fine, coarse in reversed(pairs))
        self.up = nn.ModuleList(_Block(dims, 2 * c, c, condition, dropout) for c in reversed(channels[:-1]))
        self.last = _last(dims, channels[0], shape[0])

    def forward(self, z: Tensor, told: Tensor) -> Tensor:
        h = self.first(z) + self.places
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            h = block(h, told)
            skips.append(h)
            h = shrink(h)
        before, after = self.middle
        h = after(self.attention(before(h, told)), told)
        for block, grow in zip(self.up, self.grow, strict=True):
            skip = skips.pop()
            h = F.interpolate(grow(h), size=skip.shape[2:])
            h = block(torch.cat([skip, h], 1), told)
        return self.last(h)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """A residual block of two layers; what is told scales and shifts the values between them."""

    def __init__(self, dims: int, inputs: int, outputs: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(inputs), nn.SiLU(), _layer(dims, inputs, outputs))
        self.norm = _norm(outputs, affine=False)
        self.film = _zero(nn.Linear(condition, 2 * outputs))
        second = [nn.SiLU(), *([nn.Dropout(dropout)] if dropout else []), _zero(_layer(dims, outputs, outputs))]
        self.second = nn.Sequential(*second)
        self.skip = nn.Identity() if inputs == outputs else _layer(dims, inputs, outputs, size=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        shift, scale = self.film(told)[..., *[None] * (x.dim() - 2)].chunk(2, 1)
        h = self.second(torch.addcmul(shift, h, 1 + scale))
        return self.skip(x) + h  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """All places attend to each other, in heads of some channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.inputs = nn.Linear(channels, 3 * channels)
        self.outputs = _zero(nn.Linear(channels, channels))
        self.heads = _divisor(channels, max(1, channels // _HEAD))

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        h = self.inputs(self.norm(x).flatten(2).mT)  # N x places x 3 C
        q, k, v = h.reshape(n, -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, c)
        return x + self.outputs(seen).mT.reshape(x.shape)  # type: ignore[no-any-return]


_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


def _layer(dims: int, inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Module:
    if dims == 0:
        return nn.Linear(inputs, outputs)
    return _CONVOLUTIONS[dims](inputs, outputs, size, stride, padding=size // 2)


def _norm(channels: int, *, affine: bool = True) -> nn.GroupNorm:
    return nn.GroupNorm(_divisor(channels, max(1, channels // _GROUP)), channels, affine=affine)


def _divisor(n: int, wanted: int) -> int:
    """The largest divisor of `n` that is at most `wanted`."""
    return next(d for d in range(wanted, 0, -1) if n % d == 0)


def _last(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_norm(inputs), nn.SiLU(), _zero(_layer(dims, inputs, outputs)))


def _zero(layer: nn.Module) -> nn.Module:
    """A layer that starts at zero: a residual block as the identity, a network as its best constant guess."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
