"""Failures that end a command, each with its exit code; the message is the one line that the user sees."""

from __future__ import annotations

__all__ = ["ArtefactError", "BadInputError", "DivergedError", "Interrupted", "StorageError", "UserError"]


class UserError(Exception):
    """A failure that the user can mend: the message says what came, what was wanted and what to do."""

    exit_code = 1


class BadInputError(UserError, ValueError):
    """Bad data, configuration or usage."""

    exit_code = 2


class ArtefactError(UserError):
    """A checkpoint or run that cannot be read."""

    exit_code = 3


class DivergedError(UserError):
    """Training that left the finite numbers, stopped before the damage was saved."""

    exit_code = 4


class StorageError(UserError, OSError):
    """A file that could not be written, or memory that ran out; what was saved before is whole."""

    exit_code = 5


class Interrupted(KeyboardInterrupt):
    """Training that a signal stopped: its state was saved, unless the message says otherwise."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal
