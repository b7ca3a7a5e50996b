"""Spoken digits made by class-conditional diffusion, as a classifier hears them; and what a VAE makes of real ones.

The models are trained on log-mel spectrograms of the training recordings, by the command line. The classifier is trained on the
sound of the same recordings and judged on that of the others; it has features of its own. It hears WAV files: those of people,
those that went through the codec and back, 20 of each digit that the diffusion model made, and those that the VAE reconstructed.

    python benchmarks/spoken_digits.py --data FOLDER

FOLDER holds the recordings, `7_jackson_3.wav` with the digit first (github.com/Jakobovski/free-spoken-digit-dataset).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import reparam as rp
from reparam.cli import main as command
from reparam.cli.sounds import write_sounds
from reparam.data import Splits
from reparam.data.wav import read_wav
from reparam.models.trained import data_of, model_of
from reparam.training import Run

DIGITS = "0123456789"
RATE = 8000
SETTINGS = "--label name --batch_size 32 --epochs 300 --learning_rate 1e-3 --checkpoint_every 25"
CHAIN = "--network signal --dropout 0.1 --learning_rate_schedule cosine --warm_up 100 --clip 1 --ema 0.999 --patience 0"
TRAINING = {"diffusion": f"{SETTINGS} {CHAIN}", "vae": f"{SETTINGS} --network conv --latent_dim 32 --patience 40"}


class Ear(nn.Module):
    """A small convolutional classifier of sounds of up to a second, by a log-mel spectrogram of its own: 32 bands, 10 ms."""

    def __init__(self, channels: int = 16) -> None:
        from librosa.filters import mel

        super().__init__()
        self.register_buffer("mel", torch.from_numpy(mel(sr=RATE, n_fft=256, n_mels=32, fmin=80, fmax=3800)))
        layers: list[nn.Module] = []
        for i, o in ((1, channels), (channels, channels), (channels, 2 * channels)):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.AdaptiveAvgPool2d((4, 3)), nn.Flatten(), nn.Dropout(0.3), nn.Linear(24 * channels, len(DIGITS))]
        self.layers = nn.Sequential(*layers, *head)

    def features(self, sounds: list[np.ndarray]) -> Tensor:
        """Loudness does not count, nor does what is 60 dB below the peak."""
        x = torch.zeros(len(sounds), RATE)
        for row, sound in zip(x, sounds, strict=True):
            row[: len(sound)] = torch.from_numpy(sound[:RATE] / max(np.abs(sound).max(), 1e-6))
        x += 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        power = torch.stft(x, 256, 80, 200, torch.hann_window(200), return_complex=True).abs() ** 2
        seen = (self.mel @ power + 1e-6).log()
        std, mean = torch.std_mean(seen, (1, 2), keepdim=True)
        return ((seen - mean) / std)[:, None]

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)

    @torch.no_grad()
    def hear(self, sounds: list[np.ndarray]) -> Tensor:
        """The digit in each sound."""
        self.eval()
        return self(self.features(sounds)).argmax(1)


def disturbed(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Said up to 0.2 s later, up to 15 % faster or slower, in noise 26 to 70 dB below its peak."""
    sound = np.concatenate([np.zeros(rng.integers(0, RATE // 5)), sound])
    sound = np.interp(np.arange(0, len(sound) - 1, rng.uniform(0.85, 1.15)), np.arange(len(sound)), sound)
    noise = np.abs(sound).max() * 10 ** rng.uniform(-3.5, -1.3) * rng.standard_normal(len(sound))
    return (sound + noise).astype(np.float32)


def train_ear(sounds: list[np.ndarray], digits: Tensor, seed: int, epochs: int = 50, batch: int = 32) -> Ear:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    ear = Ear()
    optimizer = torch.optim.AdamW(ear.parameters(), 2e-3, weight_decay=1e-2)
    steps = epochs * (len(sounds) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    for _ in range(epochs):
        ear.train()
        order = rng.permutation(len(sounds))
        for rows in np.split(order[: len(order) // batch * batch], len(order) // batch):
            x = ear.features([disturbed(sounds[row], rng) for row in rows])
            for image in x:  # some bands and some frames are hidden, as SpecAugment does (arXiv:1904.08779)
                band, frame = rng.integers(0, 28), rng.integers(0, 90)
                image[:, band : band + rng.integers(0, 5)] = 0
                image[:, :, frame : frame + rng.integers(0, 10)] = 0
            optimizer.zero_grad()
            nn.functional.cross_entropy(ear(x), digits[rows], label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    return ear


def train_model(name: str, args: argparse.Namespace) -> Run:
    """By the command line; a run that is there goes on."""
    path = args.runs / f"spoken_digits_{name}"
    words = f"train {name} {TRAINING[name]} --threads {args.threads} --importance_samples 5"
    code = command([*words.split(), "--data", str(args.data), "--out", str(path), "--seed", str(args.seed)])
    if code:
        raise SystemExit(code)
    return Run.open(path)


def through_files(sounds: list[np.ndarray], folder: Path, rate: int) -> list[np.ndarray]:
    """Sounds as they come back from WAV files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_sounds(folder, {f"{i:04d}": sound for i, sound in enumerate(sounds)}, rate)
    return [read_wav(path).samples for path in sorted(folder.iterdir())]


def share(heard: Tensor, wanted: Tensor | int) -> float:
    return float((heard == wanted).double().mean())


def distance(x: Tensor, splits: Splits) -> float:
    """Root mean square difference of log energies to the nearest training recording, its mean over x, in nats."""
    return float((torch.cdist(x.flatten(1), splits.train.x.flatten(1)).min(1).values / x[0].numel() ** 0.5).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are and the sounds go")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "spoken_digits.json")
    parser.add_argument("--each", type=int, default=20, help="sounds to make of each digit")
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    runs = {name: train_model(name, args) for name in TRAINING}
    splits = data_of(runs["diffusion"])
    codec = splits.train.codec
    files = sorted(args.data.glob("*.wav"))
    sounds = [read_wav(path).samples for path in files]
    digits = torch.tensor([int(path.name[0]) for path in files])
    held = torch.cat([splits.validation.rows, splits.test.rows])
    ear = train_ear([sounds[row] for row in splits.train.rows], digits[splits.train.rows], args.seed)

    diffusion, vae = (model_of(run) for run in runs.values())
    wanted = torch.arange(len(DIGITS)).repeat_interleave(args.each)
    start = time.perf_counter()
    made = {}
    for guidance in sorted({1.0, args.guidance}):
        source = rp.Fresh(torch.Generator().manual_seed(args.seed))
        made[guidance] = diffusion.sample(
            len(wanted), source, label=[DIGITS[digit] for digit in wanted], guidance=guidance, steps=args.steps
        )
    sampling = (time.perf_counter() - start) / len(made)
    real = torch.cat([splits.validation.x, splits.test.x])

    def heard(x: Tensor, name: str) -> Tensor:
        return ear.hear(through_files(codec.decode(x), args.runs / "spoken_digits_sounds" / name, codec.rate))

    by_guidance = {f"{guidance:g}": heard(x, f"guidance_{guidance:g}") for guidance, x in made.items()}
    of_digit = by_guidance[f"{args.guidance:g}"].reshape(len(DIGITS), -1)
    result = {
        "generated_heard_as_label": share(of_digit.flatten(), wanted),
        "bar": 0.75,
        "generated": len(wanted),
        "by_digit": {digit: share(row, int(digit)) for digit, row in zip(DIGITS, of_digit, strict=True)},
        "by_guidance": {guidance: share(found, wanted) for guidance, found in by_guidance.items()},
        "classifier_on_held_out_recordings": share(ear.hear([sounds[row] for row in held]), digits[held]),
        "classifier_bar": 0.95,
        "held_out": len(held),
        "held_out_through_codec": share(heard(real, "codec"), digits[held]),
        "held_out_reconstructed_by_vae": share(heard(vae.reconstruct(real), "vae"), digits[held]),
        "nats_to_nearest_training_recording": {
            "generated": {f"{guidance:g}": distance(x, splits) for guidance, x in made.items()},
            "held_out": distance(real, splits),
        },
        "training_seconds": {name: round(run.history()[-1]["seconds"]) for name, run in runs.items()},
        "epochs": {name: len(run.history()) for name, run in runs.items()},
        "parameters": {
            name: sum(p.numel() for p in model.parameters()) for name, model in (("diffusion", diffusion), ("vae", vae))
        },
        "sampling_seconds": round(sampling),
        "codec": codec.facts(),
        "commands": {name: f"reparam train {name} --data FOLDER {words}" for name, words in TRAINING.items()},
        "settings": {key: value for key, value in vars(args).items() if key not in ("data", "out", "runs")},
        "command": "python benchmarks/spoken_digits.py --data FOLDER",
        "torch": torch.__version__,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
