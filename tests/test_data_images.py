"""Folders of pictures: IDX files as MNIST has them, and image files."""

import gzip
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from reparam.data import DataWarning, check, load, split
from reparam.errors import BadInputError


def refused(path, message, **options):
    with pytest.raises(BadInputError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


# IDX

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.integers(0, 256, (12, 5, 4), np.uint8), RNG.integers(0, 256, (3, 5, 4), np.uint8)


def idx(array, magic=None):
    header = struct.pack(f">{1 + array.ndim}I", magic or 0x0800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture(
    params=["train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-images-idx3-ubyte.gz", "train-images.idx3-ubyte.gz"]
)
def folder(request, tmp_path):
    """A folder like MNIST's, in each of the spellings that are around."""
    images = request.param
    labels = images.replace("images", "labels").replace("idx3", "idx1")
    for name, array in ((images, TRAIN), (labels, np.arange(12) % 10)):
        write(tmp_path / name, idx(array))
    for name, array in ((images, TEST), (labels, np.array([7, 8, 9]))):
        write(tmp_path / name.replace("train", "t10k"), idx(array))
    return tmp_path


def test_idx(folder):
    data = load(folder)
    assert torch.equal(data.x[:, 0], torch.tensor(TRAIN).float())
    assert data.y.tolist() == [i % 10 for i in range(12)]
    assert (data.values, data.levels, data.name) == ("counts", 255, folder.name)
    splits = split(data, validation=0.25)
    assert [len(splits.train), len(splits.validation)] == [9, 3]
    assert torch.equal(splits.test.x[:, 0], torch.tensor(TEST).float())
    assert splits.test.y.tolist() == [7, 8, 9]


def test_idx_without_labels_or_test_set(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", idx(TRAIN))
    data = load(tmp_path)
    assert (data.y, data.test) == (None, None)
    assert len(split(data, test=0.25).test) == 3


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes: not an IDX file of bytes in 3 dimensions, which starts with 2051"),
        (idx(TRAIN)[:9], "starts with 2051: not an IDX file"),
        (idx(TRAIN, magic=2049), "starts with 2049: not an IDX file"),
        (idx(TRAIN, magic=0x0D03), "starts with 3331"),
        (b"<!DOCTYPE html><html>", "not an IDX file"),
        (idx(TRAIN)[:-1], "promises 12 x 5 x 4 bytes of values and is truncated"),
        (idx(TRAIN) + b"\0", "promises 12 x 5 x 4 bytes of values and goes on after them"),
        (struct.pack(">4I", 2051, 0, 28, 28), r"has shape \(0, 28, 28\): there is nothing in it"),
        (struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1), "GiB of memory"),
        (struct.pack(">4I", 2051, 60_000, 28, 28), "is truncated"),
    ],
)
def test_idx_faults(tmp_path, suffix, content, message):
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    write(path, content)
    refused(tmp_path, message)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_header_that_lies_gets_no_memory(tmp_path, suffix):
    write(tmp_path / f"train-images-idx3-ubyte{suffix}", struct.pack(">4I", 2051, 600_000, 28, 28))
    tracemalloc.start()
    refused(tmp_path, "is truncated")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6  # of the 470 MB that it promises


def test_idx_gzip_faults(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = gzip.compress(idx(TRAIN))
    for n in range(len(content)):
        path.write_bytes(content[:n])
        refused(tmp_path, "truncated|not an IDX file")
    path.write_bytes(idx(TRAIN))
    refused(tmp_path, "damaged or truncated gzip")
    path.write_bytes(content[:40] + bytes([content[40] ^ 255]) + content[41:])
    refused(tmp_path, "damaged|truncated|goes on")


def test_a_gzip_bomb_is_never_unpacked(tmp_path, monkeypatch):
    """Whatever its header promises: no more than that is unpacked, and no more than there is room for."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(TRAIN) + bytes(50_000_000)))
    refused(tmp_path, "goes on after them")
    monkeypatch.setattr(check, "memory", lambda: 1_000_000)
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 50_000, 100, 10) + bytes(50_000_000)))
    refused(tmp_path, "GiB of memory")


def test_idx_labels(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", idx(TRAIN))
    write(tmp_path / "train-labels-idx1-ubyte", idx(np.arange(11)))
    refused(tmp_path, "train-labels-idx1-ubyte' has 11 labels, .*train-images-idx3-ubyte' has 12 images")
    (tmp_path / "train-images-idx3-ubyte").unlink()
    refused(tmp_path, "has IDX files but not 'train-images-idx3-ubyte'")


def test_real_mnist(shared_data):
    data = load(shared_data / "mnist")
    assert (len(data), len(data.test), data.shape, data.values, data.levels) == (60_000, 10_000, (1, 28, 28), "counts", 255)
    assert data.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The mean and the deviation that everybody normalises with.
    assert round((data.x.double() / 255).mean().item(), 4) == 0.1307
    assert round((data.x.double() / 255).std().item(), 4) == 0.3081


# Image files


def picture(path, mode="L", size=(6, 4), seed=0, **options):
    rng = np.random.default_rng(seed)
    bands = {"1": 0, "L": 0, "P": 0, "RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4, "I;16": 0}[mode]
    pixels = rng.integers(0, 256, (size[1], size[0], *([bands] if bands else [])), np.uint8)
    if mode in ("RGBA", "LA"):
        pixels[..., -1] = options.pop("alpha", 255)
    if mode == "1":
        image = Image.fromarray(pixels > 127)
    elif mode == "P":
        image = Image.fromarray(pixels % 4, "L").convert("P")
    elif mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 256)
    else:
        image = Image.fromarray(pixels) if mode != "CMYK" else Image.frombytes("CMYK", size, pixels.tobytes())
    path.parent.mkdir(exist_ok=True, parents=True)
    image.save(path, **options)
    return pixels


def test_grey_images_in_the_order_of_their_names(tmp_path):
    wanted = [picture(tmp_path / name, seed=i) for i, name in enumerate(["a.png", "b.PNG", "c.bmp", "d.tif", "e.pgm"])]
    (tmp_path / "README.txt").write_text("not an image")
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves behind")
    data = load(tmp_path)
    assert torch.equal(data.x[:, 0], torch.tensor(np.stack(wanted)).float())
    assert (data.shape, data.y, data.values, data.levels) == ((1, 4, 6), None, "counts", 255)


def test_colour_images(tmp_path):
    wanted = picture(tmp_path / "a.png", "RGB")
    opaque = picture(tmp_path / "b.png", "RGBA", seed=1)
    data = load(tmp_path)
    assert data.shape == (3, 4, 6)
    assert torch.equal(data.x[0], torch.tensor(wanted).float().permute(2, 0, 1))
    assert torch.equal(data.x[1], torch.tensor(opaque[..., :3]).float().permute(2, 0, 1))


def test_other_modes(tmp_path):
    bits = picture(tmp_path / "bits" / "a.png", "1")
    data = load(tmp_path / "bits")
    assert data.values == "binary"
    assert torch.equal(data.x[0, 0], torch.tensor(bits > 127).float())
    grey = picture(tmp_path / "la" / "a.png", "LA")
    assert torch.equal(load(tmp_path / "la").x[0, 0], torch.tensor(grey[..., 0]).float())
    indices = picture(tmp_path / "palette" / "a.png", "P")
    assert torch.equal(load(tmp_path / "palette").x[0], torch.tensor(indices % 4).float().expand(3, 4, 6))


def test_sub_folders_are_labels(tmp_path):
    for i, name in enumerate(["dog/1.png", "cat/2.png", "cat/deep/3.png", "bee/4.png"]):
        picture(tmp_path / name, seed=i)
    assert load(tmp_path).y.tolist() == [0, 1, 1, 2]
    picture(tmp_path / "5.png")
    assert load(tmp_path).y is None


def png_header_of(width, height):
    """A PNG that promises a size and holds nothing."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + chunk(b"IDAT", b"")


def animation(path):
    frames = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (0, 99)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


FAULTS = {
    "size": (lambda path: picture(path, size=(6, 5)), r"is 6 x 5 grey, '.*a\.png' is 6 x 4 grey: all images must have one size"),
    "channels": (lambda path: picture(path, "RGB"), r"is 6 x 4 colour, '.*a\.png' is 6 x 4 grey"),
    "bits": (lambda path: picture(path, "1"), r"is 6 x 4 black and white, '.*a\.png' is 6 x 4 grey"),
    "cmyk": (lambda path: picture(path, "CMYK", format="tiff"), "has mode CMYK: save it as 8-bit grey or RGB"),
    "deep": (lambda path: picture(path, "I;16"), "has mode I;16"),
    "transparent": (lambda path: picture(path, "LA", alpha=254), "is transparent: put it on a background"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "text": (lambda path: path.write_text("hello"), "cannot be read as an image"),
    "animated": (lambda path: animation(path.with_suffix(".gif")), "has 2 frames"),
    "huge": (lambda path: path.write_bytes(png_header_of(5000, 5000)), "5000 x 5000 pixels, and at most 16777216 are read"),
    "enormous": (lambda path: path.write_bytes(png_header_of(10**5, 10**5)), "cannot be read as an image|pixels, and at most"),
    "warned of": (lambda path: path.write_bytes(png_header_of(10**4, 10**4)), "10000 x 10000 pixels, and at most"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_image_that_cannot_be_used_fails_or_is_skipped(tmp_path, fault):
    make, message = FAULTS[fault]
    good = [picture(tmp_path / name, seed=i) for i, name in enumerate(["a.png", "c.png"])]
    make(tmp_path / "b.png")
    refused(tmp_path, rf"b\.(png|gif)' .*({message}).*on_error='skip'")
    with pytest.warns(DataWarning, match=r"1 of 3 images were skipped; the first: .*b\.(png|gif)'") as caught:
        data = load(tmp_path, on_error="skip")
    assert len(caught) == 1
    assert torch.equal(data.x[:, 0], torch.tensor(np.stack(good)).float())


def test_other_policies_are_refused(tmp_path):
    refused(tmp_path, "on_error='ignore': 'fail' or 'skip' is wanted", on_error="ignore")


def test_no_image_is_left(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    refused(tmp_path, r"none of the 1 images in .* can be used; the first: '.*a\.png'", on_error="skip")


def test_no_room(tmp_path, monkeypatch):
    for i in range(30):
        picture(tmp_path / f"{i}.png", seed=i)
    monkeypatch.setattr(check, "memory", lambda: 5000)
    refused(tmp_path, "30 images of 6 x 4 grey, needs .* GiB of memory")


@pytest.mark.parametrize(
    ("name", "mode"), [("b.png", "L"), ("b.jpg", "L"), ("b.tif", "L"), ("b.webp", "RGB"), ("b.gif", "L"), ("b.bmp", "RGB")]
)
def test_truncated_and_damaged_images(tmp_path, name, mode):
    picture(tmp_path / name, mode)
    content = (tmp_path / name).read_bytes()
    complete = load(tmp_path)
    damages = [content[:n] for n in range(0, len(content), 5)]
    damages += [content[:n] + bytes([content[n] ^ 255]) + content[n + 1 :] for n in range(0, len(content), 5)]
    for damaged in damages:
        (tmp_path / name).write_bytes(damaged)
        try:
            data = load(tmp_path)
        except BadInputError:
            continue
        assert len(data) == len(complete)  # a flipped colour is still an image
