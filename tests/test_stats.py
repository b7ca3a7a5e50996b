"""The checks keep their promises: false alarms as rare as stated, and the stated error caught."""

import math

import pytest
import torch

from reparam.stats import chi2_test, detectable_mean, dkw_test, law_tests, mean_test, normal_score_tests

REPETITIONS = 2000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def checks(alpha):
    yield "mean", lambda u: mean_test(u, 0.5, alpha=alpha)
    yield "Kolmogorov", lambda u: dkw_test(u, alpha=alpha)
    yield "chi-squared", lambda u: chi2_test(u, alpha=alpha)
    for order in range(4):
        yield f"score {order}", lambda u, order=order: normal_score_tests(u, alpha=4 * alpha)[order]


@pytest.mark.parametrize("name", [name for name, _ in checks(0.05)])
def test_false_alarms_are_as_rare_as_stated(name):
    """At 5 %: 2000 runs give 100, and more than 160 with a probability below 1e-8."""
    check = dict(checks(0.05))[name]
    u = torch.rand(REPETITIONS, 2000, generator=generator(), dtype=torch.float64)
    assert sum(not check(row) for row in u) <= 160


@pytest.mark.parametrize("kind", ["mean", "chi-squared", "Kolmogorov"])
def test_the_stated_error_is_caught(kind):
    """An error of the detectable size escapes one check in twenty at most: of 400 runs, fewer than 50 with probability 1 - 1e-9."""
    alpha, n = 0.05, 4000
    missed = 0
    for row in torch.rand(400, n, generator=generator(1), dtype=torch.float64):
        if kind == "mean":
            missed += bool(mean_test(row + detectable_mean(n, math.sqrt(1 / 12), alpha), 0.5, alpha=alpha))
        elif kind == "Kolmogorov":
            d = dkw_test(row, alpha=alpha).detectable
            missed += bool(dkw_test(torch.where(row < 0.5 - d, row, row * 0 + row.clamp(min=0.5)), alpha=alpha))
        else:
            w = chi2_test(row, alpha=alpha, cells=20).detectable
            # Half of the cells are more probable by the share w, half are less.
            heavier = row < (1 + w) / 2
            bent = torch.where(heavier, row / (1 + w), 0.5 + (row - (1 + w) / 2) / (1 - w))
            missed += bool(chi2_test(bent, alpha=alpha))
    assert missed < 50


def test_verdicts_read_well():
    verdict = mean_test(torch.randn(10_000, generator=generator()), 0.5)
    assert not verdict
    assert str(verdict).startswith("mean: discrepancy -0.5")
    assert "< 1e-09" in str(verdict)
    assert "≥ 1e-09" in str(mean_test(torch.randn(10_000, generator=generator()), 0.0))


def test_a_mean_without_variance():
    assert mean_test(torch.full((10,), 2.0), 2.0)
    assert not mean_test(torch.full((10,), 2.0), 2.1)


def test_probabilities_of_known_discrepancies():
    """Against scipy."""
    from scipy import stats

    u = torch.rand(20_000, generator=generator(), dtype=torch.float64)
    counts = torch.histc(u, 20, 0, 1).numpy()
    edges = [1e-3, 1e-2, *(k / 20 for k in range(1, 20)), 1 - 1e-2, 1 - 1e-3]
    widths = torch.diff(torch.tensor([0.0, *edges, 1.0], dtype=torch.float64))
    found = torch.histogram(u, torch.tensor([0.0, *edges, 1.0], dtype=torch.float64))[0]
    assert counts.sum() == found.sum() == 20_000
    assert math.isclose(chi2_test(u).p, stats.chisquare(found.numpy(), (20_000 * widths).numpy()).pvalue, rel_tol=1e-6)
    assert math.isclose(mean_test(u, 0.5).p, 2 * stats.norm.sf(abs(stats.ttest_1samp(u.numpy(), 0.5).statistic)), rel_tol=1e-3)
    z = stats.norm.ppf(u.numpy())
    hermite = ((z, 1), (z**2 - 1, 2), (z**3 - 3 * z, 6), (z**4 - 6 * z**2 + 3, 24))
    for verdict, (moment, variance) in zip(normal_score_tests(u), hermite, strict=True):
        assert math.isclose(verdict.p, 2 * stats.norm.sf(abs(moment.mean()) / math.sqrt(variance / 20_000)), rel_tol=1e-6)
    assert math.isclose(dkw_test(u).discrepancy, stats.kstest(u.numpy(), "uniform").statistic, rel_tol=1e-9)


def test_the_union_sees_what_single_checks_miss():
    z = torch.randn(100_000, generator=generator(), dtype=torch.float64)
    assert all(law_tests(torch.special.ndtr(z)))
    atoms = torch.where(torch.arange(len(z)) % 100 == 0, 0.0, z)  # one per cent of exact zeros: only the cells see it
    u = torch.special.ndtr(atoms)
    assert all(normal_score_tests(u))
    assert not chi2_test(u)
    assert not all(law_tests(u))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e-9, 1.001])
def test_one_value_that_is_no_probability_fails_every_check(bad):
    u = torch.rand(1000, generator=generator(), dtype=torch.float64)
    assert all(law_tests(u))
    u[17] = bad
    assert not any(law_tests(u))
