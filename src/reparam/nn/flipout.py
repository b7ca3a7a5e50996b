"""Noise on the outputs of layers that are linear in their weights, with the law of drawing the weights, for less variance."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from reparam.noise import NORMAL, Noise, Source
from reparam.paths import noise_like
from reparam.paths.by_row import normal_by_row

__all__ = ["Forward", "NoisyLayer", "Route", "data_count", "layers", "routes"]

Route = Literal["local", "flipout", "weights"]

# Subclasses, such as the last layer of torch's attention, may be used in other ways than by a call.
_DIMENSIONS: dict[type[nn.Module], int] = {
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
        data: how many data the network was called with.
        source: of noise.
        flips: what the layers have drawn so far.
        called: the layers that have been called.
    """

    scale: Mapping[str, Tensor]
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

    Args:
        name: of the layer in the network.
        layer: one of those that `layers` finds.

    Attributes:
        parameters: the names in the network of the weight and the bias, by their names in the layer.
        route: how it is drawn.
        now: the forward that goes on, if any.

    Source: Kingma et al., arXiv:1506.02557; Wen et al., arXiv:1803.04386.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        self.name, self.route = name, "weights"
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
        if now is None or self.route == "weights":
            return None
        args, kwargs = _positional(args, kwargs)
        x = args[0]
        if not _by_datum(layer, x, now.data) or (self.route == "local" and (x.dim() != 2 or self.name in now.called)):
            raise ValueError(
                f"the layer {self.name!r} was called with an input of shape {tuple(x.shape)}"
                f"{', again,' if self.name in now.called else ''} in a forward of {now.data} data; in the first forward of this "
                "network it was called otherwise, and its noise was planned for that: use method='weights'"
            )
        now.called.add(self.name)
        scale = {short: now.scale[name] for short, name in self.parameters.items() if name in now.scale}
        if self.route == "local":
            return self._local(now, scale, x, output)
        return self._flipout(now, scale, args, kwargs, output, -1 if isinstance(layer, nn.Linear) else 1)

    def _local(self, now: Forward, scale: Mapping[str, Tensor], x: Tensor, output: Tensor) -> Tensor:
        # Squares of small scales are below what half precision holds.
        dtype = torch.promote_types(scale["weight"].dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            squares = {name: s.to(dtype).square() for name, s in scale.items()}
            variance = self.apply(squares, (x.to(dtype).square(),), {})
        # The root has an infinite slope at zero, where an input is zero throughout.
        return normal_by_row(output, variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt(), now.source)

    def _flipout(
        self,
        now: Forward,
        scale: Mapping[str, Tensor],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Tensor,
        channel: int,
    ) -> Tensor:
        x = args[0]
        if self.name not in now.flips:
            drawn = {name: s * noise_like(s, NORMAL).draw(source=now.source) for name, s in scale.items()}
            now.flips[self.name] = (
                _signs(x, x.shape[channel], now.source),
                _signs(x, output.shape[channel], now.source),
                drawn,
            )
        s, r, drawn = now.flips[self.name]
        change = self.apply(drawn, (x * _beside(s, x, channel), *args[1:]), kwargs)
        return torch.addcmul(output, change, _beside(r, output, channel).to(change.dtype))


def layers(module: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The layers that noise can be added to: linear in a weight that is theirs alone and is among the `names`."""
    owners: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found = {}
    for name, layer in module.named_modules():
        own = layer._parameters
        if (
            type(layer) in _DIMENSIONS
            and (f"{name}.weight" if name else "weight") in names
            and all(p is None or owners[id(p)] == 1 for p in own.values())
        ):
            found[name] = layer
    return found


def data_count(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """How many data a network is called with: the first dimension of the first tensor; None without one."""
    first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    return None if first is None or first.dim() == 0 else first.shape[0]


def routes(
    module: nn.Module,
    noisy: Mapping[str, NoisyLayer],
    method: Route,
    names: Sequence[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> dict[str, Route]:
    """How each layer can be drawn, from one forward of the network that leaves no trace.

    Local reparameterization is for a layer that takes each datum once, as one vector. Flipout is for those that take a row of
    input for each datum at every call. All others, among them layers whose weights are read beside their calls, have theirs drawn.

    Raises:
        ValueError: when the network uses a parameter that is not in its place, where no draw of it can be put.
    """
    calls: dict[str, list[Tensor]] = {name: [] for name in noisy}
    data = data_count(args, kwargs)
    # In torch's sequence layers that say otherwise, the first dimension is time.
    if any(getattr(m, "batch_first", True) is False for m in module.modules()):
        data = None

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            args, kwargs = _positional(args, kwargs)
            calls[name].append(args[0])
            # Without its weights' slopes: those that are left come from reading the weights elsewhere.
            return noisy[name].apply({n: p.detach() for n, p in layer.named_parameters()}, args, kwargs)

        return hook

    handles = [module.get_submodule(name).register_forward_hook(watch(name), prepend=True, with_kwargs=True) for name in noisy]
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(_devices(module)):
            values = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
            values |= {name: b.detach().clone() for name, b in module.named_buffers()}
            given, named = tree_map(_copy, (args, dict(kwargs)))
            outputs = [out.sum() for out in _tensors(functional_call(module, values, given, named)) if out.requires_grad]
            own = dict(module.named_parameters())
            leaves = [values[name] for name in names] + [own[name] for name in names]
            slopes = torch.autograd.grad(outputs, leaves, allow_unused=True) if outputs else [None] * len(leaves)
    finally:
        for handle in handles:
            handle.remove()
    for name, slope in zip(names, slopes[len(names) :], strict=True):
        if slope is not None:
            raise ValueError(
                f"the network uses {name} by a reference that it keeps elsewhere, in a list or a function: no draw can be put "
                f"there. Read it where it is registered, or leave it as it is with fixed=({name!r},)"
            )
    read = {name for name, slope in zip(names, slopes, strict=False) if slope is not None}
    return {
        name: _route(module.get_submodule(name), calls[name], data, method)
        if read.isdisjoint(layer.parameters.values())
        else "weights"
        for name, layer in noisy.items()
    }


def _route(layer: nn.Module, inputs: list[Tensor], data: int | None, method: Route) -> Route:
    if not inputs or not all(_by_datum(layer, x, data) for x in inputs):
        return "weights"
    once = len(inputs) == 1 and isinstance(layer, nn.Linear) and inputs[0].dim() == 2
    return method if once else "flipout"


def _by_datum(layer: nn.Module, x: Tensor, data: int | None) -> bool:
    """Whether the rows of an input are the data that the network was called with."""
    dimensions = _DIMENSIONS[type(layer)]
    batched = x.dim() >= 2 if dimensions == 0 else x.dim() == dimensions + 2
    return data is not None and batched and x.shape[0] == data


def _positional(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rest = dict(kwargs)
    return (args or (rest.pop("input"),)), rest


def _signs(like: Tensor, channels: int, source: Source | None) -> Tensor:
    eps = Noise(NORMAL, torch.Size([channels]), like.dtype, like.device).draw(like.shape[0], source=source)
    return torch.where(eps < 0, -1.0, 1.0).to(like.dtype)


def _beside(signs: Tensor, x: Tensor, channel: int) -> Tensor:
    shape = [1] * x.dim()
    shape[0], shape[channel] = signs.shape
    return signs.reshape(shape)


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of an output, those of distributions among them."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, Distribution):
            yield from _tensors(list(vars(leaf).values()))


def _devices(module: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in module.parameters() if p.device.type == "cuda"}, key=str)
