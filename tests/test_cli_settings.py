"""Flags and settings files: every field is both, and a wrong one is named, with what was probably meant."""

import dataclasses
import json

import pytest
import yaml

from reparam.cli import config, train
from reparam.cli.parser import Parser
from reparam.models import MODELS


def groups(name):
    return train.groups(name)


def fields(kind):
    return {field.name: field for field in dataclasses.fields(kind)}


@pytest.fixture
def read(cli):
    """The settings that flags give, as `--print_config` shows them."""

    def run(*words):
        code, out, error = cli("train", "vae", *words, "--print_config")
        assert code == 0, error
        return yaml.safe_load(out)

    return run


@pytest.mark.parametrize("name", MODELS)
def test_field_names_are_disjoint_and_documented(name, cli):
    names = [field for kind in groups(name) for field in fields(kind)]
    assert len(names) == len(set(names))
    code, text, _ = cli("train", name, "--help")
    assert code == 0
    words = " ".join(text.split())
    for kind in groups(name):
        for field in fields(kind):
            assert f"--{field}" in words
            documented = f" {field}: " in " ".join(kind.__doc__.split())
            assert documented, f"{kind.__name__}.{field} has no line in the docstring"


def test_help_is_the_docstrings(cli):
    words = " ".join(cli("train", "vae", "--help")[1].split())
    assert (
        "--epochs EPOCHS how many; after each one the model is looked at with the validation data. (type: int, default: 300)"
        in words
    )
    assert "--latent_dim LATENT_DIM number of latent variables. (type: int, default: 16)" in words
    words = " ".join(cli("evaluate", "--help")[1].split())
    assert "reparam evaluate RUN [flags]" in words
    assert "--importance_samples IMPORTANCE_SAMPLES samples of noise for each datum; more make a bound tighter, or its" in words


def test_defaults_are_the_dataclasses(read):
    defaults = {field.name: field.default for kind in groups("vae") for field in fields(kind).values()}
    assert read() == json.loads(json.dumps(defaults))


def test_printed_settings_are_a_settings_file(read, tmp_path):
    words = ["--latent_dim", 3, "--hidden", "5,6", "--binarize", "--learning_rate", "2e-4", "--label", "no", "--threads", "null"]
    printed = read(*words)
    assert (printed["latent_dim"], printed["hidden"], printed["binarize"], printed["learning_rate"]) == (3, [5, 6], True, 2e-4)
    assert (printed["label"], printed["threads"]) == ("no", None)
    file = tmp_path / "all settings ü.yaml"
    file.write_text(yaml.safe_dump(printed, allow_unicode=True), encoding="utf-8")
    assert read("--config", file) == printed


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--batch-size", "7"], "batch_size", 7),
        (["--batch-size=7"], "batch_size", 7),
        (["--learning_rate", "1e-3"], "learning_rate", 1e-3),
        (["--learning_rate", "1"], "learning_rate", 1.0),
        (["--hidden", "512"], "hidden", [512]),
        (["--hidden", "[512,256]"], "hidden", [512, 256]),
        (["--hidden=512,256"], "hidden", [512, 256]),
        (["--hidden", ""], "hidden", []),
        (["--binarize"], "binarize", True),
        (["--binarize", "false"], "binarize", False),
        (["--binarize", "--epochs", "3"], "binarize", True),
        (["--likelihood", "null"], "likelihood", None),
        (["--likelihood", "gaussian"], "likelihood", "gaussian"),
        (["--data", "a-b--c.npz"], "data", "a-b--c.npz"),
        (["--data", "12"], "data", "12"),
        (["--epochs", "3", "--epochs", "4"], "epochs", 4),
        (["--seed", "18446744073709551615"], "seed", 2**64 - 1),
    ],
)
def test_ways_to_write_a_flag(read, words, name, value):
    assert read(*words)[name] == value


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 1e-3),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("hidden: [512, 256]", "hidden", [512, 256]),
        ("hidden:\n- 512\n- 256\n", "hidden", [512, 256]),
        ("precision: 'no'", "precision", "no"),
        ("{epochs: 3}", "epochs", 3),
        ("\ufeff# a comment\r\nepochs: 3\r\n", "epochs", 3),
        ("label: '1:30'", "label", "1:30"),
        ("label: y", "label", "y"),
    ],
)
def test_ways_to_write_a_file(read, tmp_path, text, name, value):
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    assert read("--config", file)[name] == value


def test_later_words_override_earlier_ones(read, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 3\nkeep: 5\n")
    assert read("--config", file, "--epochs", 4)["epochs"] == 4
    settings = read("--epochs", 4, "--config", file)
    assert (settings["epochs"], settings["keep"]) == (3, 5)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--lerning_rate", "1"], r"there is no flag --lerning_rate: did you mean --learning_rate\?$"),
        (["--batchsize=3"], r"there is no flag --batchsize: did you mean --batch_size\?$"),
        (["--epoch", "3"], r"there is no flag --epoch: did you mean --epochs\?$"),
        (["--zzzz"], r"there is no flag --zzzz: --help lists them all$"),
        (["spare"], r"'spare' is one argument too many: see reparam train vae --help$"),
        (["--epochs"], r"--epochs wants a value: give a whole number$"),
        (["--epochs", "three"], r"epochs is 'three': give a whole number$"),
        (["--epochs", "1.5"], r"epochs is '1.5': give a whole number$"),
        (["--epochs", "0"], r"epochs is 0: give at least 1$"),
        (["--epochs", "-1"], r"epochs is -1: give at least 1$"),
        (["--batch_size", "0"], r"batch_size is 0: give at least 1$"),
        (["--learning_rate", "nan"], r"learning_rate is 'nan': give a finite number$"),
        (["--learning_rate", ".inf"], r"learning_rate is inf: give a finite number, at least 0"),
        (["--learning_rate", "1e999"], r"learning_rate is .*: give a finite number"),
        (["--learning_rate", "-1"], r"learning_rate is -1.0: give a finite number, at least 0"),
        (["--beta", "-1"], r"beta=-1.0: give a finite number that is not negative$"),
        (["--seed", "-1"], r"seed is -1: give a whole number from 0 to 2\^64 - 1$"),
        (["--threads", "two"], r"threads is 'two': give a whole number, or null$"),
        (["--threads", "0"], r"threads is 0: give at least 1$"),
        (["--latent", "gamma"], r"latent is 'gamma': give one of normal, bernoulli, categorical$"),
        (["--device", "tpu"], r"device is 'tpu': give one of auto, cpu, cuda$"),
        (["--likelihood", "poisson"], r"likelihood is 'poisson': give one of .*bernoulli.*, or null$"),
        (["--hidden", "wide"], r"hidden is .*: give a list such as 512,256"),
        (["--hidden", "0"], r"hidden=\(0,\), .*: widths must be positive$"),
        (["--binarize", "perhaps"], r"binarize is 'perhaps': give true or false$"),
        (["--importance_samples", "0"], r"importance_samples is 0: give at least 1$"),
        (["--out", ""], r"out is '': give the path of a directory$"),
        (["--out", "a\0b"], r"out is 'a\\x00b': give the path of a directory$"),
        (["--split_seed", "-1"], r"the split seed is -1"),
        (["--test_fraction", "1.5"], r"the test fraction is 1.5"),
        (["--data", "digit"], r"there is no file, folder or data set 'digit': did you mean 'digits'\?$"),
        (["--config"], r"--config wants a value"),
    ],
)
def test_wrong_flags(refused, tmp_path, monkeypatch, words, pattern):
    monkeypatch.chdir(tmp_path)
    refused(2, pattern, "train", "vae", *words)
    assert list(tmp_path.iterdir()) == []


DEEP = "hidden: " + "[" * 30_000
LAUGHS = "a: &a [x, x]\n" + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("epochs: 3\nepochz: 4\n", r"settings.yaml, line 2: there is no setting epochz: did you mean epochs\?$"),
        ("epochs: 3\nepochs: 4\n", r"settings.yaml, line 2: epochs is set again, after line 1: leave one out$"),
        ('{"epochs": 3, "epochs": 4}', r"line 1: epochs is set again"),
        ("keep: 2\n\nepochs: x\n", r"settings.yaml, line 3: epochs is 'x': give a whole number$"),
        ("epochs: true\n", r"line 1: epochs is 'True': give a whole number$"),
        ("precision: no\n", r"line 1: YAML may take no for another value: put a text in quotes"),
        ("binarize: Yes\n", r"line 1: YAML may take Yes for another value: .* write true, false or a number$"),
        ("hidden: 3", r"line 1: hidden is '3': give a list"),
        ("hidden: [3, x]", r"line 1: hidden is .*: give a list"),
        ("epochs: {a: 3}", r"line 1: epochs is .*: give a whole number"),
        ("threads: x", r"line 1: threads is 'x': give a whole number, or null$"),
        ("epochs: 1:30", r"line 1: YAML may take 1:30 for another value"),
        ("learning_rate: .nan", r"line 1: .nan is no finite number"),
        ("learning_rate: -.Inf", r"line 1: -.Inf is no finite number"),
        ("learning_rate: NaN", r"line 1: learning_rate is 'NaN': give a finite number$"),
        ("epochs: [3", r"line 1: expected ',' or '\]'"),
        ("epochs: 3\n\tkeep: 2", r"line 2: "),
        (DEEP, r"line 1: this is nested too deeply$"),
        (LAUGHS, r"line 2: references \(\*name\) are not read$"),
        ("data: !!python/object/apply:os.system [id]", r"line 1: tags \(.*os.system\) are not read$"),
        ("!!python/name:os.system : 3", r"line 1: tags"),
        ("latent:\n  class_path: os.system\n", r"line 1: latent is .*: give one of normal, bernoulli, categorical$"),
        ("data:\n  class_path: subprocess.Popen\n  init_args: {args: id}\n", r"line 1: data is .*: give a text$"),
        ("config: other.yaml", r"line 1: there is no setting config"),
        ("__path__: x", r"line 1: there is no setting __path__"),
        ("? [a]\n: 3", r"line 1: there is no setting that is a list"),
        ("- epochs", r"holds no settings: give lines such as 'epochs: 5'$"),
        ("epochs", r"holds no settings"),
        ("", r"holds no settings"),
        ("epochs: 3\n--- \nkeep: 2", r"line 2: but found another document$"),
        ("epochs: \0", r"is not a text: it has the character '\\x00' at 8$"),
        ("# " + "x" * 70_000, r"has more than 65536 bytes: it is no file of settings$"),
        ("epochs: 0", r"epochs is 0: give at least 1$"),
        ('out: "a\\0b"', r"out is 'a\\x00b'"),
    ],
    ids=lambda value: value[:24].encode("unicode_escape").decode(),
)
def test_wrong_files(refused, tmp_path, monkeypatch, text, pattern):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    refused(2, pattern, "train", "vae", "--config", "settings.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.yaml"]


def test_files_that_are_none(refused, tmp_path):
    refused(2, "'.*nowhere.yaml' does not exist$", "train", "vae", "--config", tmp_path / "nowhere.yaml")
    refused(2, "is not a regular file$", "train", "vae", "--config", tmp_path)
    refused(2, "does not exist$", "train", "vae", "--config", "a\0b")
    (tmp_path / "latin.yaml").write_bytes("label: ü".encode("latin-1"))
    refused(2, "is not UTF-8 text, from byte 7: save it as UTF-8$", "train", "vae", "--config", tmp_path / "latin.yaml")


def test_a_flag_is_not_blamed_on_the_file(refused, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 3\n")
    refused(2, r"error: epochs is 'x': give a whole number$", "train", "vae", "--config", file, "--epochs", "x")
    file.write_text("epochs: x\n")
    refused(2, r"line 1: epochs is 'x'", "train", "vae", "--config", file, "--epochs", 3)


def test_lines_of_settings(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("# how\nb: [1,\n 2]\n\na: 3\n")
    assert config.lines(str(file), ["a", "b"]) == {"b": 2, "a": 5}


@dataclasses.dataclass(frozen=True)
class Odd:
    """Types that no model has yet.

    Attributes:
        size: one or the other.
        names: some.
    """

    size: int | float = 1
    names: tuple[str, ...] = ()


def test_parser_of_other_fields():
    parser = Parser("odd", "Odd.")
    parser.add_fields(Odd)
    settings = parser.read(["--names", "a,b", "--size", "2.5"])
    assert (settings.size, settings.names) == (2.5, ("a", "b"))
    with pytest.raises(ValueError, match="size is 'x': give a whole number or a finite number"):
        parser.read(["--size", "x"])


@pytest.mark.parametrize("name", ["latent_dim", "hidden", "beta", "seed", "data", "binarize", "epochs"])
def test_null_is_refused_where_it_says_nothing(name, refused, tmp_path):
    (tmp_path / "s.yaml").write_text(f"{name}: null\n")
    refused(2, name, "train", "vae", "--config", tmp_path / "s.yaml", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
