"""Codecs: how data of a kind that people read or hear, texts, sounds and tables, become numbers and come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Protocol

from torch import Tensor

from reparam.errors import BadInputError

__all__ = ["Codec", "codec_of"]


class Codec(Protocol):
    """The way from what people read or hear to numbers, and back. A run remembers its facts, so that samples can be shown."""

    kind: ClassVar[str]

    def facts(self) -> dict[str, Any]:
        """What JSON holds exactly, from which `codec_of` makes the codec again; its kind is under "kind"."""
        ...

    def decode(self, x: Tensor) -> list[Any]:
        """What data N + shape stand for: N texts, N waveforms as vectors of float32, or N rows by column."""
        ...


# Nothing else is imported by a name that a file gives.
_HOMES = {
    "text": "reparam.data.text:TextCodec",
    "audio": "reparam.data.audio:AudioCodec",
    "table": "reparam.data.table:TableCodec",
}


def codec_of(facts: Mapping[str, Any]) -> Codec:
    """The codec whose `facts` these are.

    Raises:
        BadInputError: for facts of no codec that is known.
    """
    kind = facts.get("kind") if isinstance(facts, Mapping) else None
    if not isinstance(kind, str) or kind not in _HOMES:
        raise BadInputError(f"a codec of kind {kind!r} is not known: this version knows {', '.join(_HOMES)}")
    module, name = _HOMES[kind].split(":")
    make: Callable[..., Codec] = getattr(import_module(module), name)
    try:
        return make(**{key: value for key, value in facts.items() if key != "kind"})
    except TypeError as error:
        raise BadInputError(f"the facts of a codec of kind {kind!r} make none: {error}") from error
