"""The public bar itself: what it reports, and how it says no. What it catches is in test_sabotage.py."""

import pytest
import torch
import torch.distributions as td

import reparam as rp
from reparam.noise import NORMAL
from reparam.testing import (
    DISTRIBUTION_PROPERTIES,
    PATH_PROPERTIES,
    PropertyError,
    Subject,
    check_distribution,
    check_path,
    look,
)


def test_a_report_is_a_table_of_every_property():
    report = check_distribution(td.Normal, 0.7, 1.3, draws=20_000)
    names = {f.property for f in report}
    assert names == {check.__name__.replace("_", " ") for check in (*PATH_PROPERTIES, *DISTRIBUTION_PROPERTIES)}
    lines = str(report).splitlines()
    assert len(lines) == len(report.findings) + 1
    assert lines[0].split() == ["property", "result", "found"]
    assert any(line.startswith("compiled") and "not checked" in line for line in lines)
    assert 0 < report.alpha < 1e-8
    assert report.failed == ()


def test_a_batch_and_a_vector():
    assert check_distribution(td.Laplace, [0.5, -2.0], [1.0, 3.0], draws=5_000)
    report = check_distribution(lambda m, s: td.Independent(td.Normal(m, s), 1), [0.5, -2.0], [1.0, 3.0], draws=20_000)
    moments = [f for f in report if f.property == "moments"]
    assert [f.passed for f in moments] == [True, True, True]
    assert all(f.alpha > 0 and "catches errors of" in f.found for f in moments)
    assert next(f for f in report if f.property == "density").passed


def test_wrong_moments_of_a_vector_are_caught_by_samples():
    class Off(td.MultivariateNormal):
        mean = property(lambda self: self.loc + 0.2)

    with pytest.raises(PropertyError) as error:
        check_distribution(lambda m: Off(m, torch.eye(2, dtype=m.dtype)), [0.0, 0.0], skip=["half precision"])
    assert error.value.report.failed == ("moments",)


def test_an_error_on_the_way_is_a_finding():
    class Broken(td.Normal):
        pass

    @rp.path.register
    def broken_path(d: Broken) -> rp.Path:
        def push(eps):
            raise RuntimeError("out of order\nsecond line")

        return rp.Path(rp.noise_like(d.loc, NORMAL), push)

    with pytest.raises(PropertyError, match=r"Broken does not hold to .*\n(.*\n)*- rows: RuntimeError: out of order\n"):
        check_path(Broken, 0.0, 1.0)


def test_a_law_without_a_path_says_so():
    class Pathless(td.Normal):
        def rsample(self, sample_shape=()):
            return super().rsample(sample_shape)

    with pytest.raises(PropertyError, match="Pathless has no explicit path, only its own sampler"):
        check_path(Pathless, 0.0, 1.0)


def test_skipping_names_a_property():
    report = check_path(td.Normal, 0.0, 1.0, draws=1_000, skip=["law", "derivatives"])
    assert {f.property for f in report if f.found == "left out"} == {"law", "derivatives"}
    with pytest.raises(ValueError, match=r"no such property: laws; there are shapes, expand, sources"):
        check_path(td.Normal, 0.0, 1.0, skip=["laws"])


def test_the_callers_state_is_left_alone():
    state = torch.get_rng_state()
    parameter = torch.tensor(0.5, requires_grad=True)
    check_path(td.Normal, parameter, 1.0, draws=1_000, backend="eager")
    assert torch.equal(torch.get_rng_state(), state)
    assert parameter.grad is None
    assert td.Distribution._validate_args


def test_a_property_alone():
    findings = look(PATH_PROPERTIES[0], Subject(td.Normal, (torch.tensor(0.0), torch.tensor(1.0))))
    assert [f.property for f in findings] == ["shapes"]
    assert all(f.passed for f in findings)
