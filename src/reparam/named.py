"""Functions of the user's own, by a name `MODULE:FUNCTION` from the command line; never by one that a file says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reparam.errors import BadInputError

__all__ = ["call", "find", "plain"]


def plain(name: str) -> str:
    """The name as Python has it: `folder/module.py:function` is `folder.module:function`."""
    module, _, function = name.partition(":")
    return f"{module.removesuffix('.py').replace('/', '.')}:{function}"


def find(name: str) -> Callable[[], Any]:
    """The function that `module:function` names, its module imported from the current folder or from where Python looks.

    A file elsewhere, /folder/module.py or ../module.py, is imported from its own folder.

    Raises:
        BadInputError: when the module or the function is not there, or the module fails.
    """
    module, _, function = plain(name).partition(":")
    here = str(Path.cwd())
    if (path := Path(name.partition(":")[0])).suffix == ".py" and (path.is_absolute() or ".." in path.parts):
        here, module = str(path.parent.resolve()), path.stem
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise BadInputError(f"{name}: there is no module {error.name} in {here} or where Python looks") from error
    except Exception as error:  # whatever the user's code does
        raise BadInputError(f"{name}: {module} fails with {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise BadInputError(f"{name}: {module} has no function {function}: give MODULE:FUNCTION")
    return found  # type: ignore[no-any-return]


def call(name: str) -> Any:
    """What the function of that name returns.

    Raises:
        BadInputError: as `find` has it, and when the function fails.
    """
    function = find(name)
    try:
        return function()
    except Exception as error:  # whatever the user's code does
        raise BadInputError(f"{name} fails with {type(error).__name__}: {error}") from error
