"""How a network uses the weights of its layers, seen in one forward: what noise on their outputs would have the right law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from reparam.nn.flipout import DIMENSIONS, NoisyLayer, Route, by_datum, positional

__all__ = ["data_count", "in_all_places", "layers", "places", "routes"]


def layers(module: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The layers that noise can be added to: linear in a weight that is theirs alone and is among the `names`.

    Example:
        >>> list(layers(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LSTM(2, 2)), ["0.weight", "1.weight_ih_l0"]))
        ['0']
    """
    owners = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    return {
        name: layer
        for name, layer in module.named_modules()
        if type(layer) in DIMENSIONS
        and (f"{name}.weight" if name else "weight") in names
        and all(owners[id(p)] == 1 for p in layer.parameters())
    }


def places(module: nn.Module) -> dict[str, str]:
    """Every place of a parameter or a buffer in a module, one for each part that has it, and the name that it goes by.

    A part that is there under two names is one place: `functional_call` would leave in it what it puts at both.

    Example:
        >>> layer = torch.nn.Linear(3, 3)
        >>> places(torch.nn.Sequential(layer, torch.nn.Tanh(), layer))
        {'0.weight': '0.weight', '0.bias': '0.bias'}
    """
    names: dict[int, str] = {}
    found: dict[str, str] = {}
    for prefix, part in module.named_modules():
        own = [*part.named_parameters(recurse=False, remove_duplicate=False), *part.named_buffers(recurse=False)]
        for short, tensor in own:
            place = f"{prefix}.{short}" if prefix else short
            found[place] = names.setdefault(id(tensor), place)
    return found


def in_all_places(values: Mapping[str, Tensor], found: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors by name, put at all their places: for `functional_call`, which is then not to tie them."""
    return {**values, **{place: values[name] for place, name in found.items() if name in values}}


def data_count(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """How many data a network is called with: the first dimension of the first tensor; None without one."""
    first = _first(args, kwargs)
    return None if first is None or first.dim() == 0 else first.shape[0]


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def routes(
    module: nn.Module,
    noisy: Mapping[str, NoisyLayer],
    method: Route,
    names: Sequence[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> dict[str, Route]:
    """How each layer can be drawn, from one forward of the network, and back, that leaves no trace.

    Local reparameterization is for a layer that takes each datum once, as one vector. Flipout is for those that take a row of
    input for each datum at every call. All others, among them layers whose weights are read beside their calls, have theirs drawn;
    and so have all where the output for a datum, or the input of a layer, is also of other data.

    Args:
        module: the network.
        noisy: its layers that noise can be added to, by name.
        method: the one that is wanted.
        names: of the parameters that are drawn.
        args: of a call of the network.
        kwargs: of that call.

    Raises:
        ValueError: when the network uses a parameter that is not in its place, where no draw of it can be put, or computes some of
            its layers again in the backward, where the draw is gone.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(8, 1))
        >>> noisy = {name: NoisyLayer(name, network.get_submodule(name)) for name in ("0", "2")}
        >>> routes(network, noisy, "local", [name for name, _ in network.named_parameters()], (torch.randn(5, 1, 4),), {})
        {'0': 'flipout', '2': 'local'}
    """
    called: dict[str, list[Tensor]] = {name: [] for name in noisy}
    again: list[str] = []

    def look(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            args, kwargs = positional(args, kwargs)
            called[name].append(args[0])
            # Without the slopes of its weights: those that are left come from reading the weights elsewhere.
            return noisy[name].apply({short: p.detach() for short, p in layer.named_parameters()}, args, kwargs)

        return hook

    handles = [module.get_submodule(name).register_forward_hook(look(name), prepend=True, with_kwargs=True) for name in noisy]
    try:
        # cuDNN has no slopes of recurrent layers in evaluation.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.random.fork_rng(_devices(module)),
            torch.backends.cudnn.flags(enabled=False),
        ):
            own = dict(module.named_parameters())
            values = {name: p.detach().clone().requires_grad_(name in names) for name, p in own.items()}
            values |= {name: b.detach().clone() for name, b in module.named_buffers()}
            # Each input starts at zeros of its own, so that the slopes go all the way back.
            starts: dict[int, Tensor] = {}
            given, named = tree_map(lambda value: _copy(value, starts), (args, dict(kwargs)))
            output = functional_call(module, in_all_places(values, places(module)), given, named, tie_weights=False)
            outputs = [out for out in _tensors(output) if out.requires_grad]
            handles += [part.register_forward_pre_hook(lambda *_, n=n: again.append(n)) for n, part in module.named_modules()]
            read = _used(outputs, {name: values[name] for name in names}, starts)
            kept = _used(outputs, {name: own[name] for name in names if own[name].requires_grad}, starts)
            rows = [*outputs, *(x for inputs in called.values() for x in inputs)]
            apart = _apart(rows, starts.get(id(_first(args, kwargs))))
    finally:
        for handle in handles:
            handle.remove()
    if again:
        raise ValueError(
            f"the network computes {again[0]!r} again in the backward, as torch.utils.checkpoint does, when its draw is gone: turn "
            "that off, or checkpoint the call of the whole Bayesian network"
        )
    if kept:
        name = min(kept, key=names.index)
        raise ValueError(
            f"the network uses {name} by a reference that it keeps elsewhere, in a list or a function: no draw can be put "
            f"there. Read it where it is registered, or leave it as it is with fixed=({name!r},)"
        )
    # In torch's sequence layers that say so, the first dimension is time.
    ordered = all(getattr(part, "batch_first", True) is not False for part in module.modules())
    data = data_count(args, kwargs) if ordered and apart else None
    return {
        name: _route(module.get_submodule(name), [x.shape for x in called[name]], data, method)
        if read.isdisjoint(layer.parameters.values())
        else "weights"
        for name, layer in noisy.items()
    }


def _route(layer: nn.Module, shapes: list[torch.Size], data: int | None, method: Route) -> Route:
    if not shapes or not all(by_datum(layer, shape, data) for shape in shapes):
        return "weights"
    return method if len(shapes) == 1 and len(shapes[0]) == 2 else "flipout"


def _used(outputs: list[Tensor], leaves: Mapping[str, Tensor], starts: Mapping[int, Tensor]) -> set[str]:
    """The names of the leaves that the outputs depend on."""
    if not outputs:
        return set()
    sums, wanted = [out.sum() for out in outputs], [*leaves.values(), *starts.values()]
    slopes = torch.autograd.grad(sums, wanted, allow_unused=True, retain_graph=True)
    return {name for name, slope in zip(leaves, slopes, strict=False) if slope is not None}


def _apart(made: list[Tensor], start: Tensor | None) -> bool:
    """Whether the first row of all that was made depends on the first datum alone, as far as slopes tell."""
    if start is None or start.dim() == 0 or not len(start) or start.is_meta:
        return True
    rows = [value[0] for value in made if value.requires_grad and value.dim() and len(value) == len(start)]
    if not rows:
        return True
    # Not of their sums, as that of a softmax has no slope.
    slope = torch.autograd.grad(rows, start, [torch.randn_like(row) for row in rows], allow_unused=True, retain_graph=True)[0]
    return slope is None or not slope[1:].any()


def _copy(value: Any, starts: dict[int, Tensor]) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value.detach().clone() if isinstance(value, Tensor) else value
    start = starts[id(value)] = torch.zeros_like(value, requires_grad=True)
    return value.detach() + start


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of an output, those of distributions and dataclasses among them."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, Distribution) or (is_dataclass(leaf) and not isinstance(leaf, type)):
            yield from _tensors(list(vars(leaf).values()))


def _devices(module: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in module.parameters() if p.device.type == "cuda"}, key=str)
