"""Networks on sequences of codes: one that reads a sequence, and one that says what comes next.

A sequence is a row of L whole numbers: codes 1..codes, then 0 for its end and for all that follows. A decoder is given a negative
code where it must not see what it wrote itself (word dropout): the code is its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reparam.errors import BadInputError

__all__ = ["NETWORKS", "Decoder", "RecurrentDecoder", "SequenceEncoder", "TransformerDecoder"]

#: Names of the networks that take sequences.
NETWORKS = ("gru", "transformer")

# Width of what stands for a code at the input of a recurrent network, and of a head of attention.
_EMBEDDING, _HEAD = 64, 32


class SequenceEncoder(nn.Module):
    """Sequences to `features` values: a network over the codes, the largest value of each of its outputs, and a dense layer.

    The largest over all places, and not the value at the last one, lets every code reach the latents (arXiv:1911.03976).

    Args:
        network: gru or transformer.
        codes: the largest code.
        length: the most places of a sequence.
        hidden: the width of each layer; all the same.
        features: number of outputs.

    Raises:
        BadInputError: for widths that do not fit.

    Example:
        >>> import torch
        >>> encoder = SequenceEncoder("gru", codes=5, length=4, hidden=(32,), features=6)
        >>> encoder(torch.tensor([[1, 2, 0, 0], [3, 4, 5, 1]])).shape
        torch.Size([2, 6])
    """

    def __init__(self, network: str, codes: int, length: int, hidden: Sequence[int], features: int) -> None:
        super().__init__()
        width, layers = _width(hidden)
        recurrent = network == "gru"
        self.embedding = nn.Embedding(codes + 1, min(_EMBEDDING, width) if recurrent else width)
        self.body = Recurrent(self.embedding.embedding_dim, width, layers) if recurrent else _transformer(width, layers)
        self.place = None if recurrent else nn.Parameter(0.1 * torch.randn(length, width))
        self.head = nn.Linear(width, features)
        nn.init.xavier_uniform_(self.head.weight, 0.1)  # a posterior near the prior, at first
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Codes, N x L of any dtype, to features, N x features."""
        x = x.long()
        if not len(x):
            return self.head(self.embedding.weight.new_zeros(0, self.head.in_features))  # type: ignore[no-any-return]
        sizes = _places(x)
        x = x[:, : int(sizes.max())]
        shown = _shown(sizes, x.shape[1])
        if self.place is None:
            h = self.body(self.embedding(x), sizes)
        else:
            h = _attended(self.body, self.embedding(x) + self.place[: x.shape[1]], src_key_padding_mask=~shown)
        return self.head(h.masked_fill(~shown[..., None], -torch.inf).amax(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Layers of gated recurrent units, over sequences of different sizes, none of which is gone on with behind its end.

        r, u = sigmoid(A x_t + B h_(t-1)),    n = tanh(C x_t + r * D h_(t-1)),    h_t = (1 - u) n + u h_(t-1)

    This is torch's GRU, whose derivative on packed sequences takes time that grows with the square of their length.

    Args:
        inputs: width of the inputs.
        width: of each layer.
        layers: how many.

    Source: Cho et al., arXiv:1406.1078.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.width = width
        self.seen = nn.ModuleList(nn.Linear(width if i else inputs, 3 * width) for i in range(layers))
        self.kept = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))

    def forward(self, x: Tensor, sizes: Tensor, state: Tensor | None = None) -> Tensor:
        """The states at each place, N x T x width, of inputs N x T x inputs of so many places each.

        They begin at zero, or at a state such as `step` takes.
        """
        packed = pack_padded_sequence(x, sizes.cpu(), batch_first=True, enforce_sorted=False)
        order, rows = packed.sorted_indices, packed.batch_sizes.tolist()
        values = packed.data  # by places, and of each place the longest sequences first
        first = x.new_zeros(len(self.seen), len(x), self.width) if state is None else state
        for seen, kept, h in zip(self.seen, self.kept, first[:, order].unbind(), strict=True):
            states = []
            for gates in seen(values).split(rows):
                h = h[: len(gates)] if len(gates) < len(h) else h
                h = _gated(gates, kept(h), h)
                states.append(h)
            values = torch.cat(states)
        return pad_packed_sequence(packed._replace(data=values), batch_first=True)[0]

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """The next state, layers x N x width, that inputs N x inputs make of a state."""
        states = []
        for seen, kept, h in zip(self.seen, self.kept, state.unbind(), strict=True):
            x = _gated(seen(x), kept(h), h)
            states.append(x)
        return torch.stack(states)


def _gated(seen: Tensor, kept: Tensor, h: Tensor) -> Tensor:
    width = h.shape[-1]
    (both, new), (both_kept, new_kept) = (gates.split([2 * width, width], -1) for gates in (seen, kept))
    r, u = torch.sigmoid(both + both_kept).split(width, -1)
    return torch.lerp(torch.tanh(torch.addcmul(new, r, new_kept)), h.to(new.dtype), u)


class Decoder(nn.Module):
    """What comes next in a sequence, given what came and a context: logits of the codes 0..codes at each place.

    Attributes:
        features: the number of values of a context.
        length: the most places of a sequence.
        head: the last layer.
    """

    features: int
    length: int
    head: nn.Linear

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Logits at the places of sequences up to their ends, one after the other: places x (codes + 1).

        Args:
            x: N x L codes; negative ones are hidden from what follows them.
            context: N x features.
        """
        raise NotImplementedError

    def begin(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the first code, N x (codes + 1), and a state."""
        raise NotImplementedError

    def proceed(self, code: Tensor, state: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Logits after one more code, N of them, and the next state."""
        raise NotImplementedError


class RecurrentDecoder(Decoder):
    """Gated recurrent units that see the code before and the context at each step, and start from the context.

    Args:
        codes: the largest code.
        length: the most places of a sequence.
        hidden: the width of each layer; all the same.

    Raises:
        BadInputError: for widths that do not fit.

    Source: Bowman et al., arXiv:1511.06349.
    """

    def __init__(self, codes: int, length: int, hidden: Sequence[int]) -> None:
        super().__init__()
        width, self.layers = _width(hidden)
        self.length, self.features = length, min(_EMBEDDING, width)
        self.embedding = nn.Embedding(codes + 2, self.features)  # 0 stands for the beginning, the last one for a hidden code
        self.first = nn.Linear(self.features, self.layers * width)
        self.body = Recurrent(self.features, width, self.layers)
        self.head = _head(width, codes)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        sizes = _places(x)
        before = _before(x, self.embedding.num_embeddings - 1)[:, : int(sizes.max())]
        h = self.body(self.embedding(before) + context[:, None], sizes, self._first(context))
        return self.head(h[_shown(sizes, h.shape[1])])  # type: ignore[no-any-return]

    def begin(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.proceed(torch.zeros(len(context), dtype=torch.int64, device=context.device), self._first(context), context)

    def proceed(self, code: Tensor, state: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        state = self.body.step(self.embedding(code) + context, state)
        return self.head(state[-1]), state

    def _first(self, context: Tensor) -> Tensor:
        h: Tensor = torch.tanh(self.first(context)).unflatten(1, (self.layers, -1))
        return h.transpose(0, 1)


class TransformerDecoder(Decoder):
    """A causal transformer: the codes before, their places, and the context at each of them.

    Args:
        codes: the largest code.
        length: the most places of a sequence.
        hidden: the width of each layer; all the same, and a multiple of 32 above it.

    Raises:
        BadInputError: for widths that do not fit.

    Source: Vaswani et al., arXiv:1706.03762.
    """

    def __init__(self, codes: int, length: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.features, layers = _width(hidden)
        self.length = length
        self.embedding = nn.Embedding(codes + 2, self.features)
        self.place = nn.Parameter(0.1 * torch.randn(length, self.features))
        self.body = _transformer(self.features, layers)
        self.head = _head(self.features, codes)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        sizes = _places(x)
        before = _before(x, self.embedding.num_embeddings - 1)[:, : int(sizes.max())]
        return self.head(self._body(before, context)[_shown(sizes, before.shape[1])])  # type: ignore[no-any-return]

    def begin(self, context: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.zeros(len(context), 1, dtype=torch.int64, device=context.device)
        return self.head(self._body(before, context)[:, -1]), before

    def proceed(self, code: Tensor, state: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.cat([state, code[:, None]], 1)
        return self.head(self._body(before, context)[:, -1]), before

    def _body(self, before: Tensor, context: Tensor) -> Tensor:
        n = before.shape[1]
        later = torch.ones(n, n, dtype=torch.bool, device=before.device).triu(1)
        h = self.embedding(before) + self.place[:n] + context[:, None]
        return _attended(self.body, h, mask=later, is_causal=True)


def _width(hidden: Sequence[int]) -> tuple[int, int]:
    """The width and the number of layers."""
    if not hidden or len(set(hidden)) > 1:
        raise BadInputError(f"hidden={tuple(hidden)}: networks of sequences take one width for each layer, all the same")
    return hidden[0], len(hidden)


def _transformer(width: int, layers: int) -> nn.Module:
    heads = max(1, width // _HEAD)
    if width % heads:
        raise BadInputError(f"hidden is {width} wide: give a transformer a multiple of {_HEAD}")
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


def _attended(body: nn.Module, h: Tensor, **masks: Any) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):  # the others are differentiable once, and REBAR asks for twice
        return body(h, **masks)  # type: ignore[no-any-return]


def _head(width: int, codes: int) -> nn.Linear:
    head = nn.Linear(width, codes + 1)
    nn.init.xavier_uniform_(head.weight, 0.1)  # at first each code as often as in the data, whatever came before
    nn.init.zeros_(head.bias)
    return head


def _places(x: Tensor) -> Tensor:
    """How many places of each row say something: its codes and its end, which a row that is full does not have."""
    return ((x != 0).sum(1) + 1).clamp(max=x.shape[1])


def _shown(sizes: Tensor, length: int) -> Tensor:
    """The mask N x length of places that say something."""
    return torch.arange(length, device=sizes.device) < sizes[:, None]


def _before(x: Tensor, hidden: int) -> Tensor:
    """What a decoder sees at each place: the code before it, 0 at the first, and `hidden` for a negative one."""
    return torch.cat([torch.zeros_like(x[:, :1]), torch.where(x < 0, hidden, x)[:, :-1]], 1)
