"""The VAE on texts: what it learns, that every kind of latent and network serves, and its commands."""

import csv
import json
import math
import re
import shutil
import warnings

import pytest
import torch

import reparam as rp
from reparam.cli import opened
from reparam.data import load
from reparam.data.codec import codec_of
from reparam.data.text import from_lines
from reparam.errors import BadInputError
from reparam.models.evaluation import Evaluation
from reparam.models.text_evaluation import of_texts
from reparam.models.trained import model_of
from reparam.models.vae import VAE, Config
from reparam.nn.sequence import Recurrent
from reparam.noise import Fresh
from reparam.training import Run

LINES = [f"{a} {v} {o}" for a in ("the cat", "a dog", "one bird") for v in ("sees", "hears") for o in ("the moon", "bread", "you")]


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def vae_for(data, **settings):
    torch.manual_seed(0)
    return VAE.for_data(Config(**{"latent_dim": 3, "hidden": (32,), **settings}), data)


@pytest.fixture(scope="module")
def data():
    return from_lines(LINES)


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_the_bound_rises_and_the_latents_are_used(data, network):
    vae = vae_for(data, network=network, free_bits=0.3, latent_dim=4)
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    source = fresh()
    first = float(vae.loss(data.x, source).parts["elbo"])
    for _ in range(60):
        optimizer.zero_grad()
        vae.loss(data.x, source).total.backward()
        optimizer.step()
    vae.eval()
    found = vae.evaluate(data.x, k=20, source=source)
    # Each line is one of 18, log 18 = 2.9 nats; codes as frequent as in the data cost ten times that.
    assert first < -45
    assert found.elbo > first + 25
    assert (found.kl > 0.8, found.active_units, found.collapsed) == (True, 4, False)
    assert found.nll < -found.elbo
    assert found.bits_per_character == pytest.approx(found.nll / math.log(2) / (sum(map(len, LINES)) / len(LINES) + 1))


@pytest.mark.parametrize("network", ["gru", "transformer"])
@pytest.mark.parametrize(
    "settings",
    [
        {"covariance": "full"},
        {"objective": "dreg", "samples": 3},
        {"estimator": "score_learned"},
        {"latent": "bernoulli"},
        {"latent": "bernoulli", "estimator": "rebar"},
        {"latent": "categorical", "categories": 3, "estimator": "gumbel_softmax"},
        {"latent": "categorical", "categories": 3, "objective": "vimco"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_every_kind_of_latent_objective_and_estimator_serves(data, network, settings):
    vae = vae_for(data, network=network, word_dropout=0.2, **settings)
    vae.loss(data.x, fresh()).total.backward()
    silent = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    assert all(p.grad.abs().sum() > 0 for p in vae.likelihood.parameters())
    vae.eval()
    assert vae.sample(3, fresh()).shape == vae.reconstruct(data.x[:3]).shape == (3, *data.shape)
    assert vae.log_likelihood(data.x[:2], 3, fresh()).shape == (2,)
    assert vae.interpolate(data.x[:2], data.x[2:4], 5).shape == (5, 2, *data.shape)
    torch.testing.assert_close(vae.interpolate(data.x[:2], data.x[2:4], 5)[0], vae.reconstruct(data.x[:2]))


def test_the_density_of_texts_is_that_of_decode(data):
    vae = vae_for(data).eval()
    z = vae.prior.sample((7, len(data)))
    p = vae.decode(z)
    assert (p.batch_shape, p.event_shape) == ((7, len(data)), data.shape)
    # A decoder that does not see its latents is a density without them, whatever the posterior and the number of samples.
    with torch.no_grad():
        vae.decoder[0].weight.zero_()
    expected = vae.decode(z[0]).log_prob(data.x)
    torch.testing.assert_close(vae.decode(z).log_prob(data.x), expected.expand(7, -1))
    bound = vae.log_likelihood(data.x, 4000, fresh())
    torch.testing.assert_close(bound, expected, atol=0.05, rtol=0)


def test_word_dropout_draws_from_the_source_and_in_training_only(data):
    vae = vae_for(data, word_dropout=0.5)
    with torch.no_grad():
        one, same, other = (float(vae.loss(data.x, fresh(seed)).total) for seed in (0, 0, 1))
        assert one == same != other
        torch.manual_seed(3)
        state = torch.get_rng_state()
        vae.loss(data.x, fresh())
        assert torch.equal(torch.get_rng_state(), state)
        vae.config.__dict__["word_dropout"] = 0.0  # nothing but the decoder's inputs depends on it
        whole = float(vae.train().loss(data.x, fresh()).total)
        vae.config.__dict__["word_dropout"] = 0.5
        assert float(vae.eval().loss(data.x, fresh()).total) == pytest.approx(whole)
        assert whole != one


def test_samples_by_temperature_and_source(data):
    vae = vae_for(data).eval()
    assert torch.equal(vae.sample(8, fresh()), vae.sample(8, fresh()))
    assert not torch.equal(vae.sample(8, fresh()), vae.sample(8, fresh(1)))
    assert vae.sample(8, rp.Sobol(seed=0)).dtype == torch.int64
    greedy = vae.sample(8, fresh(), temperature=0.0)
    assert torch.equal(greedy, vae.sample(8, fresh(), noisy=False))
    z = rp.sample(vae.prior, (8,), source=fresh())
    assert torch.equal(greedy, vae.decode(z).mode)
    assert torch.equal(greedy, vae.sample(8, fresh(), temperature=1e-6))
    assert not torch.equal(vae.sample(8, fresh()), vae.sample(8, fresh(), temperature=2.0))
    with pytest.raises(BadInputError, match="temperature=-1"):
        vae.sample(2, temperature=-1.0)
    image = VAE(Config(latent_dim=2, likelihood="bernoulli"), (4,))
    with pytest.raises(BadInputError, match=r"temperature=0\.5: .* for texts; 1 for other data"):
        image.sample(2, temperature=0.5)


def test_what_does_not_fit_texts_is_refused(data):
    for settings, message in [
        ({"likelihood": "gaussian"}, "likelihood='gaussian' does not serve texts, which has texts: leave likelihood"),
        ({"binarize": True}, "likelihood='bernoulli' does not serve texts"),
        ({"network": "conv"}, "network='conv' does not serve likelihood='autoregressive': give gru or transformer"),
        ({"hidden": (8, 16)}, "one width for each layer"),
        ({"word_dropout": 1.0}, r"word_dropout=1\.0: give a share"),
    ]:
        with pytest.raises(BadInputError, match=message):
            vae_for(data, **settings)
    with pytest.raises(BadInputError, match=r"word_dropout=0\.1 is for texts: leave it out"):
        Config(word_dropout=0.1, likelihood="bernoulli")
    with pytest.raises(BadInputError, match="likelihood='autoregressive' does not serve digits, which has no texts"):
        VAE.for_data(Config(likelihood="autoregressive"), load("digits"))
    with pytest.raises(ValueError, match="row 0 of the batch is no sequence"):
        vae_for(data).loss(torch.full((2, *data.shape), 99))
    with pytest.raises(ValueError, match="this model takes N x"):
        vae_for(data).loss(data.x[:, 1:])


def test_a_model_that_does_not_use_its_latents_says_collapsed(data):
    used = Evaluation(2, -8.0, -4.0, 4.0, 7.0, None, 10, 3, 4)
    for kl, active, collapsed in [(4.0, 3, False), (0.05, 3, True), (4.0, 0, True), (4.0, None, False)]:
        found = Evaluation(**{**used.__dict__, "kl": kl, "active_units": active})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            texts = of_texts(found, data.x[:2])
        assert texts.collapsed == collapsed
        assert [w.category for w in caught] == [RuntimeWarning] * collapsed
        assert all("collapsed" in str(w.message) for w in caught)
        assert ("collapsed" in "\n".join(texts.lines())) == collapsed
        assert ("collapsed" in str(texts.tiles())) == collapsed


def test_pieces_are_counted_in_characters():
    data = from_lines(LINES, tokens="bpe", vocabulary=280)
    vae = vae_for(data).eval()
    with pytest.warns(RuntimeWarning, match="collapsed"):
        found = vae.evaluate(data.x, k=2, source=fresh())
    assert found.characters == sum(map(len, LINES)) + len(LINES)
    assert found.bits_per_character == pytest.approx(found.nll * len(LINES) / math.log(2) / found.characters)


def test_recurrent_units_are_those_of_torch():
    torch.manual_seed(0)
    gru, ours = torch.nn.GRU(5, 7, 2, batch_first=True).double(), Recurrent(5, 7, 2).double()
    with torch.no_grad():
        for i in range(2):
            for kind, layers in (("ih", ours.seen), ("hh", ours.kept)):
                layers[i].weight.copy_(getattr(gru, f"weight_{kind}_l{i}"))
                layers[i].bias.copy_(getattr(gru, f"bias_{kind}_l{i}"))
    x, sizes, state = torch.randn(4, 6, 5).double(), torch.tensor([3, 6, 1, 6]), torch.randn(2, 4, 7).double()
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
    expected, last = gru(packed, state)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    torch.testing.assert_close(ours(x, sizes, state), expected)
    h = state
    for t in range(6):
        h = torch.where((t < sizes)[:, None], ours.step(x[:, t], h), h)
    torch.testing.assert_close(h, last)


# The commands.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that is trained for a moment."""
    from reparam.cli import main

    home = tmp_path_factory.mktemp("text")
    (home / "lines.txt").write_text("\n".join(LINES * 2))
    settings = "latent_dim=3 hidden=32 learning_rate=0.02 batch_size=16 epochs=4 importance_samples=5 threads=1"
    flags = [f"--{setting}" for setting in settings.split()]
    command = ["train", "vae", "--data", str(home / "lines.txt"), "--out", str(home / "run"), *flags]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(command) == 0
    return home / "run"


def lines_of(path):
    return path.read_text().removesuffix("\n").split("\n")


def test_train_remembers_the_codec_and_the_choices(run):
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["values"] == "tokens"
    assert record["data"]["codec"]["vocabulary"] == sorted(set("".join(LINES)))
    config = record["model"]["config"]
    assert (config["network"], config["likelihood"], config["free_bits"]) == ("gru", "autoregressive", 0.25)
    with (run / "history.csv").open() as file:
        bounds = [float(row["validation/elbo"]) for row in csv.DictReader(file)]
    assert bounds[-1] > bounds[0] + 5


@pytest.mark.filterwarnings("ignore:collapsed")
def test_evaluate(cli, run):
    code, out, _ = cli("evaluate", run, "--importance_samples", "3")
    assert code == 0
    assert re.search(r"bits/character  \d\.\d{3}  \(KL", out)
    code, out, _ = cli("evaluate", run, "--importance_samples", "3", "--json")
    found = json.loads(out)
    assert {"bits_per_character", "characters", "collapsed", "kl", "active_units"} <= found.keys()


def test_sample_reconstruct_and_interpolate_in_words(cli, run, tmp_path):
    known = set("".join(LINES))
    for output, flags in [
        ("a.txt", []),
        ("b.txt", ["--temperature", "0.5"]),
        ("c.txt", ["--noisy", "false"]),
        ("d.txt", ["--noise", "sobol"]),
    ]:
        code, out, error = cli("sample", run, "--n", "5", "--output", tmp_path / output, *flags)
        assert (code, out.strip()) == (0, str(tmp_path / output)), error
        texts = lines_of(tmp_path / output)
        assert len(texts) == 5
        assert set("".join(texts)) <= known
    assert cli("reconstruct", run, "--n", "4", "--output", tmp_path / "r.txt")[0] == 0
    pairs = (tmp_path / "r.txt").read_text().strip("\n").split("\n\n")
    assert len(pairs) == 4
    assert all(pair.split("\n")[0] in LINES for pair in pairs)
    assert cli("encode", run, "--output", tmp_path / "codes.npz")[0] == 0
    code, out, _ = cli("interpolate", run, LINES[0], LINES[-1], "--steps", "6")
    assert code == 0
    assert len(out.removesuffix("\n").split("\n")) == 6
    model, data = model_of(Run.open(run)), from_lines([LINES[0], LINES[-1]], codec=codec_of(opened.facts(str(run))["codec"]))
    ends = data.codec.decode(model.reconstruct(data.x))
    assert [out.split("\n")[0], out.split("\n")[5]] == ends
    back = cli("interpolate", run, LINES[-1], LINES[0], "--steps", "6")[1]
    assert back.split("\n")[0] == ends[1]
    assert cli("interpolate", run, LINES[0], LINES[-1], "--steps", "6", "--output", tmp_path / "i.txt")[0] == 0
    assert (tmp_path / "i.txt").read_text() == out


def test_other_data_are_read_with_the_codec_of_the_run(cli, refused, run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("the cat\na bird sees\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, out, _ = cli("evaluate", run, "--data", other, "--importance_samples", "2")
    assert (code, "2 data" in out) == (0, True)
    other.write_text("the cat\na ZEBRA\n")
    refused(2, r"line 2 has the character 'Z' \(U\+005A\), which is none of the", "evaluate", run, "--data", other)
    other.write_text("the cat\n" + 9 * "the dog " + "\n")
    refused(
        2,
        r"line 2 has 72 characters, and at most \d+ are taken",
        "reconstruct",
        run,
        "--data",
        other,
        "--output",
        tmp_path / "o.txt",
    )


def test_what_is_refused_at_the_command_line(refused, run, tmp_path):
    refused(2, r"the pair of texts line 2 has the character '!'", "interpolate", run, LINES[0], "you!")
    refused(2, "steps is 1: give at least 2", "interpolate", run, LINES[0], LINES[1], "--steps", "1")
    refused(2, "texts make no picture: give --output a name that ends in .txt", "sample", run, "--output", "x.png")
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\n")
    refused(2, "line 2 is not UTF-8 at byte 5", "train", "vae", "--data", bad, "--out", tmp_path / "run")
    bad.write_bytes(b"\n\n")
    refused(2, "nothing but blank lines", "train", "vae", "--data", bad, "--out", tmp_path / "run")


def test_pieces_of_words_and_a_transformer(cli, tmp_path):
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(LINES))
    settings = "tokens=bpe vocabulary=270 network=transformer hidden=32 latent_dim=2 epochs=1 importance_samples=2 threads=1"
    flags = [f"--{setting}" for setting in settings.split()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, out, error = cli("train", "vae", "--data", text, "--out", tmp_path / "run", *flags)
    assert code == 0, error
    assert re.search(r"lines of up to \d+ pieces, 270 different ones", out)
    assert cli("sample", tmp_path / "run", "--n", "3", "--output", tmp_path / "s.txt")[0] == 0
    assert len(lines_of(tmp_path / "s.txt")) == 3
    code, out, error = cli("interpolate", tmp_path / "run", "the cat", "日本", "--steps", "2")
    assert (code, len(out.removesuffix("\n").split("\n"))) == (0, 2), error


def test_a_run_goes_on_bit_for_bit(cli, run, tmp_path):
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(LINES * 2))
    settings = "latent_dim=2 hidden=8 word_dropout=0.2 importance_samples=2 threads=1 batch_size=16"
    flags = [f"--{setting}" for setting in settings.split()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for out, epochs in [("whole", [2]), ("parts", [1, 2])]:
            for n in epochs:
                assert cli("train", "vae", "--data", text, "--out", tmp_path / out, "--epochs", str(n), *flags)[0] == 0
    from reparam.models.trained import model_of
    from reparam.training import Run

    whole, parts = (dict(model_of(Run.open(tmp_path / name), "last").named_parameters()) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("codec", ["text", ["text"], {"kind": "os.system"}, {"kind": "text", "length": 5, "colour": "red"}])
def test_a_record_whose_codec_is_none_is_refused(run, refused, tmp_path, codec):
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    record["data"]["codec"] = codec
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    for words in (["sample", tmp_path / "run"], ["interpolate", tmp_path / "run", "the cat", "the dog"]):
        refused(3, "run.json does not describe", *words)
