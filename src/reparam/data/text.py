"""Texts, one a line, as rows of codes: of their characters, or of pieces of words that byte-pair encoding learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from reparam.data.check import TEXT, UNKNOWN, check_room, looks_like
from reparam.data.dataset import Data
from reparam.errors import BadInputError

__all__ = ["LongLines", "TextCodec", "Tokens", "from_lines", "read_text"]

Tokens = Literal["characters", "bpe"]
LongLines = Literal["fail", "cut"]

# Pieces of byte-pair encoding: the bytes, and at least one more.
_BYTES = 256


@dataclass(frozen=True)
class TextCodec:
    """From texts to rows of `length` codes and back: 1 is the first of the `vocabulary`, and 0 the end of a text and all behind it.

    Args:
        length: codes in a row. A text that fills it has no end; those that a codec is made for have one less at most.
        vocabulary: characters; or pieces of words, in the alphabet that byte-level encoding writes bytes in.
        merges: the pairs of pieces that byte-pair encoding joins, in order; None for characters.

    Raises:
        BadInputError: for what is no such codec.

    Source: of byte-pair encoding, Sennrich et al., arXiv:1508.07909.

    Example:
        >>> codec = TextCodec(5, ("a", "b"))
        >>> codec.encode(["abba", "b"])
        tensor([[1, 2, 2, 1, 0],
                [2, 0, 0, 0, 0]])
        >>> codec.decode(codec.encode(["abba", "b"]))
        ['abba', 'b']
    """

    kind: ClassVar[str] = "text"

    length: int
    vocabulary: Sequence[str]
    merges: Sequence[Sequence[str]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        object.__setattr__(self, "merges", None if self.merges is None else tuple(map(tuple, self.merges)))
        if self.length < 2 or not self.vocabulary or len(set(self.vocabulary)) < len(self.vocabulary):
            raise BadInputError(
                f"a codec of {self.length} codes a row, of {len(self.vocabulary)} kinds: at least 2 of at least 1, all different"
            )
        if self.merges is None and any(len(piece) != 1 for piece in self.vocabulary):
            raise BadInputError("a codec of characters has a piece that is not one character: give its merges too")

    def facts(self) -> dict[str, Any]:
        """What JSON holds, and `codec_of` makes the codec of."""
        merges = None if self.merges is None else [list(pair) for pair in self.merges]
        return {"kind": self.kind, "length": self.length, "vocabulary": list(self.vocabulary), "merges": merges}

    def encode(
        self,
        texts: Sequence[str],
        *,
        title: str = "the texts",
        lines: Sequence[int] | None = None,
        long_lines: LongLines = "fail",
        learning: bool = False,
    ) -> Tensor:
        """Texts to codes, N x length int64.

        Args:
            texts: N of them, without ends of lines.
            title: what messages call them all.
            lines: their numbers in messages; by default from 1 on.
            long_lines: what one with more codes than there is room for does: "fail", or "cut".
            learning: whether a model is still to be trained on them, so that longer ones could be taken, and all are to have ends.

        Raises:
            BadInputError: for a character that is not in the vocabulary, and for a text that is too long; it names the line.
        """
        numbers, room = range(1, len(texts) + 1) if lines is None else lines, self.length - learning
        check_room(8 * len(texts) * self.length, title)
        x = torch.zeros(len(texts), self.length, dtype=torch.int64)
        for row, text, number in zip(x, texts, numbers, strict=True):
            codes = self._codes(text, f"{title} line {number}")
            if len(codes) > room:
                if long_lines == "fail":
                    raise BadInputError(
                        f"{title} line {number} has {len(codes)} {self.noun}, and at most {room} are taken: shorten it"
                        + ", cut long lines (--long_lines cut), or take longer ones (--longest)" * learning
                    )
                codes = codes[: self.length - 1]
            row[: len(codes)] = torch.tensor(codes, dtype=torch.int64)
        return x

    def decode(self, x: Tensor) -> list[str]:
        """Codes, N x any length, to N texts, each up to its first 0; bytes that are no UTF-8, or end a line, become U+FFFD.

        Raises:
            BadInputError: for a code that is none.
        """
        texts = []
        for row in x.tolist():
            codes = [int(code) for code in row]
            codes = codes[: codes.index(0)] if 0 in codes else codes
            if codes and not 0 < min(codes) <= max(codes) <= len(self.vocabulary):
                raise BadInputError(
                    f"{min(codes)} to {max(codes)} are not all codes of this vocabulary: 1 to {len(self.vocabulary)} are"
                )
            pieces = [code - 1 for code in codes]
            texts.append(
                "".join(self.vocabulary[piece] for piece in pieces)
                if self.merges is None
                else self._pieces.decode(pieces).replace("\n", "\ufffd")
            )
        return texts

    @property
    def noun(self) -> str:
        """What codes are, in messages."""
        return "characters" if self.merges is None else "pieces"

    @cached_property
    def characters(self) -> tuple[int, ...]:
        """How many characters begin in each code; the end of a text, code 0, counts as one."""
        if self.merges is None:
            return (1,) * (len(self.vocabulary) + 1)
        letters = _letters()
        # A byte 10xxxxxx goes on with a character that began before.
        return (1, *(sum(letters[letter] & 0xC0 != 0x80 for letter in piece) for piece in self.vocabulary))

    def _codes(self, text: str, where: str) -> list[int]:
        if self.merges is not None:
            try:
                return [code + 1 for code in self._pieces.encode(text).ids]
            except TypeError as error:
                raise BadInputError(f"{where} is not UTF-8: {text!r}") from error
        try:
            return [self._numbers[character] for character in text]
        except KeyError:
            unknown = next(character for character in text if character not in self._numbers)
            raise BadInputError(
                f"{where} has the character {unknown!r} (U+{ord(unknown):04X}), which is none of the {len(self.vocabulary)} "
                "characters of the training data: replace it, or train on data that have it"
            ) from None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: i + 1 for i, character in enumerate(self.vocabulary)}

    @cached_property
    def _pieces(self) -> Any:
        from tokenizers import models

        numbers = {piece: i for i, piece in enumerate(self.vocabulary)}
        return _byte_level(models.BPE(numbers, [(a, b) for a, b in self.merges or ()]))


def from_lines(
    texts: Sequence[str],
    *,
    name: str = "texts",
    source: str | None = None,
    tokens: Tokens = "characters",
    vocabulary: int = 1000,
    longest: int = 512,
    long_lines: LongLines = "fail",
    codec: TextCodec | None = None,
    lines: Sequence[int] | None = None,
) -> Data:
    """A data set of texts: x is N x L int64 with L the longest of them and its end, `values` are "tokens".

    Args:
        texts: N of them, without ends of lines.
        name: what reports call them.
        source: what `load` takes to read them again; by default the name.
        tokens: what a code is: a character, or a piece of a word from byte-level byte-pair encoding, learned from these texts.
        vocabulary: pieces to learn, at least 256; of characters, all are taken.
        longest: the most codes of a text.
        long_lines: what a longer one does: "fail", or "cut".
        codec: of other data, to be used as it is; then the options before have no effect but `long_lines`.
        lines: the numbers of the texts in messages.

    Raises:
        BadInputError: when there is none, and for what the codec does not take, naming the line.

    Example:
        >>> data = from_lines(["to be", "or not", "to be"])
        >>> data.shape, data.values, data.levels
        (torch.Size([7]), 'tokens', 7)
        >>> data.scaling
        'lines of up to 6 characters, 7 different ones'
    """
    if not texts:
        raise BadInputError(f"{name} has no line with a text: give at least one")
    title = repr(source or name)
    if long_lines not in get_args(LongLines):
        raise BadInputError(f"long_lines is {long_lines!r}: give fail or cut")
    if codec is None:
        if longest < 1:
            raise BadInputError(f"longest is {longest}: give at least 1")
        codec = _learned(texts, longest, tokens, vocabulary)
        x = codec.encode(texts, title=title, lines=lines, long_lines=long_lines, learning=True)
        # As wide as it needs to be, and one for the end.
        codec = TextCodec(max(2, int((x != 0).sum(1).max()) + 1), codec.vocabulary, codec.merges)
        x = x[:, : codec.length].clone()
    else:
        x = codec.encode(texts, title=title, lines=lines, long_lines=long_lines)
    levels = len(codec.vocabulary)
    scaling = f"lines of up to {codec.length - 1} {codec.noun}, {levels} different ones"
    return Data(x, None, name, source or name, "tokens", levels, scaling, codec=codec)


def read_text(
    path: Path,
    *,
    tokens: Tokens = "characters",
    vocabulary: int = 1000,
    longest: int = 512,
    long_lines: LongLines = "fail",
    codec: TextCodec | None = None,
) -> Data:
    """The lines of a file in UTF-8, one text each; a BOM and CRLF are fine, blank lines are left out.

    Args:
        path: the file.
        tokens: this and the others as [`from_lines`][reparam.data.text.from_lines] takes them.
        vocabulary: of pieces.
        longest: the most codes of a text.
        long_lines: what a longer one does.
        codec: of other data.

    Raises:
        BadInputError: naming the line (the first is 1), and the byte of what is not UTF-8.
    """
    title = repr(str(path))
    check_room(4 * path.stat().st_size, title)
    raw = path.read_bytes()
    if (came := looks_like(raw[:512])) not in (TEXT, UNKNOWN):
        raise BadInputError(f"{title} is no text (it looks like {came}): give one text a line, in UTF-8")
    numbered = [(i, line) for i, line in enumerate(_lines(raw, title), 1) if line.strip()]
    if not numbered:
        raise BadInputError(f"{title} has nothing but blank lines: give one text a line")
    lines, texts = zip(*numbered, strict=True)
    return from_lines(
        texts,
        name=path.stem,
        source=str(path),
        tokens=tokens,
        vocabulary=vocabulary,
        longest=longest,
        long_lines=long_lines,
        codec=codec,
        lines=lines,
    )


def _lines(raw: bytes, title: str) -> list[str]:
    start = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
    try:
        text = raw[start:].decode("utf-8")
        at, problem = raw.find(0), "has a NUL"
    except UnicodeDecodeError as error:
        at, problem = start + error.start, "is not UTF-8"
    if at >= 0:
        line = raw[:at].count(b"\n") + 1
        hint = "it looks like UTF-16; " if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or 0 in raw[:4] else ""
        raise BadInputError(f"{title} line {line} {problem} at byte {at} (0x{raw[at]:02x}): {hint}save it as UTF-8")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _learned(texts: Sequence[str], longest: int, tokens: Tokens, vocabulary: int) -> TextCodec:
    if tokens == "characters":
        return TextCodec(longest + 1, sorted(set().union(*texts)))
    if tokens != "bpe":
        raise BadInputError(f"tokens is {tokens!r}: give characters or bpe")
    if vocabulary < _BYTES:
        raise BadInputError(f"vocabulary is {vocabulary}: byte-pair encoding starts from the {_BYTES} bytes: give at least as many")
    import json

    from tokenizers import models, pre_tokenizers, trainers

    model = _byte_level(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False))
    learned = json.loads(model.to_str())["model"]
    return TextCodec(longest + 1, sorted(learned["vocab"], key=learned["vocab"].get), learned["merges"])


def _byte_level(model: Any) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def _letters() -> dict[str, int]:
    """The byte that each letter of the byte-level alphabet stands for: what can be printed is itself, the rest begin at U+0100."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(_BYTES) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
