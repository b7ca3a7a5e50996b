"""Models of recordings from the command line: from a folder of WAV files to another one."""

import numpy as np
import pytest
import soundfile

from reparam.data.recordings import read_audio_folder

RATE = 8000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A hundred low and a hundred high tones, a tenth of a second or a little more."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(200):
        time = np.arange(rng.integers(800, 1000)) / RATE
        samples = 0.5 * np.sin(2 * np.pi * (500 if i < 100 else 2500) * rng.uniform(0.9, 1.1) * time)
        soundfile.write(folder / f"{'low' if i < 100 else 'high'}_{i}.wav", samples, RATE)
    return folder


@pytest.fixture(scope="module")
def runs(recordings, tmp_path_factory):
    from reparam.cli import main

    place = tmp_path_factory.mktemp("runs")
    shared = f"--data {recordings} --label name --mels 8 --batch_size 16 --checkpoint_every 100 --threads 1 --importance_samples 2"
    for words in (
        "diffusion --network signal --channels 16,16 --epochs 8 --learning_rate 1e-2 --ema 0.9",
        "vae --network conv --channels 4,8 --hidden 16 --latent_dim 2 --epochs 3",
    ):
        name = words.split()[0]
        assert main([*f"train {words} {shared} --out {place / name}".split()]) == 0
    return place


def test_sounds_of_a_label_have_its_pitch(runs, cli, tmp_path):
    """Of 500 and 2500 Hz: bands 1 and 5 or 6 of 8. Half of 16 are on the right side by chance; 13 or more with 1.1 %."""
    right = 0
    for label in ("low", "high"):
        code, out, _ = cli("sample", runs / "diffusion", "--label", label, "--n", 8, "--steps", 10, "--output", tmp_path / label)
        assert (code, out.strip()) == (0, str(tmp_path / label))
        assert sorted(path.name for path in (tmp_path / label).iterdir())[::7] == [f"{label}_0001.wav", f"{label}_0008.wav"]
        data = read_audio_folder(tmp_path / label, mels=8)
        loudest = data.x[:, 0, :, 1:6].exp().mean(-1).argmax(-1)
        right += int(((loudest >= 4) == (label == "high")).sum())
    assert right >= 13


def test_a_vae_reconstructs_to_sounds(runs, cli, tmp_path):
    code, _, _ = cli("reconstruct", runs / "vae", "--n", 2, "--output", tmp_path / "sounds")
    assert code == 0
    assert len(list((tmp_path / "sounds").iterdir())) == 4
    assert cli("sample", runs / "vae", "--n", 2, "--output", tmp_path / "samples.npz")[0] == 0


def test_other_recordings_are_read_as_those_of_the_run(runs, cli, tmp_path, recordings):
    """A longer one at another rate becomes a spectrogram of the run's size."""
    time = np.arange(16000) / 16000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 500 * time), 16000)
    assert cli("reconstruct", runs / "vae", "--data", tmp_path, "--n", 1, "--output", tmp_path / "x.npz")[0] == 0
    with np.load(tmp_path / "x.npz") as found:
        assert found["x"].shape == (1, *read_audio_folder(recordings, mels=8).shape)
