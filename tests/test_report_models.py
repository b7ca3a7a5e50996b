"""Reports of diffusion models, texts and sounds: whole, self-contained, and made of what a model can do."""

import base64
import re
import warnings

import numpy as np
import pytest
import torch

from reparam import report
from reparam.data import from_tensor, split
from reparam.models import MODELS
from reparam.models.trained import DataOptions, record
from reparam.noise import Fresh
from reparam.report.pieces import Subject
from reparam.report.sections import sections
from reparam.training import Run, Training, fit
from test_report import check

FRAME = ["The idea", "Training"], ["How this was made"]


def trained(directory, name, config, *, epochs=1, options=None, **data):
    """A run of few steps."""
    kind, settings = MODELS[name].load()
    options = options or DataOptions(**data)
    everything, splits = options.load()
    training = Training(epochs=epochs, noise="antithetic", patience=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.for_data(settings(**config), splits.train)
    with Run.create(directory, record(name, model, training, options, everything, splits)) as run:
        fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, run, progress=False)
    return Run.open(directory)


def page_of(run, evaluation=None):
    return report.write(run, evaluation=evaluation).read_text(encoding="utf-8")


def small(model_name, config, data):
    """A model that has seen no step, and its data: what is shown must not depend on how good it is."""
    kind, settings = MODELS[model_name].load()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        splits = split(data, seed=0)
        return kind.for_data(settings(**config), splits.train).eval(), splits


def titles(model, splits):
    return [section.title for section in sections(model, splits)]


DIFFUSION = ["From noise to data", "Samples", "Guidance", "Filling in", "Samplers", "Noise levels"]


@pytest.fixture
def few(monkeypatch):
    """Less of everything that takes long, so that the tests do not."""
    monkeypatch.setattr("reparam.report.levels._BATCHES", 4)
    monkeypatch.setattr("reparam.report.diffusion._STEPS", (2, 4))
    monkeypatch.setattr("reparam.report.diffusion._SHOWN", (("ddim", 2), ("heun", 2), ("ddpm", 3)))
    monkeypatch.setattr("reparam.report.pieces._SMALL", 0)


def test_a_diffusion_model_of_pictures(tmp_path, few):
    config = {"channels": (8,), "network": "unet"}
    run = trained(tmp_path, "diffusion", config, data="digits")
    page = page_of(run)
    assert check(page) == [*FRAME[0], *DIFFUSION, *FRAME[1]]
    assert "lower is better" in page
    assert "spread evenly by Sobol points" in page
    assert 'alt="Samples by label, a row each: 0, 1, 2' in page
    assert len(page) < 1.5e6


@pytest.mark.parametrize(("columns", "labels"), [(1, False), (2, True), (4, False)])
def test_a_diffusion_model_of_columns(few, columns, labels):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, columns, generator=generator)
    x[:, -1] = x[:, -1] if columns < 4 else 1.0  # a constant column
    data = from_tensor(x, torch.arange(100) % 2 if labels else None, name="made")
    model, splits = small("diffusion", {"hidden": (16,)}, data)
    left_out = ([] if labels else ["Guidance"]) + (["Filling in"] if columns == 1 else [])
    assert titles(model, splits) == [title for title in DIFFUSION if title not in left_out]


def test_a_diffusion_model_of_shapes_that_are_no_pictures(few):
    x = torch.randn(60, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    model, splits = small("diffusion", {"channels": (8,)}, from_tensor(x, name="two channels"))
    assert titles(model, splits) == [title for title in DIFFUSION if title != "Guidance"]


def test_a_diffusion_model_that_no_label_was_hidden_from(few):
    """What asks it without a label is left out."""
    data = from_tensor(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2, name="told")
    assert titles(*small("diffusion", {"hidden": (8,), "label_dropout": 0.0}, data)) == [
        "From noise to data",
        "Samples",
        "Samplers",
    ]


@pytest.mark.parametrize(("name", "config"), [("flow", {"transforms": 1, "hidden": (4,)}), ("diffusion", {"hidden": (4,)})])
def test_data_of_three_rows(few, name, config):
    data = from_tensor(torch.tensor([[0.1, 1.2], [1.5, 2.0], [2.25, 0.5]]), name="three")
    model, splits = small(name, config, data)
    assert "Samples" in titles(model, splits)


def test_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("reparam.report.gradients._DRAWS", 4)
    path = tmp_path / "lines.txt"
    lines = ["<b>to be</b>", "or not & to be", "that is the question", "whether 'tis nobler"] * 15
    path.write_text("\n".join(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # after one epoch the latents are not used yet
        page = page_of(trained(tmp_path / "run", "vae", {"latent_dim": 3, "hidden": (16,)}, data=str(path)))
    assert check(page) == [*FRAME[0], "Reconstructions", "Samples", "Latent space", "What the trick buys", *FRAME[1]]
    assert "&lt;b>to be&lt;/b>" in page or "&lt;b&gt;to be&lt;/b&gt;" in page
    assert "<b>to be" not in page
    assert "bits per character" in page
    assert "KL by latent" in page
    assert '<th scope="col">way</th>' in page


def voices(folder, n=24):
    soundfile = pytest.importorskip("soundfile")
    folder.mkdir()
    generator = np.random.default_rng(0)
    at = np.arange(1200) / 4000
    for i in range(n):
        tone = 0.5 * np.sin(2 * np.pi * (400 + 300 * (i % 2)) * at) + 0.01 * generator.normal(size=len(at))
        soundfile.write(folder / f"{'ab'[i % 2]}_{i}.wav", tone, 4000)
    return DataOptions(data=str(folder), label="name", mels=16)


@pytest.mark.parametrize(
    ("name", "config"), [("diffusion", {"channels": (8,), "network": "signal"}), ("vae", {"latent_dim": 2, "hidden": (8,)})]
)
def test_sounds(tmp_path, few, monkeypatch, name, config):
    pytest.importorskip("librosa")
    monkeypatch.setattr("reparam.report.gradients._DRAWS", 4)
    run = trained(tmp_path / "run", name, config, options=voices(tmp_path / "wav"))
    page = page_of(run)
    check(page)
    players = re.findall(r'<audio controls[^>]* src="data:audio/wav;base64,([^"]+)"', page)
    # One for each of two labels; or pairs of test data, and ten samples.
    assert len(players) == (2 if name == "diffusion" else 2 * run.record["data"]["sizes"]["test"] + 10)
    assert all(base64.b64decode(player)[:4] == b"RIFF" for player in players)
    assert len(page) < 3e6


def test_low_frequencies_are_below():
    """A tone of the lowest band is bright in the lowest row of its picture."""
    from reparam.report.audio import _coloured

    data = from_tensor(torch.rand(40, 1, 6, 5), name="made", values="real")
    model, splits = small("vae", {"latent_dim": 2, "hidden": (4,)}, data)
    x = torch.zeros(1, 1, 6, 5)
    x[:, :, 0] = 1.0
    picture = _coloured(Subject(model, splits, Fresh(torch.Generator())), x)
    assert picture.shape == (1, 3, 6, 5)
    assert picture[0, :, -1].min() > 0.7 > 0.3 > picture[0, :, 0].max()
