"""Distinct JPEG images made in memory from a seed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_WIDTH_PIXELS = 640
_HEIGHT_PIXELS = 480
_NOISE_DEVIATION = 10.0
_QUALITY = 85


def make_images(count: int, seed: int) -> list[bytes]:
    """Return that many JPEGs: a colour gradient with noise, each of its own direction."""
    generator = np.random.default_rng(seed)
    return [_make_image(generator) for _ in range(count)]


def _make_image(generator: np.random.Generator) -> bytes:
    across = np.linspace(0, 1, _WIDTH_PIXELS)[np.newaxis, :, np.newaxis]
    down = np.linspace(0, 1, _HEIGHT_PIXELS)[:, np.newaxis, np.newaxis]
    weights = generator.uniform(-1, 1, (2, 3))
    gradient = 128 + 100 * (weights[0] * (across - 0.5) + weights[1] * (down - 0.5))
    noise = generator.normal(0, _NOISE_DEVIATION, (_HEIGHT_PIXELS, _WIDTH_PIXELS, 3))
    pixels = np.clip(gradient + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
