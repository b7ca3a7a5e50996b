"""`reparam posterior`: answers about the data of a run and about new rows, in words and as JSON, and bad questions by name."""

import json
from pathlib import Path

import pytest
import torch

from reparam.cli import main
from reparam.models.graphical import Config, Graphical
from reparam.models.trained import DataOptions, record
from reparam.training import Run, Training, fit

TABLE = "kind,size,weight\n" + "".join(
    f"{'cat' if i % 2 else 'dog'},{'' if i == 6 else f'{1 + 2 * (i % 2) + 0.1 * (i % 5):.2f}'},{2 + i % 3}\n" for i in range(40)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A mixture of two classes over a table with a gap, trained for one epoch."""
    folder = tmp_path_factory.mktemp("posterior")
    (folder / "pets.csv").write_text(TABLE)
    options = DataOptions(data=str(folder / "pets.csv"), gaps="keep", validation_fraction=0.0, test_fraction=0.0)
    data, splits = options.load()
    torch.manual_seed(0)
    model = Graphical.for_data(Config(graph="mixture", classes=2), splits.train)
    training = Training(epochs=1, passes=2, batch_size=40, threads=1)
    with Run.create(folder / "run", record("graphical", model, training, options, data, splits)) as made:
        fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, made, progress=False)
    return str(folder / "run")


def asked(run, capsys, *words):
    capsys.readouterr()
    assert main(["posterior", run, *words]) == 0
    return capsys.readouterr().out


def refused(run, capsys, *words):
    capsys.readouterr()
    assert main(["posterior", run, *words]) == 2
    return capsys.readouterr().err


def test_without_a_question_all_that_is_not_known_of_the_data_is_told(run, capsys):
    lines = asked(run, capsys).splitlines()
    assert "rows of data" in lines[0]
    assert any(line.startswith("size[6]") or line == "..." for line in lines)


def test_a_question_about_a_new_row_is_answered_by_name(run, capsys):
    lines = asked(run, capsys, "--query", "kind", "--given", "size=3.1,weight=2").splitlines()
    assert lines[0] == "kind given size = 3.1, weight = 2.0 (exact)"
    assert lines[1].split() == ["cat", "dog"]
    assert sum(map(float, lines[2].split()[1:])) == pytest.approx(1.0, abs=1e-3)


def test_json_holds_what_is_printed_and_a_seed_fixes_it(run, capsys):
    words = ["--query", "size", "--do", "kind=cat", "--n", "500", "--json"]
    found = json.loads(asked(run, capsys, *words))
    assert found["do"] == {"kind": "cat"}
    (answer,) = found["answers"]
    assert answer.keys() == {"node", "mean", "sd", "5%", "50%", "95%"}
    assert found == json.loads(asked(run, capsys, *words))
    other = json.loads(asked(run, capsys, *words, "--seed", "1"))
    assert found["answers"] != other["answers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--query", "kin"], "did you mean 'kind'"),
        (["--given", "size"], "name=value"),
        (["--given", "size=1,size=2"], "twice"),
        (["--given", "kind=cta"], "did you mean 'cat'"),
        (["--given", "size=large"], "give a number"),
        (["--do", "kind=cat", "--given", "kind=dog"], "both set"),
        (["--n", "0"], "n is 0"),
    ],
)
def test_bad_questions_are_one_line_that_names_them(run, capsys, words, said):
    message = refused(run, capsys, *words)
    assert said in message
    assert len(message.strip().splitlines()) == 1


def test_where_the_data_have_gone_questions_about_new_rows_are_answered(run, capsys):
    path = Path(run).parent / "pets.csv"
    text = path.read_text()
    try:
        path.unlink()
        assert "pets.csv" in refused(run, capsys)
        assert "exact" in asked(run, capsys, "--query", "kind", "--given", "size=1")
    finally:
        path.write_text(text)
