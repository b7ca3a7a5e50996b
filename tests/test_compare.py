"""`reparam compare`: tables, the page, the user's own problem, and what is refused."""

import json
import re
import sys

import pytest
import torch

import reparam as rp
from reparam.cli.problems import PROBLEMS, problem
from reparam.diagnostics.entries import parameters_of

TINY = ("--draws", 12, "--seconds", 3)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mine"):
            del sys.modules[name]


def test_command_prints_tables_and_writes_a_page_that_needs_nothing_else(cli, tmp_path):
    code, out, error = cli("compare", "--problem", "toy-0.45,logistic", *TINY, "--n", 4, "--out", "found.html")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == "found.html"
    assert lines.count("Toy of REBAR, t = 0.45") == lines.count("Bayesian logistic regression") == 1
    assert sum(line.startswith("estimator ") for line in lines) == 2
    assert any(line.startswith("Use Enumerate: exact here") for line in lines)
    assert any(re.match(r"Pathwise, antithetic +-?[\d.]", line) for line in lines)
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    for outside in ("<script", "<link", "http://", "https://", "@import", 'src="', "file:"):
        assert outside not in page.replace("http://www.w3.org", ""), outside
    assert page.count("<svg") == 8
    # A letter of 7 points is 12 pixels or more on the 940 of the page.
    assert all(7 * 940 / float(width) > 12 for width in re.findall(r'<svg class="chart".*?viewBox="0 0 ([\d.]+) ', page))
    assert len(re.findall(r'<svg class="chart".*?viewBox="0 0 ([\d.]+) ', page)) == 8
    assert page.count('class="answer"') == 2
    assert "Use Enumerate: exact here" in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert not re.search(r"#0102a\d|#01020\d", page)
    assert "nan" not in page.split("<footer>")[0].split("<body>")[1].lower().replace("explanan", "")


def test_json(cli):
    code, out, error = cli("compare", "--problem", "polynomial", *TINY, "--n", 4, "--json")
    assert (code, error) == (0, "")
    found = json.loads(out)["polynomial"]
    names = [row["name"] for row in found["rows"]]
    assert {"LeaveOneOut", "DisARM", "REBAR"} <= set(names)
    assert "Enumerate" in found["left_out"]
    assert found["truth"] == "what was given as exact"


@pytest.mark.parametrize("name", PROBLEMS)
def test_standard_problems_are_what_they_say(name):
    """The gradient that is given as exact is that of an unbiased estimator; without one, some truth is found."""
    given = problem(name)
    found = rp.diagnose(
        given.f,
        given.q,
        [rp.LeaveOneOut()],
        exact=given.exact,
        draws=100,
        seconds=20,
        source=rp.Fresh(torch.Generator().manual_seed(0)),
    )
    assert not found["LeaveOneOut"].biased
    assert found["LeaveOneOut"].norm > 0
    assert given.title
    assert given.text.endswith(".")


def test_the_logistic_problem_is_in_the_log_of_its_scales():
    """What people train; the text says so, and the gradients of both are seen."""
    given = problem("logistic")
    loc, log_scale = parameters_of(given.q).values()
    torch.testing.assert_close(given.q.base_dist.loc, loc)
    torch.testing.assert_close(given.q.base_dist.scale, log_scale.exp())
    assert "in loc and in log scale" in given.text


MINE = '''
import torch
import reparam as rp

def problem():
    """A cubic."""
    return (lambda z: z**3), torch.distributions.Normal(torch.tensor(1.0, requires_grad=True), 0.3)

def chosen():
    return *problem(), {"mine": rp.Pathwise()}

def fails():
    raise KeyError("no such thing")

def wrong():
    return 3

def half():
    return print, 4

def still():
    return (lambda z: z), torch.distributions.Normal(0.0, 1.0)

def bad_cost():
    return (lambda z: z.sum()), problem()[1]

def failing_cost():
    return (lambda z: {}["z"]), problem()[1]

constant = 3
'''


def test_own_problem(cli, tmp_path):
    (tmp_path / "mine_own.py").write_text(MINE, encoding="utf-8")
    code, out, error = cli("compare", "--problem", "mine_own:problem", *TINY)
    assert (code, error) == (0, "")
    assert "A cubic." in out
    assert "Pathwise, Sobol" in out
    code, out, _ = cli("compare", "--problem", "mine_own:chosen", *TINY, "--json")
    assert [row["name"] for row in json.loads(out)["mine_own:chosen"]["rows"]] == ["mine"]
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("quadratik", "there is no problem quadratik: did you mean quadratic.; your own is MODULE:FUNCTION"),
        ("nowhere_at_all:f", "there is no module nowhere_at_all in "),
        ("mine_bad:nothing", "mine_bad has no function nothing"),
        ("mine_bad:constant", "mine_bad has no function constant"),
        ("mine_bad:fails", "mine_bad:fails fails with KeyError: 'no such thing'"),
        ("mine_bad:wrong", r"returned int: it must return \(f, q\)"),
        ("mine_bad:half", r"returned \(builtin_function_or_method, int\)"),
        ("mine_bad:still", "no tensor of the distribution requires a gradient"),
        ("mine_bad:bad_cost", "the cost has shape"),
        ("mine_bad:failing_cost", "KeyError: 'z'"),
        ("mine_broken:f", "mine_broken fails with SyntaxError"),
    ],
)
def test_problems_that_are_none(refused, tmp_path, name, line):
    (tmp_path / "mine_bad.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "mine_broken.py").write_text("def f(:", encoding="utf-8")
    refused(2, line, "compare", "--problem", name, *TINY)
    assert not (tmp_path / "compare.html").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--n", "0"), "n is 0: give at least 1"),
        (("--draws", "1"), "draws is 1, seconds is 10: give at least 2, and more than 0"),
        (("--seconds", "-1"), "seconds is -1"),
        (("--out", "page.txt"), "--out page.txt: give a name that ends in .html"),
        (("--problems", "toy"), "there is no flag --problems: did you mean --problem"),
        (("--n", "two"), "n is 'two': give a whole number"),
        (("--problem", ""), "--problem is empty: give quadratic, "),
        (("--problem=",), "--problem is empty: give quadratic, "),
        (("mine:router",), "'mine:router' is one argument too many: give --problem mine:router$"),
        (("--problem", "quadratic", "mine:router"), "give --problem mine:router$"),
    ],
)
def test_bad_flags(refused, words, line):
    refused(2, line, "compare", *words)


def test_a_page_that_cannot_be_written_is_refused_before_the_work(cli, refused, tmp_path, monkeypatch):
    def worked(*_):
        raise AssertionError("it worked first")

    monkeypatch.setattr("reparam.cli.compare.diagnose", worked)
    refused(5, "nowhere/e.html: there is no folder ", "compare", "--out", "nowhere/e.html")
    refused(5, "there is no folder /nonexist: make it", "compare", "--out", "/nonexist/e.html")
    monkeypatch.setattr("os.access", lambda *_: False)
    refused(5, "nothing can be written to ", "compare", "--out", "e.html")


def test_all_problems_by_default(cli, monkeypatch):
    from reparam.cli import compare

    asked = []

    monkeypatch.setattr(compare, "problem", lambda name: asked.append(name))
    monkeypatch.setattr(compare, "_diagnose", lambda *_: 1 / 0)
    cli("compare")
    assert asked == list(PROBLEMS)
