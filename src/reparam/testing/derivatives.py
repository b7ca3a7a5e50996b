"""What a path promises of its derivatives: that they are there, right, and the same under every transform."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import TypeVar

import torch
from torch import Tensor

from reparam.noise import Sobol
from reparam.paths import path, rsample
from reparam.testing.subject import Found, Subject, log_density_of_noise, noise_at, unvalidated, worst

__all__ = ["compiled", "derivatives", "implicit_gradient", "slopes_of", "transforms"]


def slopes_of(x: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    if not x.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(x.sum(), leaves, retain_graph=True, allow_unused=True, materialize_grads=True))


def implicit_gradient(s: Subject) -> Found:
    """The gradient of a univariate sample is `-(dF/d theta) / p` at its fixed probability, by differences of the exact F."""
    p = s.one_value_each()
    probabilities = torch.tensor([1e-3, 0.05, 0.3, 0.501, 0.8, 0.97], dtype=torch.float64)
    if p is None or s.probabilities(p.push(p.noise.draw((1,), source=Sobol(0)))) is None:
        yield None, "not a univariate law with one value of noise and a known distribution function"
        return
    leaves = s.leaves()
    p = path(s.make(*leaves))
    eps = noise_at(p.noise.kind, probabilities).reshape(-1, *[1] * len(p.noise.shape)).expand(-1, *p.noise.shape).clone()
    eps.requires_grad_()
    x = p.push(eps)
    found = [slopes_of(row, leaves) for row in x]
    (stretch,) = torch.autograd.grad(x.sum(), eps)
    density = (log_density_of_noise(p.noise.kind, eps).exp() / stretch.abs()).detach()
    for index, value in enumerate(s.parameters):
        came = torch.stack([slopes[index] for slopes in found]).reshape(len(x), -1)
        exact = torch.zeros_like(came)
        for row, element in product(range(len(x)), range(value.numel())):
            below = probabilities[row]
            # Steps that move the probability by a thousandth of the smaller tail: they cross no end of the support.
            shift = 1e-3 * torch.minimum(below, 1 - below)
            exact[row, element] = (
                -_difference(
                    partial(_moved, s, x[row].detach(), index, element),
                    min(
                        float(shift / (density[row] * came[row, element]).abs().max()),
                        1e-2 * (float(value.flatten()[element].abs()) or 1),
                    ),
                )
                .div(_difference(partial(_shifted, s, x[row].detach()), shift / density[row]))
                .sum()
            )
        holds, _, place = worst(came - exact, 1e-5 * exact.abs() + 1e-6 * exact.abs().max())
        yield (
            holds,
            f"parameter {index} at probability {probabilities[place // value.numel()]:.3g}: {float(came.flatten()[place]):.7g}, "
            f"wanted {float(exact.flatten()[place]):.7g}",
        )


def _moved(s: Subject, x: Tensor, index: int, element: int, h: float) -> Tensor:
    """`F(x)` with one element of one parameter moved by `h`."""
    parameters = [p.clone() for p in s.parameters]
    parameters[index].view(-1)[element] += h
    return _known(s.probabilities(x, *parameters))


def _shifted(s: Subject, x: Tensor, h: Tensor) -> Tensor:
    return _known(s.probabilities(x + h))


def _known(probabilities: Tensor | None) -> Tensor:
    if probabilities is None:
        raise ValueError("the distribution function is not known at moved parameters")
    return probabilities


H = TypeVar("H", float, Tensor)


def _difference(f: Callable[[H], Tensor], h: H) -> Tensor:
    """The derivative of `f` at zero, to the fourth order of `h`."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def derivatives(s: Subject) -> Found:
    """Derivatives of `push` in noise and parameters, of first and second order, in both modes, match finite differences."""
    eps = path(s.law()).noise.draw((4,), source=Sobol(3)).requires_grad_()

    def push(eps: Tensor, *parameters: Tensor) -> Tensor:
        return path(s.make(*parameters)).push(eps)

    inputs = (eps, *s.leaves(requires_grad=not s.transported))
    names = {
        "first order, both modes": lambda: torch.autograd.gradcheck(push, inputs, check_forward_ad=True),
        "second order": lambda: torch.autograd.gradgradcheck(push, inputs),
    }
    for name, check in names.items():
        try:
            check()
        except Exception as error:
            yield False, f"{name}: {' '.join(str(error).split())[:300]}"
        else:
            yield True, f"{name}: as differences of push"


def transforms(s: Subject) -> Found:
    """`torch.func.grad`, `jacfwd`, `hessian` and `vmap` agree with autograd; under `vmap` every member has its own fresh noise."""
    leaves = s.leaves()
    parameters = [leaf.detach() for leaf in leaves]
    eps = path(s.law()).noise.draw((4,), source=Sobol(3))
    every = tuple(range(len(parameters)))

    def cost(*parameters: Tensor) -> Tensor:
        return _cost(path(s.make(*parameters)).push(eps))

    def fresh_cost(*parameters: Tensor) -> Tensor:
        return _cost(rsample(s.make(*parameters), (4,)))

    def compare(name: str, found: tuple[Tensor, ...], wanted: list[Tensor]) -> tuple[bool, str]:
        pairs = zip(found, wanted, strict=True)
        close = all(torch.allclose(f, w.expand_as(f), rtol=1e-5, atol=1e-8 + 1e-9 * float(w.abs().max())) for f, w in pairs)
        return close, f"{name} {'agrees' if close else 'does not agree'} with autograd"

    wanted = slopes_of(cost(*leaves), leaves)
    yield compare("grad", torch.func.grad(cost, argnums=every)(*parameters), wanted)
    yield compare("jacfwd", torch.func.jacfwd(cost, argnums=every)(*parameters), wanted)

    def first(parameter: Tensor) -> Tensor:
        return cost(parameter, *parameters[1:])

    bend = torch.autograd.functional.hessian(first, parameters[0])
    yield compare("hessian", (torch.func.hessian(first)(parameters[0]),), [bend])
    with unvalidated():
        batch = [p.expand((3, *p.shape)) for p in parameters]
        yield compare("vmap of grad", torch.func.vmap(torch.func.grad(cost, argnums=every))(*batch), wanted)
        costs = torch.func.vmap(fresh_cost, randomness="different")(*batch)
        yield len(set(costs.tolist())) == 3, "members under vmap draw different samples"
        slopes = torch.func.vmap(torch.func.grad(fresh_cost, argnums=every), randomness="different")(*batch)
        yield all(bool(slope.isfinite().all()) for slope in slopes), "fresh gradients under vmap are finite"


def _cost(x: Tensor) -> Tensor:
    """A number that differs for different samples, on a sphere too."""
    weights = torch.linspace(1, 2, x.numel(), dtype=x.dtype, device=x.device).reshape(x.shape)
    return (weights * (x**2 + x)).sum()


def compiled(s: Subject) -> Found:
    """`torch.compile` makes one graph of it, with the same samples and gradients."""
    backend = s.backend
    if backend is None:
        yield None, "takes seconds: ask for it with backend='aot_eager'"
        return
    torch._dynamo.reset()
    with unvalidated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        leaves = s.leaves(torch.float32 if s.single else torch.float64)
        eps = path(s.make(*leaves)).noise.draw((4,), source=Sobol(3))

        def push(eps: Tensor, *parameters: Tensor) -> Tensor:
            return path(s.make(*parameters)).push(eps)

        def fresh(*parameters: Tensor) -> Tensor:
            return rsample(s.make(*parameters), (4,))

        found, wanted = torch.compile(push, fullgraph=True, backend=backend)(eps, *leaves), push(eps, *leaves)
        same = torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)
        yield same, f"compiled samples are {'those' if same else 'not those'} of the uncompiled path"
        weights = torch.linspace(-1, 1, wanted.numel(), dtype=wanted.dtype).reshape(wanted.shape)
        for index, (a, b) in enumerate(zip(slopes_of(weights * found, leaves), slopes_of(weights * wanted, leaves), strict=True)):
            same = torch.allclose(a, b, rtol=1e-3, atol=1e-4)
            yield same, f"compiled gradient in parameter {index} is {'that' if same else 'not that'} of the uncompiled path"
        x = torch.compile(fresh, fullgraph=True, backend=backend)(*leaves)
        yield x.shape == wanted.shape and bool(x.isfinite().all()), "a fresh draw compiles"
