"""Folders of recordings, their log-mel spectrograms, and the way back to sound."""

import json
import struct

import numpy as np
import pytest
import soundfile
import torch

from reparam.cli.sounds import sound_folder, write_sounds
from reparam.data import DataWarning, split
from reparam.data.audio import AudioCodec
from reparam.data.codec import codec_of
from reparam.data.recordings import has_wav, read_audio_folder
from reparam.data.wav import MOST_SECONDS, read_wav, to_wav
from reparam.errors import BadInputError, StorageError

RATE = 8000
CODEC = AudioCodec(rate=RATE, mels=40, frames=32, window=256, hop=128)


def tone(seconds=0.3, hertz=440.0, level=0.5, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time) * np.minimum(1, 20 * time)).astype(np.float32)


def write(path, samples=None, rate=RATE, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    soundfile.write(path, tone(rate=rate) if samples is None else samples, rate, format="WAV", **options)


def refused(path, message, **options):
    with pytest.raises(BadInputError, match=message) as caught:
        read_audio_folder(path, **options)
    assert "\n" not in str(caught.value)


def heights(x, codec):
    """The middle of the loudest band of each frame, in hertz."""
    import librosa

    centres = librosa.mel_frequencies(codec.mels + 2, fmax=codec.rate / 2)[1:-1]
    return centres[x[0].argmax(0)]


# One file


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_kind_of_sample(tmp_path, subtype):
    write(tmp_path / "a.wav", subtype=subtype)
    samples, rate = read_wav(tmp_path / "a.wav")
    assert (rate, samples.dtype, samples.shape) == (RATE, np.float32, (2400,))
    # Half a step of the coarsest: 8 bits, and the logarithmic steps of telephones, 2 % of full scale near 0.5.
    assert np.abs(samples - tone()).max() < (2e-2 if subtype in ("PCM_U8", "ULAW", "ALAW") else 1e-4)


def test_channels_are_averaged(tmp_path):
    left, right = tone(), tone(hertz=1000)
    write(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("scale", [1.5, 32768.0])
def test_floats_above_full_scale_are_scaled_down(tmp_path, scale):
    write(tmp_path / "a.wav", tone(level=1.0) * np.float32(scale), subtype="FLOAT")
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav").samples, tone(level=1.0) / np.abs(tone(level=1.0)).max(), atol=1e-6)


def test_bytes_of_a_wav_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(to_wav(3 * tone(), RATE))
    wanted = np.clip(3 * tone(), -1, 1)
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == RATE
    np.testing.assert_allclose(samples, wanted, atol=2**-14)


def content(samples=None, **options):
    """The bytes of a WAV file."""
    return to_wav(tone() if samples is None else samples, RATE, **options)


def with_size(size):
    """A WAV file whose header promises so many bytes of samples."""
    whole = content()
    place = whole.index(b"data") + 4
    return whole[:place] + struct.pack("<I", size) + whole[place + 4 :]


def clipped():
    return np.clip(tone(level=2.0), -1, 1)


def holed(value):
    samples = tone()
    samples[1200] = value
    return samples


FAULTS = {
    "empty": (b"", "is not a WAV file .it looks like an empty file."),
    "text": (b"hello", "is not a WAV file .it looks like text."),
    "page": (b"<!DOCTYPE html><html></html>", "an HTML page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    "picture": (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    "mp3": (b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb", "is not a WAV file"),
    "header only": (content()[:12], "is truncated: it has no samples"),
    "half": (content()[: len(content()) // 2], "is truncated: its header promises 4800 bytes of samples and 23.. follow"),
    "last byte": (content()[:-1], "is truncated: its header promises 4800 bytes of samples and 4799 follow"),
    "stream": (with_size(2**32 - 1), "is truncated: its header promises 4294967295 bytes"),
    "no samples": (content(np.zeros(0, np.float32)), "has no samples"),
    "format": (content().replace(b"fmt \x10\0\0\0\x01\0", b"fmt \x10\0\0\0\x99\x99"), "cannot be read as a WAV file"),
    "silent": (content(np.zeros(2400, np.float32)), "is silent: no sample reaches 3.1e-05 of full scale"),
    "clipped": (content(clipped()), r"is clipped: 59\.\d% of its samples are at full scale"),
    "short": (content(tone(0.03)), "is 30 ms long: at least 32 ms are wanted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recording_that_cannot_be_used_fails_or_is_skipped(tmp_path, fault):
    damaged, message = FAULTS[fault]
    for name in ("a.wav", "c.wav"):
        write(tmp_path / name)
    (tmp_path / "b.wav").write_bytes(damaged)
    refused(tmp_path, rf"b\.wav' .*({message}).*on_error='skip'")
    with pytest.warns(DataWarning, match=r"1 of 3 recordings were skipped; the first: .*b\.wav'") as caught:
        data = read_audio_folder(tmp_path, on_error="skip")
    assert (len(caught), len(data)) == (1, 2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (holed(np.nan), r"holds nan at sample 1200 \(0.15 s\): finite samples are wanted"),
        (holed(-np.inf), "holds -inf at sample 1200"),
        (holed(1e38), r"has a sample of 1e\+38: samples in \[-1, 1\], or whole numbers of 32 bits"),
        (clipped(), r"is clipped: 5\d\.\d% of its samples are at full scale"),
        (32768 * clipped(), r"is clipped: 5\d\.\d% of its samples are at full scale"),
        (np.stack([tone(), -tone()], 1), "is silent once its channels are averaged"),
        (tone(MOST_SECONDS + 1), "is 31 s long, and at most 30 s are read: cut it into pieces, or say how many seconds"),
    ],
)
def test_faults_of_floats(tmp_path, samples, message):
    write(tmp_path / "a.wav", samples, subtype="FLOAT")
    refused(tmp_path, message)


def test_a_torn_file_is_refused_wherever_it_is_torn(tmp_path):
    whole = content(tone(0.04))
    for n in range(len(whole)):
        (tmp_path / "a.wav").write_bytes(whole[:n])
        refused(tmp_path, "not a WAV file|is truncated")


def test_a_flipped_byte_is_refused_or_heard(tmp_path):
    whole = content(tone(0.04))
    for n in range(60):
        (tmp_path / "a.wav").write_bytes(whole[:n] + bytes([whole[n] ^ 255]) + whole[n + 1 :])
        try:
            samples, _ = read_wav(tmp_path / "a.wav")
        except BadInputError:
            continue
        assert np.isfinite(samples).all()
        assert len(samples) <= len(whole)


def test_a_header_with_more_in_it(tmp_path):
    """Chunks of other programs come before the samples, of an odd length too."""
    whole = content()
    place = whole.index(b"data")
    extra = whole[:place] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + whole[place:]
    (tmp_path / "a.wav").write_bytes(extra[:4] + struct.pack("<I", len(extra) - 8) + extra[8:])
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav").samples, tone(), atol=1e-4)


# Folders


def test_a_folder(tmp_path):
    for name, hertz in {"a.wav": 300, "b.WAV": 1000, "deep/c.wav": 3000}.items():
        write(tmp_path / name, tone(hertz=hertz))
    (tmp_path / "README.txt").write_text("no sound")
    (tmp_path / "._a.wav").write_bytes(b"what macOS leaves behind")
    data = read_audio_folder(tmp_path)
    # 0.3 s are 18.75 steps of 16 ms: 20 frames with both ends, and 24 in eights.
    assert (data.shape, data.x.dtype, data.y, data.values, data.levels) == ((1, 40, 24), torch.float32, None, "real", None)
    assert data.codec == AudioCodec(rate=RATE, mels=40, frames=24, window=256, hop=128)
    for x, hertz in zip(data.x, (300, 1000, 3000), strict=True):
        # Bands are 60 Hz wide below 1 kHz and up to 8 % of their frequency above.
        assert np.abs(heights(x.numpy(), data.codec)[2:17] - hertz).max() < max(31, 0.04 * hertz)
    # What follows a recording is silence, 60 dB below full scale.
    assert torch.allclose(data.x[..., 21:], torch.tensor(np.log(1e-6), dtype=torch.float32), atol=1e-4)
    assert data.scaling == f"values are log energies of 40 mel bands, from -13.8 to {data.x.max():.3g}"
    assert len(split(data, validation=0.3, test=0.3).train) == 1


def test_the_energy_of_a_full_scale_tone():
    """A Hann window spreads it over three bins, of energies 1/4, 1 and 1/4; bands that overlap share a bin."""
    x = CODEC.encode([tone(0.5, hertz=2000, level=1.0)])
    assert np.exp(x[0, 0, :, 10]).sum() == pytest.approx(1.5, rel=1e-3)


def test_labels_from_sub_folders(tmp_path):
    for name in ("dog/1.wav", "cat/2.wav", "cat/deep/3.wav"):
        write(tmp_path / name)
    data = read_audio_folder(tmp_path)
    assert (data.y.tolist(), data.classes) == ([0, 0, 1], ("cat", "dog"))
    write(tmp_path / "4.wav")
    assert read_audio_folder(tmp_path).y is None


def test_labels_from_names(tmp_path):
    for name in ("7_jackson_3.wav", "sub/3_theo_1.wav", "7_theo_0.wav"):
        write(tmp_path / name)
    data = read_audio_folder(tmp_path, label="name")
    assert (data.y.tolist(), data.classes, data.places.tolist()) == ([7, 7, 3], ("3", "7"), [1, 1, 0])
    write(tmp_path / "8.wav")
    refused(tmp_path, r"8\.wav' has no label in its name: label_....wav is wanted", label="name")
    (tmp_path / "8.wav").rename(tmp_path / "_8_theo.wav")
    refused(tmp_path, r"_8_theo\.wav' has no label in its name", label="name")


def test_mixed_rates_come_to_the_lowest(tmp_path):
    write(tmp_path / "a.wav", tone(hertz=1000))
    write(tmp_path / "b.wav", tone(hertz=1000, rate=22050), rate=22050)
    with pytest.warns(DataWarning, match="have rates from 8000 to 22050 samples a second: all are resampled to 8000"):
        data = read_audio_folder(tmp_path)
    assert data.codec.rate == 8000
    # Resampled well: the same tone to a tenth of a nat, where there is one.
    loud = data.x[0] > -6
    assert (data.x[0] - data.x[1])[loud].abs().max() < 0.1
    higher = read_audio_folder(tmp_path, rate=16000, mels=32)
    assert (higher.codec.rate, higher.codec.window, higher.shape) == (16000, 512, (1, 32, 24))
    assert np.abs(heights(higher.x[1].numpy(), higher.codec)[2:17] - 1000).max() < 60


def test_seconds_cut_and_pad(tmp_path):
    write(tmp_path / "a.wav", np.concatenate([tone(0.5, 300), tone(MOST_SECONDS, 3000)]))
    write(tmp_path / "b.wav", tone(0.1, 300))
    data = read_audio_folder(tmp_path, seconds=0.45)
    assert data.shape == (1, 40, 32)
    assert data.codec.seconds == pytest.approx(0.496)
    assert heights(data.x[0].numpy(), data.codec)[2:28].max() < 350
    longer = read_audio_folder(tmp_path, codec=CODEC)
    assert (longer.shape, longer.codec) == ((1, 40, 32), CODEC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "digit"}, "label='digit': a folder of recordings has labels by its sub-folders, or by label='name'"),
        ({"rate": 10}, "rate is 10: 1000 to 384000 samples a second are wanted"),
        ({"mels": 0}, "mels is 0: 1 to 512 bands are wanted"),
        ({"mels": 300}, "mels is 300: with 256 samples in a window at 8000 a second, .* bands are empty: give fewer"),
        ({"seconds": 100.0}, "seconds is 100: 0.032 to 30 are wanted"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"on_error": "ignore"}, "on_error='ignore': 'fail' or 'skip' is wanted"),
    ],
)
def test_settings_are_checked(tmp_path, options, message):
    write(tmp_path / "a.wav")
    refused(tmp_path, message, **options)


def test_folders_without_recordings(tmp_path):
    assert not has_wav(tmp_path)
    refused(tmp_path, r"has no recordings \(.wav\)")
    (tmp_path / "a.wav").write_bytes(b"")
    assert has_wav(tmp_path)
    refused(tmp_path, "none of the 1 recordings in .* can be used; the first", on_error="skip")


def test_a_file_that_the_system_refuses_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.wav")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("reparam.data.recordings.read_wav", refuse)
    refused(tmp_path, r"a\.wav' cannot be read: Permission denied \(or skip such")


def test_no_room(tmp_path, monkeypatch):
    write(tmp_path / "a.wav")
    monkeypatch.setattr("reparam.data.check.memory", lambda: 20_000)
    refused(tmp_path, "1 recordings, needs .* GiB of memory")
    monkeypatch.setattr("reparam.data.check.memory", lambda: 200_000)
    refused(tmp_path, "1 spectrograms of 29.6 s, needs .* GiB of memory", seconds=29.5)


# The codec


def chirp(seconds, first, last, level):
    time = np.arange(round(seconds * RATE)) / RATE
    fade = np.minimum(1, np.minimum(20 * time, 20 * (seconds - time)))
    return (level * fade * np.sin(2 * np.pi * (first + (last - first) * time / seconds / 2) * time)).astype(np.float32)


def test_there_and_back():
    """Sounds come back with the spectrogram that they had, though not with their phases, at their own level."""
    waveforms = [chirp(0.4, 200, 2500, 0.8), chirp(0.3, 3000, 500, 0.05), tone(0.45, level=0.3)]
    x = CODEC.encode(waveforms)
    made = CODEC.decode(torch.from_numpy(x))
    again = CODEC.encode(made)
    for before, after, wave, samples in zip(x, again, waveforms, made, strict=True):
        assert (samples.dtype, samples.shape) == (np.float32, (31 * 128,))
        loud = before > before.max() - 5
        # Half a nat (2 dB) on the average of the loud bands; a codec with scrambled frames or bands is off by several nats.
        assert np.abs(before - after)[loud].mean() < 0.5
        ratio = np.sqrt((samples**2).sum() / (wave**2).sum())
        assert 0.7 < ratio < 1.25  # phases that do not quite fit cancel
    assert all(np.array_equal(a, b) for a, b in zip(made, CODEC.decode(torch.from_numpy(x)), strict=True))


def test_silence_comes_back_as_silence():
    x = torch.from_numpy(CODEC.encode([np.zeros(100, np.float32)]))
    (samples,) = CODEC.decode(x)
    assert np.abs(samples).max() == 0


def test_what_a_model_makes_up_stays_within_full_scale():
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([20 * torch.randn(2, 1, 40, 32, generator=generator), torch.full((1, 1, 40, 32), 1e30)])
    for samples in CODEC.decode(x):
        assert np.isfinite(samples).all()
        assert 0.5 < np.abs(samples).max() <= 0.9901
    for wrong in (torch.zeros(1, 1, 40, 31), torch.full((1, 1, 40, 32), torch.nan)):
        with pytest.raises(ValueError, match=r"is wanted|are wanted"):
            CODEC.decode(wrong)
    assert CODEC.decode(torch.zeros(0, 1, 40, 32)) == []


def test_facts_rebuild_the_codec():
    facts = json.loads(json.dumps(CODEC.facts()))
    assert facts == {"kind": "audio", "rate": 8000, "mels": 40, "frames": 32, "window": 256, "hop": 128}
    assert codec_of(facts) == CODEC


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_windows_last_32_ms_at_any_rate(rate):
    codec = AudioCodec.for_length(1.0, rate)
    assert 0.022 < codec.window / rate < 0.046
    assert codec.window == 2 * codec.hop
    assert codec.frames % 8 == 0
    assert 1.0 <= codec.seconds < 1.0 + 9 * codec.hop / rate
    assert codec.encode([tone(rate=rate)]).shape == (1, 1, 40, codec.frames)


@pytest.mark.parametrize("change", [{"rate": 0}, {"mels": 0}, {"frames": 1}, {"hop": 0}, {"hop": 200}])
def test_a_codec_that_makes_no_spectrogram(change):
    with pytest.raises(BadInputError, match="wanted"):
        AudioCodec(**{"rate": 8000, "mels": 40, "frames": 32, "window": 256, "hop": 128, **change})


# Writing


def test_sounds_are_written_and_read_again(tmp_path):
    folder = sound_folder(str(tmp_path / "sounds"))
    write_sounds(folder, {"3_0001": tone(hertz=500), "7_0002": tone(hertz=900)}, RATE)
    assert sorted(path.name for path in folder.iterdir()) == ["3_0001.wav", "7_0002.wav"]
    data = read_audio_folder(folder, label="name")
    assert data.classes == ("3", "7")
    write_sounds(sound_folder(str(tmp_path / "more")), {"0001": tone()}, RATE)
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["0001.wav"]


def test_folders_that_are_refused(tmp_path):
    write(tmp_path / "sounds" / "a.wav")
    for output, message in {
        tmp_path / "sounds": "is a folder with files in it: give the name of a new one",
        tmp_path / "sounds" / "a.wav": "give the name of a folder for sounds",
        "sounds.png": "give the name of a folder for sounds",
        "so\0unds": "is no name of a folder",
        ".": "is no name of a folder",
        tmp_path / "..": "is no name of a folder",
    }.items():
        with pytest.raises(BadInputError, match=message):
            sound_folder(str(output))
    with pytest.raises(StorageError, match="cannot write"):
        write_sounds(tmp_path / "sounds", {"0001": tone()}, RATE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / ".empty.part").mkdir()  # what a killed process left
    write_sounds(sound_folder(str(tmp_path / "link")), {"0001": tone()}, RATE)
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["0001.wav"]
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / ".empty.part").exists()


# Recordings of people


def test_real_digits(shared_data):
    data = read_audio_folder(shared_data / "spoken_digits", label="name")
    assert (len(data), data.shape, data.codec.rate, data.classes) == (500, (1, 40, 56), 8000, tuple("0123456789"))
    assert data.y.bincount().tolist() == [50] * 10
    # As long as the longest, 0.88 s, and no longer than that takes in eights of frames.
    assert 0.87 < data.codec.seconds < 0.9
    again = data.codec.encode(data.codec.decode(data.x[:8]))
    # Speech loses 0.2 nats (1 dB) on its way; a half of a nat would be heard.
    assert np.sqrt(((again - data.x[:8].numpy()) ** 2).mean()) < 0.3
