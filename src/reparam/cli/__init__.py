"""The command line: `reparam COMMAND`, one line for each failure, and an exit code that says which kind it was."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import reparam
from reparam.cli.words import nearest
from reparam.errors import ArtefactError, BadInputError, Interrupted, StorageError, UserError
from reparam.models import MODELS

__all__ = ["main"]

# Each command, with the line that `reparam --help` gives it; its module is imported when it is called for.
_COMMANDS = {
    "train": "train a model, or go on training it: reparam train vae",
    "evaluate": "how well a run's model explains data it was not trained on",
    "sample": "new data from a run's model",
    "reconstruct": "data, and what a run's model makes of them",
    "encode": "the latents of data, as a table",
    "interpolate": "the way between two texts, through the latents of a run's model",
    "impute": "fill in what is missing of data, by a run's model that can",
    "predict": "what a run's model predicts for data, and how sure it is",
    "posterior": "ask a run's graphical model: what is likely, given what is known or done",
    "report": "the page of pictures of a run",
    "list": "the models there are, and what to expect of them",
    "compare": "which gradient estimator should I use? tables and a page",
    "paths": "every distribution, how it is made differentiable, with what bias",
}

# The extra that brings a package, where it is not that of the command line.
_EXTRAS = {"tokenizers": "text", "librosa": "audio", "soundfile": "audio"}

# What torch's allocators say, in errors of no class of their own.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `reparam`; by default those of the process.

    Returns:
        0 when done; 2 for bad input or usage, 3 for a run or checkpoint that cannot be read, 4 for training that diverged, 5 for
        a file that could not be written or memory that ran out, 130 and 143 after SIGINT and SIGTERM, 141 when the reader of
        the output left, 1 for a fault of our own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with _leaving_at_once(), warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _warn
            try:
                _dispatch(words)
            finally:
                sys.stdout.flush()
    except SystemExit as stop:  # --help and --print_config
        return int(stop.code or 0)
    except BrokenPipeError:
        _give_up_output()
        return 141
    except BaseException as error:
        _give_up_output()
        if debug:
            traceback.print_exc()
        code, message = _explain(error)
        if not (_rank() and isinstance(error, BadInputError | ArtefactError | Interrupted)):  # the first process says the same
            _say("error", message)
        return code
    return 0


def _give_up_output() -> None:
    """Let what is still in the buffer go where nothing fails, if nobody takes it: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """Ctrl-C ends the process where it stands; training, which has something to save, sets a handler of its own.

    An exception would land anywhere: inside the import of a compiled module it is lost, or breaks the import.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def leave(number: int, frame: object) -> None:
        os.write(2, b"reparam: error: interrupted\n")
        os._exit(130)

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _dispatch(words: list[str]) -> None:
    command, *rest = words or ["--help"]
    if command in ("--help", "-h"):
        print(_help())
    elif command == "--version":
        print(f"reparam {reparam.__version__}")
    elif command not in _COMMANDS:
        raise BadInputError(f"there is no command {command}{nearest(command, _COMMANDS)}")
    elif command != "train":
        from reparam.cli import dispatch

        dispatch.run(command, rest)
    elif rest[:1] in (["--help"], ["-h"]):
        print(
            f"usage: reparam train MODEL [flags]\n\nModels:\n{_models()}\n\nreparam train MODEL --help lists the flags of a model."
        )
    elif not rest or rest[0].startswith("-"):
        raise BadInputError(f"MODEL is missing: reparam train MODEL [flags], where MODEL is one of {', '.join(MODELS)}")
    elif rest[0] not in MODELS:
        raise BadInputError(f"there is no model {rest[0]}{nearest(rest[0], MODELS)}")
    else:
        from reparam.cli import train

        train.run(rest[0], rest[1:])


def _help() -> str:
    commands = "\n".join(f"  {name:<12} {line}" for name, line in _COMMANDS.items())
    return (
        f"usage: reparam COMMAND [flags]\n\nTrain and use models with differentiable samples inside.\n\n{commands}\n\n"
        "  --help       of a command: its flags\n"
        "  --version    of this program\n"
        "  --debug      with any command: the traceback of an error"
    )


def _models() -> str:
    return "\n".join(f"  {name:<12} {entry.summary}" for name, entry in MODELS.items())


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code of a failure, and what to say of it."""
    if isinstance(error, Interrupted):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, UserError):
        return error.exit_code, str(error)
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").split(".")[0]) != "reparam":
        return BadInputError.exit_code, f"this needs the package {package}: pip install 'reparam[{_EXTRAS.get(package, 'cli')}]'"
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in _OUT_OF_MEMORY)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and out_of_memory):
        return StorageError.exit_code, "memory ran out: ask for less at a time"
    if isinstance(error, OSError):
        return StorageError.exit_code, f"{error.filename or 'the output'}: {error.strerror or error}"
    return 1, f"{type(error).__name__}: {error}; this is a fault of reparam: run again with --debug to see where"


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _say(kind: str, message: Any) -> None:
    """One line on standard error; of several processes, the others say which they are."""
    who = f" (process {_rank()})" if _rank() else ""
    print(f"reparam: {kind}{who}: {' '.join(str(message).split())}", file=sys.stderr)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    if not _rank():
        _say("warning", message)
