"""One copy of an environment, whose every word is checked before anybody hears it; here or in a process of its own."""

from __future__ import annotations

import signal
import struct
import warnings
import weakref
import zlib
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pickle import PicklingError
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces.utils import flatten
from gymnasium.wrappers import TimeLimit

from reparam.environments.make import make, spaces_of, title_of
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError, UserError

__all__ = ["Here", "Seat", "Seen", "Workers"]

_LARGEST = float(np.finfo(np.float32).max)


class Seen(NamedTuple):
    """What an environment answered: checked, float32 or uint8, and a running checksum of all it showed in this episode."""

    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    digest: int


class Seat:
    """Copy `copy` of an environment.

    Args:
        name, limit, render: as `make` has them.
        copy: its number, for messages.
    """

    def __init__(self, name: str | Callable[..., Any], limit: int | None, render: bool, copy: int) -> None:
        self.title = title_of(name)
        self.environment = make(name, limit=limit, render=render)
        self.spaces, self._nested = spaces_of(self.environment, self.title)
        self._real = self.spaces.values == "real"
        self._most = 1 if self.spaces.levels is None else self.spaces.levels
        declared = self.environment.observation_space.dtype
        self._dtype = np.dtype(np.float32) if self._nested is not None or declared is None else declared
        takes = self.environment.action_space.dtype
        self._cast = None if takes in (np.float32, np.float64, np.int64) or self.spaces.kind == "discrete" else takes
        self._copy, self._episode, self._step, self._digest = copy, -1, 0, 0

    def about(self) -> tuple[Spaces, int | None]:
        """Its spaces, and the steps after which its episodes are cut short (None: it has no such limit)."""
        inner, limits = self.environment, []
        while inner is not inner.unwrapped:
            if isinstance(inner, TimeLimit):
                limits.append(inner._max_episode_steps)
            inner = inner.env
        return self.spaces, min(limits, default=None)

    def begin(self, episode: int, seed: int) -> Seen:
        """Start the episode of that number from that seed."""
        self._episode, self._step, self._digest = episode, 0, 0
        try:
            came = self.environment.reset(seed=seed)
        except Exception as error:  # whatever the environment does
            raise self._failed("reset", error) from error
        if not (isinstance(came, tuple) and len(came) == 2):
            raise self._wrong(
                "reset", f"returned {_kind(came)}; an observation and a dict of information are wanted, as gymnasium has it"
            )
        return self._seen("reset", came[0], 0.0, False, False)

    def step(self, action: np.ndarray) -> Seen:
        """Do an action, in the environment's units."""
        self._step += 1
        action = action if self._cast is None else action.astype(self._cast)
        try:
            came = self.environment.step(action)
        except Exception as error:  # whatever the environment does
            raise self._failed("step", error) from error
        if not (isinstance(came, tuple) and len(came) == 5):
            old = ": the old interface of gym, which gymnasium replaced" if isinstance(came, tuple) and len(came) == 4 else ""
            raise self._wrong(
                "step",
                f"returned {_kind(came)}{old}; observation, reward, terminated, truncated and a dict of information are wanted",
            )
        observation, reward, terminated, truncated, _ = came
        reward = float(reward) if isinstance(reward, float) else self._number(reward)
        if not -_LARGEST <= reward <= _LARGEST:
            raise self._wrong("step", f"gave a reward of {reward}: it must be finite")
        for name, said in (("terminated", terminated), ("truncated", truncated)):
            if type(said) is not bool and not isinstance(said, np.bool_ | int | np.integer):
                raise self._wrong("step", f"gave {name} as {_kind(said)}: true or false is wanted")
        return self._seen("step", observation, reward, bool(terminated), bool(truncated))

    def again(self, episode: int, seed: int, actions: Sequence[np.ndarray]) -> Seen:
        """Start an episode and do actions of it again, unless it ends before."""
        seen = self.begin(episode, seed)
        for action in actions:
            if seen.terminated or seen.truncated:
                break
            seen = self.step(action)
        return seen

    def frame(self) -> np.ndarray:
        """A picture of now, height x width x 3."""
        try:
            frame = np.asarray(self.environment.render())
        except Exception as error:  # whatever the environment does
            raise self._failed("render", error) from error
        if frame.ndim != 3 or frame.shape[2] != 3:
            raise self._wrong("render", f"gave a picture of shape {frame.shape}; height x width x 3 is wanted")
        return frame

    def close(self) -> None:
        """Let the environment give back what it holds."""
        self.environment.close()

    def _failed(self, what: str, error: Exception) -> Exception:
        if isinstance(error, UserError):
            return error
        return self._wrong(what, f"failed with {type(error).__name__}: {' '.join(str(error).split())}")

    def _seen(self, what: str, observation: Any, reward: float, terminated: bool, truncated: bool) -> Seen:
        shown = self._checked(what, observation)
        said = struct.pack("d??", reward, terminated, truncated)
        self._digest = zlib.crc32(said, zlib.crc32(shown.data, self._digest))
        return Seen(shown, reward, terminated, truncated, self._digest)

    def _checked(self, what: str, observation: Any) -> np.ndarray:
        try:
            given = np.asarray(observation if self._nested is None else flatten(self._nested, observation))
        except Exception as error:  # lists of unequal length, parts that are missing, ...
            raise self._wrong(what, f"gave an observation that is none of its observation_space: {error!r}") from error
        if given.shape != self.spaces.observation:
            raise self._wrong(
                what, f"gave an observation of shape {given.shape}; its observation_space says {self.spaces.observation}"
            )
        if self._nested is None and given.dtype != self._dtype and not self._taken(given.dtype):
            raise self._wrong(what, f"gave an observation of {given.dtype}; its observation_space says {self._dtype}")
        if self._real:
            if given.dtype == np.float32:
                shown = np.ascontiguousarray(given)
            else:
                with np.errstate(over="ignore"):
                    shown = np.ascontiguousarray(given, dtype=np.float32)
            if np.count_nonzero(np.isfinite(shown)) != shown.size:
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(shown))[0])
                raise self._wrong(what, f"gave an observation with {given[where]} at {where}: all of it must be finite")
            return shown
        if (
            given.dtype != np.bool_
            and (given.dtype != np.uint8 or self._most < 255)
            and not (given.min() >= 0 and given.max() <= self._most)
        ):
            raise self._wrong(
                what,
                f"gave an observation from {given.min():g} to {given.max():g}; its observation_space ends at 0 and {self._most}",
            )
        return np.ascontiguousarray(given, dtype=np.uint8)

    def _taken(self, dtype: np.dtype[Any]) -> bool:
        # Bytes may come as any integers, as their range is looked at.
        return np.can_cast(dtype, self._dtype, "same_kind") if self._real else dtype.kind in "biu"

    def _number(self, reward: Any) -> float:
        if np.ndim(reward) == 0:
            try:
                return float(reward)
            except (TypeError, ValueError):
                pass
        raise self._wrong("step", f"gave a reward of {_kind(reward)}: one number is wanted")

    def _wrong(self, what: str, said: str) -> BadInputError:
        where = "before its first episode" if self._episode < 0 else f"episode {self._episode}, step {self._step}"
        return BadInputError(f"{self.title}, copy {self._copy}, {where}: {what} {said}")


def _kind(value: Any) -> str:
    """What messages call a value that is not what was wanted."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"{value!r:.60}" if isinstance(value, str | float | int | None) else f"a {type(value).__name__}"


class Here:
    """The seats one after the other, in this process."""

    def __init__(self, seats: Sequence[Callable[[], Seat]]) -> None:
        self.seats: list[Seat] = []
        try:
            for seat in seats:
                self.seats.append(seat())
        except BaseException:
            self.close()
            raise

    def each(self, calls: Sequence[tuple[str, tuple[Any, ...]] | None]) -> list[Any]:
        """What each seat answers to its call, a method's name and what it takes; None where there is no call."""
        return [None if call is None else getattr(seat, call[0])(*call[1]) for seat, call in zip(self.seats, calls, strict=True)]

    def close(self) -> None:
        """Close all."""
        for seat in self.seats:
            seat.close()


class Workers:
    """The seats each in a process of its own, side by side; the same answers as `Here`.

    gymnasium's AsyncVectorEnv restarts episodes in its workers, from seeds that nobody can choose, and prints what fails there.
    """

    def __init__(self, seats: Sequence[Callable[[], Seat]]) -> None:
        context = get_context()
        self._ends: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._closing = weakref.finalize(self, _dismiss, self._ends, self._processes)
        for seat in seats:
            end, other = context.Pipe()
            # A process that is forked holds our ends of the pipes too; it closes them, to see the end when we are gone.
            ours = [*self._ends, end] if context.get_start_method() == "fork" else []
            process = context.Process(target=_work, args=(other, seat, ours), daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 and later warn of forks beside threads, whose locks a child could need: it runs an environment only.
                warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
                try:
                    process.start()
                except (PicklingError, AttributeError, TypeError) as error:  # where processes are not forked
                    self.close()
                    raise BadInputError(f"the environment cannot go to a process ({error}): name it by MODULE:FUNCTION") from error
            other.close()
            self._ends.append(end)
            self._processes.append(process)

    def each(self, calls: Sequence[tuple[str, tuple[Any, ...]] | None]) -> list[Any]:
        """As `Here` has it. Where several fail, the first one's failure is told."""
        try:
            for end, call in zip(self._ends, calls, strict=True):
                if call is not None:
                    end.send(call)
            answers = [None if call is None else end.recv() for end, call in zip(self._ends, calls, strict=True)]
        except (EOFError, OSError) as error:
            raise BadInputError(
                "a process with a copy of the environment has died, perhaps for want of memory: take fewer copies, or workers=False"
            ) from error
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def close(self) -> None:
        """Close all, and wait for their processes to end."""
        self._closing()


def _work(end: Connection, seat: Callable[[], Seat], others: Sequence[Connection]) -> None:
    for other in others:
        other.close()
    # An interrupt goes to all processes of a terminal: the one that trains saves its state, then it ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    made: Seat | UserError
    try:
        made = seat()
    except UserError as error:
        made = error
    try:
        while True:
            name, given = end.recv()
            try:
                end.send(made if isinstance(made, UserError) else getattr(made, name)(*given))
            except UserError as error:
                end.send(error)
    except (EOFError, OSError):  # the other side is gone
        pass
    if isinstance(made, Seat):
        made.close()


def _dismiss(ends: Sequence[Connection], processes: Sequence[BaseProcess]) -> None:
    for end in ends:
        end.close()
    for process in processes:
        process.join(2.0)
        if process.is_alive():
            process.terminate()
            process.join()
