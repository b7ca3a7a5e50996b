"""`reparam paths`: every class is there, and what is said of it holds for its example."""

import json
import re
import time

import pytest
import torch
import torch.distributions as td
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

import reparam as rp
from reparam import distributions
from reparam.cli.examples import classes, example
from reparam.cli.paths import rows
from reparam.paths.parameters import map_parameters

CLASSES = list(classes())
TABLE = {row.name: row for row in rows()}
WITH_PATH = [cls for cls in CLASSES if TABLE[cls.__name__].how != "none"]
DISCRETE = {
    "Bernoulli", "Binomial", "Categorical", "Geometric", "KSubset", "Multinomial", "NegativeBinomial", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "PerturbAndMAP", "PlackettLuce", "Poisson",
}  # fmt: skip


def name(cls):
    return cls.__name__


def below(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from below(sub)


def test_every_class_is_in_the_table():
    there = {cls for cls in below(td.Distribution) if cls.__module__.startswith(("torch.distributions", "reparam.distributions"))}
    there = {cls for cls in there if "_reparameterized" not in vars(cls)}
    for abstract in (td.ExponentialFamily, distributions.Discrete, distributions.Law, distributions.Univariate):
        there.remove(abstract)
    assert set(CLASSES) == there
    assert {LogitRelaxedBernoulli, ExpRelaxedCategorical, td.VonMises, distributions.TruncatedNormal} <= there
    assert list(TABLE) == [row.name for row in rows()]
    assert len(TABLE) == len(CLASSES)


def test_everything_continuous_has_a_path():
    assert {row.name for row in TABLE.values() if row.how == "none"} == DISCRETE


def test_there_are_more_than_the_62_of_tensorflow_probability():
    assert len(WITH_PATH) > 62


def with_leaves(d, leaves=None):
    """The distribution with its floating-point tensors in double precision as leaves, or as those that are given, in order."""
    found, given = [], iter(leaves or ())

    def leaf(value):
        if not value.is_floating_point():
            return value
        found.append(value.detach().double().requires_grad_() if leaves is None else next(given))
        return found[-1]

    return map_parameters(d, leaf), found


@pytest.mark.parametrize("cls", WITH_PATH, ids=name)
def test_the_example_has_what_the_table_says(cls):
    row = TABLE[cls.__name__]
    assert row.package == cls.__module__.partition(".")[0]
    assert type(example(cls)) is cls
    d, _ = with_leaves(example(cls))
    p = rp.path(d)
    eps = p.noise.draw((2,), source=rp.Sobol(0)).requires_grad_()
    x = p.push(eps)
    assert x.shape == (2, *d.batch_shape, *d.event_shape)
    assert d.support.check(x).all()
    # The column of noise: "3 normal", "5 normal for 3", "none".
    count, kind, _, size = (row.noise + " - - -").split()[:4]
    assert p.noise.shape.numel() == (0 if count == "none" else int(count))
    if kind != "-":
        assert kind == p.noise.kind.name
        assert x[0].numel() == int(count if size == "-" else size)


# Their gradient is that of each component beside the sum of the others: right in expectation, and not the derivative of `push`.
IN_EXPECTATION = ("Dirichlet", "LogDirichlet")


@pytest.mark.parametrize("cls", [cls for cls in WITH_PATH if cls.__name__ not in IN_EXPECTATION], ids=name)
def test_second_derivatives_are_right(cls):
    assert TABLE[cls.__name__].second == "yes"
    # No path sees the template: what a distribution computes when it is asked for becomes one of its tensors.
    template, leaves = with_leaves(example(cls))

    def push(eps, *moved):
        return rp.path(with_leaves(template, moved)[0]).push(eps)

    eps = rp.path(example(cls)).noise.draw((1,), source=rp.Sobol(0)).double().requires_grad_()
    used = torch.autograd.grad(push(eps, *leaves).sum(), leaves, allow_unused=True)
    inputs = (eps, *(leaf if slope is not None else leaf.detach() for leaf, slope in zip(leaves, used, strict=True)))
    assert torch.autograd.gradcheck(push, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(push, inputs, fast_mode=True)


@pytest.mark.parametrize("name", IN_EXPECTATION)
def test_second_derivatives_are_right_in_expectation(name):
    """Of E[x_i^2] = a_i (a_i + 1) / (A (A + 1)): 6.1 standard errors of 16 estimates, a false alarm in 1e-6 by Student's t."""
    a = torch.tensor([1.4, 0.9, 2.2], dtype=torch.float64)

    def moment(a):
        return (a * (a + 1) / (a.sum() * (a.sum() + 1)))[0]

    def estimate(a, seed):
        p = rp.path(vars(distributions).get(name, td.Dirichlet)(a))
        x = p.push(p.noise.draw((1024,), source=rp.Sobol(seed)))
        return ((x.exp() if name == "LogDirichlet" else x)[:, 0] ** 2).mean()

    found = torch.stack([torch.autograd.functional.hessian(lambda a, seed=seed: estimate(a, seed), a) for seed in range(16)])
    deviation = found.std(0) / 4
    assert deviation.max() < 0.01  # of second derivatives of about 0.1
    assert ((found.mean(0) - torch.autograd.functional.hessian(moment, a)).abs() < 6.1 * deviation).all()


@pytest.mark.parametrize("cls", WITH_PATH, ids=name)
def test_half_precision_is_taken_as_it_says(cls):
    for dtype in (torch.bfloat16, torch.float16):
        d = map_parameters(example(cls), lambda value, dtype=dtype: value.to(dtype) if value.is_floating_point() else value)
        assert TABLE[cls.__name__].half == "yes"
        x = rp.rsample(d, (50,), source=rp.Fresh(torch.Generator().manual_seed(0)))
        assert x.dtype == dtype
        assert x.isfinite().all()


@pytest.mark.parametrize("cls", WITH_PATH, ids=name)
def test_implicit_means_that_a_derivative_is_given(cls):
    """Where the table says explicit, autograd alone makes the derivative."""
    import reparam.special.slopes as slopes

    d, _ = with_leaves(example(cls))
    p = rp.path(d)
    eps = p.noise.draw((1,), source=rp.Sobol(0)).requires_grad_()
    given = []
    before = slopes._Both.backward
    slopes._Both.backward = staticmethod(lambda ctx, gradient: given.append(1) or before(ctx, gradient))
    try:
        p.push(eps).sum().backward()
    finally:
        slopes._Both.backward = before
    if TABLE[cls.__name__].how != "by its parts":
        assert (TABLE[cls.__name__].how == "implicit") == bool(given)


def test_bias_is_named_where_there_is_one():
    biased = {row.name for row in TABLE.values() if row.bias not in ("none", "")}
    assert biased == {"RelaxedBernoulli", "LogitRelaxedBernoulli", "RelaxedOneHotCategorical", "ExpRelaxedCategorical"}


@pytest.mark.parametrize("discrete", sorted(DISCRETE))
def test_discrete_laws_say_what_to_use_instead(discrete):
    instead = TABLE[discrete].formula
    assert "rp.LeaveOneOut() or rp.Score()" in instead
    d = example({**vars(td), **vars(distributions)}[discrete])
    assert ("rp.Enumerate()" in instead) == d.has_enumerate_support
    with pytest.raises(rp.NoPathError):
        rp.path(d)
    if "rp.relaxed(" in instead:
        assert rp.relaxed(d, 0.5).has_rsample


def test_a_formula_is_one_line_without_marks():
    for row in TABLE.values():
        assert 5 < len(row.formula) < 140, row.name
        assert "`" not in row.formula


def test_command_prints_plain_columns_to_a_pipe(cli):
    code, out, error = cli("paths")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["distribution", "of", "path", "noise"]
    names = [line.split()[0] for line in lines[1 : 1 + len(TABLE)]]
    assert names == list(TABLE)
    start = lines[0].index("formula")
    assert all(line[start - 2 : start] == "  " and line[start] != " " for line in lines[1 : 1 + len(TABLE)])
    ours = sum(TABLE[cls.__name__].package == "reparam" for cls in WITH_PATH)
    theirs = len(WITH_PATH) - ours
    assert lines[-1] == (
        f"{len(WITH_PATH)} reparameterised classes: {theirs} of torch.distributions, {ours} of reparam.distributions. "
        f"{len(DISCRETE)} have no path."
    )


def test_command_prints_json(cli):
    code, out, _ = cli("paths", "--json")
    assert code == 0
    table = json.loads(out)
    assert [row["name"] for row in table] == list(TABLE)
    assert table[0].keys() == {"name", "package", "how", "noise", "second", "half", "bias", "formula"}


def test_command_fits_a_terminal(cli, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for width in ("80", "160"):
        monkeypatch.setenv("COLUMNS", width)
        _, out, _ = cli("paths")
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.splitlines()]
        assert max(map(len, lines[:-1])) <= int(width)
        for row in TABLE.values():
            assert any(line.split()[:1] == [row.name] for line in lines), row.name


def test_the_table_is_made_fast():
    start = time.process_time()
    rows()
    assert time.process_time() - start < 3
