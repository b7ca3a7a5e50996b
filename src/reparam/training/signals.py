"""Ctrl-C and SIGTERM while training: the first one asks, the second one insists."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from reparam.errors import Interrupted

__all__ = ["Signals"]


class Signals:
    """While open, `received` is the number of the first SIGINT or SIGTERM, or None; a second one raises `Interrupted`.

    Python delivers signals to the main thread alone; in any other thread this does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted("stopped at once: the last checkpoint is the state to go on from", number)
        self.received = number

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
