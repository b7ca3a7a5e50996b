"""Settings in a file: YAML that can only say what a flag can say, and says it once: vetted here, read with the flags."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from reparam.cli.words import nearest
from reparam.errors import BadInputError

__all__ = ["lines"]

_LARGEST, _DEEPEST = 2**16, 4
# What YAML takes for another value than the one that is written: no is false, 1:30 is 90.
_MISREAD = re.compile(r"yes|no|on|off|[-+]?[0-9_]+(:[0-9_.]+)+", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


class _Plain(yaml.SafeLoader):
    """Values, lists and mappings: no references, no tags, no deep nesting, each key once."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self.refuse("references (*name) are not read", event)
        if event.tag is not None:
            self.refuse(f"tags ({event.tag}) are not read", event)
        if self.depth == _DEEPEST:
            self.refuse("this is nested too deeply", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            if _NOT_FINITE.fullmatch(node.value):
                self.refuse(f"{node.value} is no finite number: give one", node)
            if _MISREAD.fullmatch(node.value):
                self.refuse(
                    f"YAML may take {node.value} for another value: put a text in quotes, write true, false or a number", node
                )
        return node

    def refuse(self, problem: str, where: Any) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def lines(name: str, known: Collection[str]) -> dict[str, int]:
    """Where each setting of a file stands: its name, and its line from 1.

    Raises:
        BadInputError: when the file cannot be read, is not a mapping of settings, names one that is unknown, or one twice.
    """
    root = _compose(name, _read(name))
    if not isinstance(root, yaml.MappingNode):
        raise BadInputError(f"{name} holds no settings: give lines such as 'epochs: 5'")
    found: dict[str, int] = {}
    for key, _ in root.value:
        line, word = key.start_mark.line + 1, key.value
        if not isinstance(word, str) or word not in known:
            word = word if isinstance(word, str) else "that is a list"
            raise BadInputError(f"{name}, line {line}: there is no setting {word}{nearest(word, known)}")
        if word in found:
            raise BadInputError(f"{name}, line {line}: {word} is set again, after line {found[word]}: leave one out")
        found[word] = line
    return found


def _read(name: str) -> str:
    path = Path(name)
    try:
        if not path.is_file():
            raise BadInputError(f"the settings file {name!r} {'is not a regular file' if path.exists() else 'does not exist'}")
        if path.stat().st_size > _LARGEST:
            raise BadInputError(f"{name} has more than {_LARGEST} bytes: it is no file of settings")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{name} is not UTF-8 text, from byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise BadInputError(f"{name} cannot be read: {error.strerror or error}") from error


def _compose(name: str, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Plain)
    except yaml.reader.ReaderError as error:
        raise BadInputError(f"{name} is not a text: it has the character {chr(error.character)!r} at {error.position}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInputError(f"{name}{line}: {error.problem}") from error
