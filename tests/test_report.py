"""Reports: whole, self-contained, and true to the run."""

import base64
import html
import io
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from reparam import report
from reparam.errors import ArtefactError, BadInputError
from reparam.models.trained import DataOptions, record
from reparam.models.vae import VAE, Config
from reparam.training import Run, Training, fit


def trained(directory, config, training=None, **data):
    options = DataOptions(**data)
    everything, splits = options.load()
    training = training or Training(epochs=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE.for_data(config, splits.train)
    with Run.create(directory, record("vae", model, training, options, everything, splits)) as run:
        fit(model, splits.train.x, splits.validation.x, training, run, progress=False)
    return Run.open(directory)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    run = trained(tmp_path_factory.mktemp("it's digits"), Config(latent_dim=4, hidden=(32,)))
    return run, report.write(run).read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Collects headings, ids and outside references, and checks that elements close in order."""

    VOID = {"meta", "img", "br", "link", "hr", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.headings, self.alts = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.references += [attributes[key] for key in ("src", "href", "xlink:href") if key in attributes]
        if tag == "img":
            self.alts.append(attributes.get("alt"))
        assert tag != "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def check(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    for reference in checker.references:
        assert reference.startswith(("data:", "#")), reference
        assert not reference.startswith("#") or reference[1:] in checker.ids
    assert all(checker.alts)
    # No font, style or picture is fetched; namespaces are names, not addresses.
    assert not re.search(r"@import|url\((?!#)", page)
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    return checker.headings


def test_page_is_whole_and_self_contained(digits):
    _, page = digits
    assert check(page) == [
        "The idea", "Training", "Reconstructions", "Samples", "Latent space", "What the trick buys", "How this was made",
    ]  # fmt: skip
    assert len(page) < 2e6


def test_numbers_are_those_of_the_run(digits):
    run, page = digits
    assert "VAE on digits" in page
    assert run.record["data"]["digest"] in page
    assert "1437 train, 180 validation, 180 test" in page
    from reparam.models.evaluation import evaluate
    from reparam.models.trained import data_of, model_of

    found = evaluate(model_of(run), data_of(run).test.x, k=200, source=report.Fresh(torch.Generator().manual_seed(0)))
    assert f"{found.elbo:.2f}".replace("-", "−") in page
    assert f"{found.nll:.2f}" in page


def test_gradient_variance_ratio_is_that_of_the_bars(digits):
    _, page = digits
    label = re.search(
        r"total variance[^\"]*: pathwise \(the trick\) ([\d.,]+), .*leave-one-out ([\d.,]+), score function ([\d.,]+)", page
    )
    pathwise, _, score = (float(number.replace(",", "")) for number in label.groups())
    ratio = float(re.search(r"score function is ([\d,.]+) times", page)[1].replace(",", ""))
    assert ratio == pytest.approx(score / pathwise, rel=0.07)  # 2 digits of it, of 3 of each
    assert ratio > 10


def test_originals_are_shown_as_they_are(digits):
    run, page = digits
    from reparam.models.trained import data_of

    pictures = re.findall(r'alt="Originals[^"]*" src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 2
    for block, picture in enumerate(pictures):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
        factor = image.shape[1] // (6 * 9 - 1)
        small = image[factor // 2 :: factor, factor // 2 :: factor]
        for i, x in enumerate(data_of(run).test.x[6 * block : 6 * block + 6]):
            assert np.array_equal(small[:8, 9 * i : 9 * i + 8, 0], (255 * x[0].numpy() / 16).round().astype(np.uint8))


def test_same_run_gives_the_same_page(digits):
    run, page = digits
    assert report.write(run).read_text(encoding="utf-8") == page


def test_command_makes_the_same_settings(digits):
    run, page = digits
    command = re.sub("</?span>", "", re.search(r"<pre>(.*?)</pre>", page)[1])
    assert "<span>--latent_dim</span> <span>4</span>" in page  # a line may end between words, not within a flag
    assert re.search(r"\npre {[^}]*white-space: pre-wrap", page)
    assert "--latent_dim 4" in command
    assert "--hidden 32" in command
    assert "--learning_rate" not in command
    assert shlex.split(html.unescape(command))[:5] == ["reparam", "train", "vae", "--out", str(run.path)]


def test_a_plane_of_latents_is_decoded(tmp_path):
    config = Config(latent_dim=2, hidden=(16,), binarize=True)  # the decoder is of 0 and 1, the pictures of counts to 16
    page = report.write(trained(tmp_path, config, Training(epochs=1))).read_text(encoding="utf-8")
    check(page)
    picture = re.search(r'alt="The decoded plane of latents" src="data:image/png;base64,([^"]+)"', page)[1]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))[..., 0].max() > 128


def test_vectors_and_hostile_names(tmp_path):
    path = tmp_path / "<b>x & 'y'.csv"
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt(path, rows, delimiter=",", header="a,<i>b,$c$", comments="")
    config = Config(latent_dim=1, hidden=(8,), covariance="full")
    page = report.write(trained(tmp_path / "run", config, data=str(path))).read_text(encoding="utf-8")
    assert check(page)[2:4] == ["Reconstructions", "Samples"]
    assert "<b>" not in page
    assert "<i>b" not in page
    assert "&lt;i&gt;b" in page
    assert "Densities of $c$" in page
    assert "&lt;b&gt;x &amp; &#39;y&#39;" in page


def test_moved_data_and_empty_runs_are_refused(tmp_path):
    path = tmp_path / "x.csv"
    np.savetxt(path, np.random.default_rng(0).normal(size=(60, 3)), delimiter=",", header="a,b,c", comments="")
    run = trained(tmp_path / "run", Config(latent_dim=1, hidden=(8,)), data=str(path))
    np.savetxt(path, np.random.default_rng(1).normal(size=(60, 3)), delimiter=",", header="a,b,c", comments="")
    with pytest.raises(BadInputError, match="has changed"):
        report.write(run)
    path.unlink()
    with pytest.raises(BadInputError, match="no file"):
        report.write(run)
    (run.path / "history.csv").unlink()
    with pytest.raises(ArtefactError, match="train first"):
        report.write(run)


@pytest.mark.parametrize(
    ("settings", "pictures"),
    [
        ({"latent": "bernoulli", "latent_dim": 5}, ["The probabilities of their latents", "Codes with one latent flipped"]),
        (
            {"latent": "categorical", "latent_dim": 2, "categories": 3, "estimator": "relax"},
            ["A code with one latent set to each category"],
        ),
        ({"latent": "bernoulli", "latent_dim": 2, "objective": "vimco"}, ["Codes with one latent flipped"]),
    ],
)
def test_codes_and_the_noise_of_their_gradients(tmp_path, monkeypatch, settings, pictures):
    monkeypatch.setattr("reparam.report.gradients._DRAWS", 20)
    page = report.write(trained(tmp_path, Config(hidden=(16,), **settings), Training(epochs=1))).read_text(encoding="utf-8")
    assert check(page) == [
        "The idea", "Training", "Reconstructions", "Samples", "Latent space", "How noisy the gradient is", "How this was made",
    ]  # fmt: skip
    assert all(f'alt="{picture}' in page for picture in pictures)
    rows = re.findall(r'<tr><th scope="row">([\w ()]+)</th><td>([^<]+)</td><td>([\d.]+|inf)</td><td>(biased|unbiased)</td>', page)
    kinds = {name.removesuffix(" (this run)"): kind for name, _, _, kind in rows}
    own = [name for name, *_ in rows if name.endswith(" (this run)")]
    wanted = settings.get("estimator", "disarm")
    assert own == ([] if "objective" in settings else [f"{wanted} (this run)"])
    assert kinds["leave_one_out"] == "unbiased"
    assert kinds["gumbel_softmax"] == "biased"
    assert "no derivative passes through it" in page
    assert "z = μ + σ" not in page
