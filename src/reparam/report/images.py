"""Pictures of data as PNG, crisp at any width: enlarged by whole factors, beyond what the page shows."""

from __future__ import annotations

import base64
import io

import numpy as np

__all__ = ["grid", "is_image", "png"]


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether data of this shape can be shown as pictures: 1 or 3 channels, height, width."""
    return len(shape) == 3 and shape[0] in (1, 3)


def png(images: np.ndarray, columns: int, *, gap: int = 1) -> bytes:
    """A PNG file of images `N, C, H, W` with values in [0, 1], in rows of `columns`, transparent between them and where
    values are NaN.
    """
    from PIL import Image

    n, channels, height, width = images.shape
    rows = -(-n // columns)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    shown = (255 * np.clip(np.nan_to_num(images), 0, 1)).round().astype(np.uint8)
    for i, image in enumerate(shown):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        cell = canvas[top : top + height, left : left + width]
        cell[..., :3] = image.transpose(1, 2, 0) if channels == 3 else image[0][..., None]
        cell[..., 3] = 255 * ~np.isnan(images[i]).any(0)
    factor = max(1, 1920 // canvas.shape[1])
    picture = Image.fromarray(canvas).resize((canvas.shape[1] * factor, canvas.shape[0] * factor), Image.Resampling.NEAREST)
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    return data.getvalue()


def grid(images: np.ndarray, columns: int, description: str, *, gap: int = 1) -> str:
    """An `<img>` that holds `png(images, columns)`."""
    source = base64.b64encode(png(images, columns, gap=gap)).decode()
    return f'<img class="pixels" alt="{description}" src="data:image/png;base64,{source}">'
