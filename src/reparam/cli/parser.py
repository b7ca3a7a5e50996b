"""Flags from the fields of dataclasses and the parameters of functions: their docstrings are the help, errors name the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from reparam.cli import config
from reparam.cli.words import nearest
from reparam.errors import BadInputError

__all__ = ["Parser"]

_EXAMPLES = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


class Parser(ArgumentParser):  # type: ignore[misc]
    """The flags of one command.

    Each error is a `BadInputError` of one line. `--learning-rate` means `--learning_rate`, a flag that is true or false needs no
    value to be true, and a list may be written `512,256`.

    Args:
        prog: the words of the command.
        description: what it does.
    """

    def __init__(self, prog: str, description: str) -> None:
        self.hints: dict[str, Any] = {}
        self.alone: str | None = None  # the flag that a word without one was meant for
        self.places: dict[str, str] = {}  # of each field, in the file that is being read
        super().__init__(
            prog=prog,
            description=description,
            usage=f"{prog} [flags]",
            allow_abbrev=False,
            exit_on_error=False,
            default_env=False,
            print_config="--print_config",
        )

    def add_fields(self, kind: type) -> None:
        """A flag for each field of a dataclass."""
        self.add_class_arguments(kind)
        self._learn(kind)

    def add_parameters(self, function: Callable[..., Any]) -> None:
        """A flag for each parameter of a function that has a default; those without are positional."""
        self.add_function_arguments(function, as_group=False, as_positional=True, skip={"options"})
        self._learn(function)
        self.hints.pop("options", None)
        positional = [f.upper() for f in self.hints if not any(a.option_strings for a in self._actions if a.dest == f)]
        self.usage = " ".join([self.prog, *positional, "[flags]"])

    def add_config(self) -> None:
        """The flags `--config` and `--print_config`."""
        self.add_argument("--config", action=_ConfigFile, help="A YAML file of settings; flags after it override it.")

    def _learn(self, kind: Any) -> None:
        self.hints |= {name: hint for name, hint in get_type_hints(kind).items() if name != "return"}
        for action in self._actions:
            hint = self.hints.get(action.dest)
            if hint is bool or bool in get_args(hint):
                action.nargs, action.const = "?", True

    def read(self, words: Sequence[str]) -> Namespace:
        """The settings that a command line gives.

        Raises:
            BadInputError: for one that is unknown, malformed or of the wrong type.
        """
        settings = self.parse_args(self._plain(words))
        for name, hint in self.hints.items():
            if settings.get(name, "") is None and type(None) not in get_args(hint):
                raise BadInputError(f"{name} is null: give {_wanted(hint)}")
        return settings

    def _plain(self, words: Sequence[str]) -> list[str]:
        plain: list[str] = []
        for word in words:
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                plain.append(name.replace("-", "_").replace("__", "--", 1) + equals + value)
            else:
                plain.append(word)
        for i, word in enumerate(plain):
            name, equals, value = word.partition("=")
            if name.startswith("--") and _is_list(self.hints.get(name[2:])):
                if equals:
                    plain[i] = f"{name}={_bracketed(value)}"
                elif plain[i + 1 :]:
                    plain[i + 1] = _bracketed(plain[i + 1])
        return plain

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ex if isinstance(ex, BadInputError) else BadInputError(self._explain(message)) from ex

    def _explain(self, message: str) -> str:
        if found := re.match(r"unrecognized arguments: (.*)", message):
            word = next((w for w in found[1].split() if w.startswith("-")), "")
            if word:
                return f"there is no flag {word.split('=')[0]}{nearest(word.split('=')[0].lstrip('-'), self.hints, '--')}"
            instead = f"give {self.alone} {found[1].replace(' ', ',')}" if self.alone else f"see {self.prog} --help"
            return f"{found[1]!r} is one argument too many: {instead}"
        if found := re.match(r"argument --(\w+): expected one argument", message):
            return f"--{found[1]} wants a value: give {_wanted(self.hints.get(found[1], str))}"
        if found := re.match(r'Parser key "(\w+)":', message):
            name, value = found[1], re.search(r"(?:Got|Given) value: (.*)", message)
            if name in self.hints and value:
                return f"{self.places.get(name, '')}{name} is {value[1]!r}: give {_wanted(self.hints[name])}"
        if found := re.search(r'[kK]ey "(\w+)" is required|required: (\w+)', message):
            return f"{(found[1] or found[2]).upper()} is missing: {self.usage}"
        return " ".join(message.split())


class _ConfigFile(ActionConfigFile):  # type: ignore[misc]
    def __call__(self, parser: Parser, cfg: Namespace, values: Any, option_string: str | None = None) -> None:
        parser.places = {name: f"{values}, line {line}: " for name, line in config.lines(values, parser.hints).items()}
        super().__call__(parser, cfg, values, option_string)
        parser.places = {}


def _is_list(hint: Any) -> bool:
    return tuple in (get_origin(hint), *map(get_origin, get_args(hint)))


def _bracketed(value: str) -> str:
    return value if value.startswith("[") else f"[{value}]"


def _wanted(hint: Any) -> str:
    """What a type takes, in words."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list such as 512,256 (in a file, [512, 256])"
    if arguments := get_args(hint):
        return " or ".join(_wanted(argument) for argument in arguments if argument is not type(None)) + ", or null"
    return _EXAMPLES.get(hint, str(hint))
