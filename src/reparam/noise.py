"""Noise without parameters: what a draw is made of, and the sources it comes from.

A [`Noise`][reparam.noise.Noise] says what one draw needs: a kind, a shape, a dtype, a device. A
[`Source`][reparam.noise.Source] turns that request, for any number of rows, into a tensor and nothing else.

Three kinds serve every path. The exponential one is the quantile noise: for a law with distribution function F,
`x = F^{-1}(1 - exp(-eps))` has `-log P(X > x) = eps`, and a float holds both small `eps` (the lower tail) and large
`eps` (the upper tail) to full relative precision, which a uniform number near 1 does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

__all__ = [
    "EXPONENTIAL",
    "NORMAL",
    "UNIFORM",
    "Antithetic",
    "Fresh",
    "Kind",
    "Noise",
    "Replay",
    "Sobol",
    "Source",
    "reflect_exponential",
]

# Half of the spacing of the lattice that 53-bit uniforms live on: what a zero among them stands for.
_HALF_STEP = 2.0**-54


@dataclass(frozen=True)
class Kind:
    """A parameter-free base law.

    Attributes:
        name: what messages call it.
        quantile: inverse distribution function, on float64 probabilities in the open unit interval.
        reflect: maps the quantile at `p` to the quantile at `1 - p`, in the noise's own dtype.
        low, high: the ends of the values, which are not among them.
    """

    name: str
    quantile: Callable[[Tensor], Tensor]
    reflect: Callable[[Tensor], Tensor]
    low: float = -math.inf
    high: float = math.inf

    def __repr__(self) -> str:
        return self.name.upper()


def reflect_exponential(eps: Tensor) -> Tensor:
    """`-log(1 - exp(-eps))`, which swaps the two tails of exponential noise, exact in both.

    Source: Maechler, "Accurately computing log(1 - exp(-|a|))" (2012).
    """
    small = eps < math.log(2.0)
    # Each branch sees only arguments it can bear, so that no infinite derivative leaks through `where`.
    near = torch.where(small, eps, 1.0)
    far = torch.where(small, 1.0, eps)
    return -torch.where(small, torch.log(-torch.expm1(-near)), torch.log1p(-torch.exp(-far)))


def _open(u: Tensor) -> Tensor:
    """Keep uniforms inside (0, 1), whatever rounding to their dtype did."""
    info = torch.finfo(u.dtype)
    return u.clamp(info.tiny, 1.0 - info.eps / 2)


NORMAL = Kind("normal", torch.special.ndtri, torch.neg)
UNIFORM = Kind("uniform", lambda p: p, lambda u: _open(1.0 - u), 0.0, 1.0)
EXPONENTIAL = Kind("exponential", lambda p: torch.log1p(-p).neg_(), reflect_exponential, 0.0)


class Source(Protocol):
    """Anything that can answer a request for noise.

    Attributes:
        independent: whether the rows of one draw are independent of each other, as estimators that compare a row with the
            others need. A source that does not say is taken to be.
    """

    independent: ClassVar[bool] = True

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        """Noise of shape `rows + noise.shape`, with the requested kind, dtype and device."""
        ...


@dataclass(frozen=True)
class Noise:
    """What one draw needs: `shape` values of a `kind`, as `dtype` on `device`.

    Example:
        >>> import torch
        >>> from reparam.noise import NORMAL, Noise, Sobol
        >>> eps = Noise(NORMAL, torch.Size([3])).draw(8, source=Sobol(seed=0))
        >>> eps.shape
        torch.Size([8, 3])
    """

    kind: Kind
    shape: torch.Size
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def draw(self, rows: int | tuple[int, ...] = (), *, source: Source | None = None) -> Tensor:
        """Noise of shape `rows + self.shape` from `source` (fresh noise by default)."""
        given = as_source(source)
        return (_FRESH if given is None else given).draw(self, as_rows(rows, self.shape))


def as_source(source: Source | None) -> Source | None:
    """`source`, refused when it is none; `None` for fresh noise from torch's default generator, however that was asked for."""
    if source is None or (isinstance(source, Fresh) and source.generator is None):
        return None
    if isinstance(source, type) or not hasattr(source, "draw"):
        raise TypeError(
            f"{source!r} is no noise source: pass one such as rp.Sobol(seed=0), or rp.Fresh(generator) for a torch.Generator"
        )
    return source


def as_rows(rows: int | tuple[int, ...], each: torch.Size) -> torch.Size:
    """`rows` as a shape, refused before anything is allocated when so many values of shape `each` cannot be."""
    try:
        size = torch.Size(rows if isinstance(rows, (tuple, list)) else (rows,))
    except TypeError:
        size = None
    if size is None or isinstance(rows, bool):  # torch takes a bool for an integer
        raise TypeError(f"the rows to draw are given as {rows!r}; pass an integer or a tuple of integers")
    # 2^59 values of eight bytes and a factor for work space are more than 64-bit addresses reach.
    if size and (min(size) < 0 or math.prod(size) * math.prod(each) > 2**59):
        raise ValueError(
            f"{tuple(size)} rows of shape {tuple(each)} were asked for; rows are not negative and below 2^59 values in all"
        )
    return size


def _finish(kind: Kind, p: Tensor, noise: Noise) -> Tensor:
    """Turn float64 probabilities in (0, 1) into noise of the requested dtype and device."""
    eps = kind.quantile(p).to(device=noise.device, dtype=noise.dtype)
    if kind is UNIFORM:
        return _open(eps)
    # The least exponential noise is 2^-54, which float16 rounds to zero.
    return eps.clamp(min=torch.finfo(eps.dtype).tiny) if kind is EXPONENTIAL else eps


def readable(value: Tensor) -> bool:
    """Whether the numbers of `value` can be looked at now: on the CPU, outside `vmap`, `grad` and tracing."""
    return (
        value.is_cpu
        and type(value) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not is_functorch_wrapped_tensor(value)
    )


@dataclass(frozen=True)
class Fresh:
    """Independent noise from torch's generator, or from the one that is given.

    Normal noise is `torch.randn`, which in float32 ends at 5.77 on the CPU. A generator there keeps the low 32 bits of its seed.
    `torch.compile` cannot trace a generator that is given: draw the noise outside and pass it in, as a tensor for `path(d).push`
    or as `Replay`.

    Args:
        generator: a `torch.Generator` on the device of the parameters. `None` is torch's default generator of that device.

    Raises:
        ValueError: when the generator lives on another device than the requested noise.
    """

    independent: ClassVar[bool] = True
    generator: torch.Generator | None = None

    def generator_on(self, device: torch.device) -> torch.Generator | None:
        """The generator, refused when it is on another device."""
        if self.generator is not None and not _same_device(self.generator.device, device):
            raise ValueError(
                f"the generator is on {self.generator.device}, the parameters are on {device}: "
                f"make it with torch.Generator(device={str(device)!r})"
            )
        return self.generator

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        self.generator_on(noise.device)
        shape = rows + noise.shape
        if noise.kind is NORMAL:
            return torch.randn(shape, generator=self.generator, dtype=noise.dtype, device=noise.device)
        # 53 bits whatever the dtype: float32 uniforms have steps of 2^-24, which cuts tails at 16.6 (Gumbel, Laplace, ...).
        u = torch.rand(shape, generator=self.generator, dtype=torch.float64, device=noise.device)
        return _finish(noise.kind, u.clamp(min=_HALF_STEP), noise)


_FRESH = Fresh()


def _same_device(a: torch.device, b: torch.device) -> bool:
    # "cuda" and "cuda:0" are one device unless another index is current.
    if a.type != b.type or a.type == "cpu":
        return a.type == b.type
    current = torch.accelerator.current_device_index()
    return (current if a.index is None else a.index) == (current if b.index is None else b.index)


@dataclass(frozen=True)
class Antithetic:
    """Rows in mirrored pairs: row `i + ceil(n/2)` is row `i` at the opposite quantile; of an odd number the middle one is alone.

    Lowers the variance of gradients of location parameters and of any monotone cost; raises that of scale parameters
    of even costs, whose two rows are copies of each other.

    Args:
        source: where the first half comes from; fresh noise by default.
    """

    independent: ClassVar[bool] = False
    source: Source | None = None

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        n = math.prod(rows)
        half = noise.draw(n - n // 2, source=self.source)
        return torch.cat([half, noise.kind.reflect(half[: n // 2])]).reshape(rows + noise.shape)


@lru_cache(maxsize=8)  # a lattice can take hundreds of megabytes
def _sobol_lattice(dimension: int, seed: int, rows: int) -> Tensor:
    """The first points of a matrix-scrambled Sobol sequence, as 30-bit integers."""
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)
    return (engine.draw(rows, dtype=torch.float64) * 2**30).to(torch.int64)


class Sobol:
    """Rows from a scrambled Sobol sequence: one low-discrepancy point of dimension `noise.shape.numel()` a row.

    Each draw is shifted anew (a random digital shift of a matrix-scrambled sequence), so that every row is exactly uniform and
    estimates are unbiased, and its rows are shuffled, so that the joint law of successive draws, of several random nodes or
    several steps, is that of independent ones. Use powers of two for the number of rows.

    The points are made on the CPU, with state: `torch.compile` cannot trace a draw, and under `torch.func.vmap` all members share
    one, with `randomness="same"`. Draw the noise outside there, and pass it in.

    Args:
        seed: fixes the scrambling and the shifts, from 0 to 2^64 - 1; the same seed and the same sequence of draws give the
            same noise.

    Raises:
        TypeError: for a seed that is not an integer.
        ValueError: for a seed out of range; for several rows of more than 21201 values, the limit of torch's direction numbers.

    Source: Owen (1997), "Scrambled net variance for integrals of smooth functions"; Matousek (1998).
    """

    independent: ClassVar[bool] = False
    MAX_DIMENSION = torch.quasirandom.SobolEngine.MAXDIM

    def __init__(self, seed: int) -> None:
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
            raise TypeError(f"the seed of a Sobol source is {seed!r}; it must be an integer")
        if not 0 <= seed < 2**64:
            raise ValueError(f"the seed of a Sobol source is {seed}; it must lie between 0 and 2^64 - 1")
        self.seed = int(seed)
        # Torch's generators on the CPU take 32 bits of a seed: two of them hold all of it.
        self._scrambling, shifts = np.random.SeedSequence(self.seed).generate_state(2).tolist()
        self._shifts = torch.Generator("cpu").manual_seed(shifts)

    def __repr__(self) -> str:
        return f"Sobol(seed={self.seed})"

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        dimension, n = math.prod(noise.shape), math.prod(rows)
        if dimension > self.MAX_DIMENSION and n > 1:
            raise ValueError(
                f"{n} rows of {dimension} values were asked for, and Sobol sequences have at most {self.MAX_DIMENSION} dimensions: "
                "use Fresh() or Antithetic(), or give the batch its own rows"
            )
        if n == 0 or dimension == 0:
            return torch.empty(rows + noise.shape, dtype=noise.dtype, device=noise.device)
        shift = torch.randint(2**30, (dimension,), generator=self._shifts, device="cpu")
        # The digits below 2^-30 are uniform: the point is spread over its cell, so it is never 0 and both tails are whole.
        below = torch.rand((n, dimension), generator=self._shifts, dtype=torch.float64, device="cpu")
        # Unshuffled, two draws of one graph would differ by a constant shift and fill no square.
        order = torch.randperm(n, generator=self._shifts, device="cpu")
        # One point alone is its shift: it needs no lattice, which for many dimensions takes long to make.
        points = _sobol_lattice(dimension, self._scrambling, n)[order] ^ shift if n > 1 else shift
        p = (points + below) * 2.0**-30
        return _finish(noise.kind, p.clamp(_HALF_STEP, 1 - 2.0**-53), noise).reshape(rows + noise.shape)


@dataclass(frozen=True)
class Replay:
    """The noise that is given, for replaying a draw or for common random numbers.

    Args:
        eps: noise of shape `rows + noise.shape`.

    Raises:
        ValueError: when a draw asks for another shape, dtype or device than that of `eps`, or for a kind of noise that does not
            take its values (which are looked at on the CPU only).
    """

    independent: ClassVar[bool] = True
    eps: Tensor

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        came = (self.eps.shape, self.eps.dtype, self.eps.device.type)
        wanted = (rows + noise.shape, noise.dtype, noise.device.type)
        if came != wanted:
            raise ValueError(
                f"the replayed noise has shape {tuple(came[0])}, {came[1]} on {came[2]}; this draw needs {noise.kind.name} noise "
                f"of shape {tuple(wanted[0])}, {wanted[1]} on {wanted[2]}"
            )
        if self.eps.numel() and readable(self.eps):
            low, high = (end.item() for end in self.eps.detach().aminmax())
            if not (noise.kind.low < low and high < noise.kind.high):
                raise ValueError(
                    f"the replayed noise lies between {low:g} and {high:g}; {noise.kind.name} noise lies "
                    f"between {noise.kind.low:g} and {noise.kind.high:g}, ends left out"
                )
        return self.eps
