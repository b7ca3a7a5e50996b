"""What a path promises, one function a property; each looks at a subject and says what it found."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reparam.noise import UNIFORM, Antithetic, Replay, Sobol, Source
from reparam.paths import Path, path, rsample
from reparam.paths.parameters import map_parameters
from reparam.paths.path import HALF
from reparam.stats import law_tests
from reparam.testing.derivatives import compiled, derivatives, implicit_gradient, slopes_of, transforms
from reparam.testing.subject import Found, Property, Subject, log_density_of_noise, noise_at, unvalidated, worst

__all__ = ["PATH_PROPERTIES"]

_FLOATS = (torch.float32, torch.float64)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shapes(s: Subject) -> Found:
    """Samples are `rows + batch + event`, noise is `rows + noise`, under expand and for empty batches."""
    d = s.law()
    count = 0
    for law in (d, d.expand((2, 5, *d.batch_shape)), d.expand((0, *d.batch_shape))):
        p = path(law)
        for rows in ((), (3,), (4, 1), (0,)):
            wanted = rows + law.batch_shape + law.event_shape
            eps = p.noise.draw(rows, source=Sobol(0))
            x = p.push(eps)
            for what, came in (("push gives", x.shape), ("rsample gives", rsample(law, rows).shape)):
                if came != wanted:
                    yield False, f"{what} {tuple(came)} for rows {rows} of batch {tuple(law.batch_shape)}, wanted {tuple(wanted)}"
            if p.pull is not None and p.pull(x).shape != eps.shape:
                yield False, f"pull gives {tuple(p.pull(x).shape)} for rows {rows}, wanted {tuple(eps.shape)}"
            count += 1
    yield True, f"{count} combinations of rows and batch"


def expand(s: Subject) -> Found:
    """An expanded law is the same law: at the same noise the same samples, of the same density."""
    d = s.law()
    wide = d.expand((3, *d.batch_shape))
    eps = path(d).noise.draw((3,), source=Sobol(0))
    x, y = path(d).push(eps), path(wide).push(eps)
    holds, ratio, _ = worst(x - y, 1e-9 * (1 + x.abs()))
    yield holds, f"samples differ by {ratio * 1e-9:.2g} of their size, wanted 0"
    found, wanted = wide.log_prob(x), d.log_prob(x)
    holds, ratio, _ = worst(found - wanted, 1e-9 * (1 + wanted.abs()))
    yield holds, f"log densities differ by {ratio * 1e-9:.2g} of their size, wanted 0"


def _sources(s: Subject) -> dict[str, Callable[[], Source]]:
    return {
        "Fresh": lambda: s.fresh(),
        "Antithetic": lambda: Antithetic(s.fresh()),
        "Sobol": lambda: Sobol(seed=s.seed),
        "Antithetic(Sobol)": lambda: Antithetic(Sobol(seed=s.seed)),
    }


def sources(s: Subject) -> Found:
    """Every source serves; the same seed gives the same sample, bit for bit, and torch's own generator is left alone."""
    state = torch.get_rng_state()
    d = s.law(torch.float32 if s.single else torch.float64)
    p = path(d)
    for name, source in _sources(s).items():
        x = rsample(d, (65,), source=source())
        if not x.isfinite().all():
            yield False, f"{name}: {int((~x.isfinite()).sum())} of {x.numel()} values are not finite"
        elif not torch.equal(x, rsample(d, (65,), source=source())):
            yield False, f"{name}: the same seed gives another sample"
        elif name != "Fresh" or p.sample is None:
            eps = p.noise.draw((65,), source=source())
            if not torch.equal(x, rsample(d, (65,), source=Replay(eps))):
                yield False, f"{name}: its noise, replayed, gives another sample"
    if not torch.equal(torch.get_rng_state(), state):
        yield False, "torch's own generator moved although a source was given"
        torch.set_rng_state(state)
    yield True, "Fresh, Antithetic, Sobol and Replay"


def rows(s: Subject) -> Found:
    """Each row of samples is made of its own row of noise, and of no other: rows that move with the noise, and differ."""
    p = path(s.law())
    eps = p.noise.draw((200,), source=s.fresh())
    order = torch.randperm(200, generator=torch.Generator().manual_seed(s.seed))[:90]
    x = p.push(eps)
    yield torch.equal(x, p.push(eps)), "the same noise gives the same sample, bit for bit"
    holds, ratio, _ = worst(p.push(eps[order]) - x[order], 1e-9 * (1 + x[order].abs()))
    yield holds, f"a part of the noise, shuffled, gives that part of the samples, but for {ratio * 1e-9:.2g} of their size"
    distinct = len(torch.unique(x.reshape(200, -1), dim=0))
    yield distinct >= 190, f"{distinct} distinct samples of 200, wanted 190 at least"


def inverse(s: Subject) -> Found:
    """`pull(push(eps)) = eps`, to 1e-6 in float64 and to 2e-2 in float32, where samples near a bound forget their noise."""
    for dtype, relative, absolute in ((torch.float64, 1e-6, 1e-9), (torch.float32, 2e-2, 1e-4)):
        if dtype == torch.float32 and not s.single:
            continue
        p = path(s.law(dtype))
        if p.pull is None:
            yield None, "the path has no inverse"
            return
        eps = p.noise.draw((2000,), source=s.fresh())
        x = p.push(eps)
        if x.dtype != dtype:
            yield False, f"samples of {_name(dtype)} parameters are {_name(x.dtype)}"
        back = p.pull(x)
        holds, ratio, at = worst(back - eps, absolute + relative * eps.abs())
        yield (
            holds,
            f"{_name(dtype)}: pull(push({float(eps.flatten()[at]):.6g})) = {float(back.flatten()[at]):.6g}, "
            f"{ratio:.2g} of the error allowed",
        )


def law(s: Subject) -> Found:
    """Samples follow the law: Kolmogorov distance, cells with both tails, four moments of normal scores."""
    if s.uniforms(path(s.law()).push(path(s.law()).noise.draw((2,), source=Sobol(0)))) is None:
        yield None, "no distribution function to compare with: give cdf=, or scores= for a vector law"
        return
    for dtype in _FLOATS:
        if dtype == torch.float64 or s.single:
            p = path(s.law(dtype))
            yield from follows(s, p.push(p.noise.draw((s.draws,), source=s.fresh())), dtype)


def follows(s: Subject, x: Tensor, dtype: torch.dtype) -> Found:
    u = s.uniforms(x)
    if u is not None:
        for verdict in law_tests(u):
            yield bool(verdict), f"{_name(dtype)}: {verdict}, n = {u.numel()}", verdict.alpha


def fresh_sampler(s: Subject) -> Found:
    """The faster sampler has the law of `push`, and at equal values its gradient."""
    if path(s.law()).sample is None:
        yield None, "the path has no sampler of its own for fresh noise"
        return
    for dtype in _FLOATS:
        if dtype == torch.float32 and not s.single:
            continue
        leaves = s.leaves(dtype)
        p = path(s.make(*leaves))
        x = p.draw((s.draws,), source=s.fresh())
        if not torch.equal(p.draw((5,), source=s.fresh()), p.draw((5,), source=s.fresh())):
            yield False, f"{_name(dtype)}: the same generator gives another sample"
        yield from follows(s, x.detach(), dtype)
        if p.pull is None or dtype == torch.float32:
            continue
        x = x[:1000]
        with torch.no_grad():
            eps = p.pull(x.detach())
        weights = torch.linspace(-1, 1, x.numel(), dtype=dtype).reshape(x.shape) / x.detach().abs().clamp(min=1)
        at = p.push(eps)
        for index, (found, wanted) in enumerate(zip(slopes_of(weights * x, leaves), slopes_of(weights * at, leaves), strict=True)):
            holds, ratio, _ = worst(found - wanted, 1e-9 + 1e-6 * wanted.abs())
            yield holds, f"gradient in parameter {index}: {ratio:.2g} of the error allowed beside that of push at equal values"


def mirrored(s: Subject) -> Found:
    """In a univariate law opposite noise gives opposite quantiles, and 1024 Sobol points one sample in each of 1024 equal cells."""
    p = s.one_value_each()
    if p is None:
        yield None, "not a univariate law with one value of noise"
        return
    x = p.push(p.noise.draw((2000,), source=Antithetic(s.fresh())))
    even = p.push(p.noise.draw((1024,), source=Sobol(seed=s.seed + 5)))
    u, v = s.probabilities(x), s.probabilities(even)
    if u is None or v is None:
        rank = x.argsort(0).argsort(0).double()
        holds, _, _ = worst(rank[:1000] + rank[1000:] - 1999, 1e-9)
        yield holds, "mirrored noise gives mirrored ranks"
        return
    holds, ratio, _ = worst(u[:1000] + u[1000:] - 1, 1e-7)
    yield holds, f"F(x) + F(mirrored x) = 1 but for {ratio * 1e-7:.2g}, wanted 1e-7"
    cells = (v * 1024).long().clamp(0, 1023).sort(0).values
    filled = (cells == torch.arange(1024).reshape(-1, *[1] * (cells.dim() - 1))).all()
    yield bool(filled), "1024 Sobol points lie in 1024 equal cells"


def density(s: Subject) -> Found:
    """Each sample has the density of its noise over the Jacobian of `push`: `log p(x) = log p(eps) - log |dx/d eps|`.

    Without any randomness: it sees a wrong scale, constant or Jacobian in one sample, to 1e-6.
    """
    leaves = s.leaves(requires_grad=False)
    d = s.make(*leaves)
    p = path(d)
    n = d.event_shape.numel()
    univariate = s.one_value_each() is not None
    if not univariate and (p.pull is None or p.noise.shape.numel() not in (n, n - 1)):
        yield None, f"{p.noise.shape.numel()} values of noise for {n} of a sample: no Jacobian to compare with, or no inverse"
        return
    eps = p.noise.draw((1000 if univariate else 12,), source=s.fresh()).requires_grad_()
    x = p.push(eps)
    at = x.detach().requires_grad_()
    found = d.log_prob(at)
    (slope,) = torch.autograd.grad(found.sum(), at) if found.requires_grad else (torch.zeros_like(at),)
    # What the rounding of x alone moves the density by.
    rounding = (slope * at).abs().nan_to_num().detach() * 32 * torch.finfo(at.dtype).eps
    found = found.detach()
    base = log_density_of_noise(p.noise.kind, eps.detach())
    if univariate:
        (stretch,) = torch.autograd.grad(x.sum(), eps)
        wanted = base - stretch.abs().log()
    elif d.batch_shape or p.noise.shape.numel() > 64:
        yield None, "a batch of vectors, or long ones: give one short law"
        return
    else:
        k = p.noise.shape.numel()
        # A point of a simplex has one coordinate fewer than it has values.
        matrix = torch.stack([_jacobian(p, row)[:k] for row in eps.detach()])
        wanted = base.reshape(len(eps), -1).sum(-1) - torch.linalg.slogdet(matrix).logabsdet
        rounding = rounding.reshape(len(eps), -1).sum(-1)
    holds, ratio, place = worst(found - wanted, 1e-6 * (1 + wanted.abs()) + rounding)
    yield (
        holds,
        f"log_prob = {float(found.flatten()[place]):.7g}, by the change of variables {float(wanted.flatten()[place]):.7g}: "
        f"{ratio:.2g} of the error allowed",
    )


def _jacobian(p: Path, eps: Tensor) -> Tensor:
    """`d push / d eps` of one draw, as a matrix."""
    jacobian: Tensor = torch.autograd.functional.jacobian(p.push, eps)
    return jacobian.reshape(-1, eps.numel())


def support(s: Subject) -> Found:
    """Own samples are finite, inside the support, and have a finite log density."""
    for dtype in _FLOATS:
        if dtype == torch.float32 and not s.single:
            continue
        d = s.law(dtype)
        x = rsample(d, (min(s.draws, 50_000),), source=s.fresh())
        outside = int((~(d.support.check(x))).sum())  # type: ignore[union-attr]
        yield outside == 0 and bool(x.isfinite().all()), f"{_name(dtype)}: {outside} of {len(x)} samples outside the support"
        with unvalidated():
            bad = int((~d.log_prob(x).isfinite()).sum())
        yield bad == 0, f"{_name(dtype)}: the log density of {bad} of {len(x)} samples is not finite"


def float32(s: Subject) -> Found:
    """Single precision gives the samples of double precision from the same noise, out to tail probabilities of 1e-12."""
    if not s.single:
        yield None, "float32 does not hold this law"
        return
    narrow = s.leaves(torch.float32, requires_grad=False)
    p, exact = path(s.make(*narrow)), path(s.make(*(leaf.double() for leaf in narrow)))
    eps = p.noise.draw((1000,), source=s.fresh())
    if s.one_value_each() is not None and p.noise.kind is not UNIFORM:
        tails = torch.logspace(-12, -3, 19, dtype=torch.float64)
        near = noise_at(p.noise.kind, tails)
        far = torch.cat([near, -near]) if p.noise.kind.low == -math.inf else torch.cat([near, -tails.log()])
        ends = far.to(torch.float32).reshape(-1, *[1] * len(p.noise.shape))
        eps = torch.cat([eps, ends.expand(-1, *p.noise.shape)])
    wide = eps.double().requires_grad_()
    x, wanted = p.push(eps), exact.push(wide)
    # The sample moves with the rounding of its noise and of itself; a factor for what happens on the way.
    moved = torch.zeros_like(wanted)
    if wanted.shape == wide.shape:
        (slope,) = torch.autograd.grad(wanted.sum(), wide)
        moved = (slope * wide).abs().detach()
    wanted = wanted.detach()
    middle = float(wanted.abs().median())
    holds, ratio, at = worst(x.double() - wanted, 1e-4 * (wanted.abs() + moved + 1e-2 * middle) + torch.finfo(torch.float32).tiny)
    yield (
        holds and x.dtype == torch.float32,
        f"{_name(x.dtype)} sample {float(x.flatten()[at]):.7g}, in float64 {float(wanted.flatten()[at]):.7g}: "
        f"{ratio:.2g} of the error allowed",
    )


def half_precision(s: Subject) -> Found:
    """Half precision is single precision, rounded once and into the support."""
    if not s.half:
        yield None, "half precision does not hold this law"
        return
    for dtype in (torch.bfloat16, torch.float16):
        narrow = s.leaves(dtype, requires_grad=False)
        try:
            d = s.make(*narrow)
        except NotImplementedError as error:
            yield None, f"{_name(dtype)}: the class does not take it: {error}"
            continue
        p = path(d)
        eps = p.noise.draw((10_000,), source=s.fresh())
        wide = path(map_parameters(d, lambda t: t.float() if t.dtype in HALF else t)).push(eps)
        x = p.push(eps)
        allowed = 2 * torch.finfo(dtype).eps * wide.abs() + torch.finfo(dtype).tiny
        share = float((x.float().sub(wide).abs() <= allowed).float().mean())
        inside = bool(d.event_shape) or bool(d.support.check(x).all())  # type: ignore[union-attr]
        yield (
            x.dtype == dtype and p.noise.dtype == torch.float32 and share > 0.999 and inside and bool(x.isfinite().all()),
            f"{_name(dtype)}: samples are {_name(x.dtype)}, {share:.1%} within rounding of float32, "
            f"{'all' if inside else 'not all'} in the support",
        )


PATH_PROPERTIES: tuple[Property, ...] = (
    shapes, expand, sources, rows, inverse, law, fresh_sampler, mirrored, density, support,
    implicit_gradient, derivatives, transforms, float32, half_precision, compiled,
)  # fmt: skip
