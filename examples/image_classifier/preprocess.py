"""From JPEG bytes to the model's input tensor. Pillow and numpy release the GIL for most of it."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from examples.image_classifier.model import IMAGE_PIXELS

_MAX_PIXELS = 16_000_000
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_SUPERSAMPLING_RATIO = 1.3


class InvalidImage(ValueError):
    """The bytes are not an image this server accepts; the message says why."""


class Preprocessor:
    """Decode, resize and normalise.

    With ``supersampling`` the picture is first enlarged and reduced again with a wide filter: the
    well-meant kind of change that doubles the cost of a request and that nobody sees in review.
    """

    def __init__(self) -> None:
        self.supersampling = False

    def __call__(self, jpeg: bytes) -> torch.Tensor:
        """Return a float tensor [1, 3, height, width]."""
        picture = _decode(jpeg)
        if self.supersampling:
            picture = _supersample(picture)
        resized = picture.resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.BILINEAR)
        values = np.asarray(resized, dtype=np.float32) / np.float32(255)
        normalised = (values - _MEAN) / _DEVIATION
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis]))


def _decode(jpeg: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
        if picture.width * picture.height > _MAX_PIXELS:
            raise InvalidImage(
                f"the image has {picture.width}x{picture.height} pixels; "
                f"at most {_MAX_PIXELS} are accepted"
            )
        return picture.convert("RGB")
    except UnidentifiedImageError:
        raise InvalidImage(f"the {len(jpeg)} bytes of the image are not a JPEG") from None
    except (OSError, SyntaxError) as error:
        raise InvalidImage(f"the JPEG cannot be decoded: {error}") from None


def _supersample(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    enlarged_size = (int(width * _SUPERSAMPLING_RATIO), int(height * _SUPERSAMPLING_RATIO))
    enlarged = picture.resize(enlarged_size, Image.Resampling.LANCZOS)
    return enlarged.resize((width, height), Image.Resampling.LANCZOS)
