"""Tensors in the two encodings of the protocol: raw bytes and typed contents.

Raw numbers are little-endian and row-major; a raw BYTES element is a 4-byte little-endian length
followed by that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from examples.open_inference.protocol import messages

Output = npt.NDArray[np.int64] | npt.NDArray[np.float32]

_LENGTH_BYTES = 4


class InvalidTensor(ValueError):
    """The request breaks the protocol; the message says how."""


def bytes_elements(request: messages.ModelInferRequest, input_name: str) -> list[bytes]:
    """Return the elements of the BYTES input of that name, whichever way it travels."""
    names = [tensor.name for tensor in request.inputs]
    if input_name not in names:
        raise InvalidTensor(f"input {input_name!r} is missing; the request has inputs {names}")
    index = names.index(input_name)
    tensor = request.inputs[index]
    if tensor.datatype != "BYTES":
        raise InvalidTensor(
            f"input {input_name!r} must have datatype BYTES, not {tensor.datatype!r}"
        )
    elements = _elements(request, index)
    expected = int(np.prod(tensor.shape, dtype=np.int64))
    if expected != len(elements):
        raise InvalidTensor(
            f"input {input_name!r} has shape {list(tensor.shape)} but {len(elements)} elements"
        )
    return elements


def _elements(request: messages.ModelInferRequest, index: int) -> list[bytes]:
    raw = request.raw_input_contents
    tensor = request.inputs[index]
    if not raw:
        return list(tensor.contents.bytes_contents)
    if len(raw) != len(request.inputs):
        raise InvalidTensor(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs"
        )
    if tensor.HasField("contents"):
        raise InvalidTensor(
            f"input {tensor.name!r} has contents although raw_input_contents is used"
        )
    return _split_raw_bytes(raw[index], tensor.name)


def _split_raw_bytes(raw: bytes, input_name: str) -> list[bytes]:
    elements = []
    offset = 0
    while offset < len(raw):
        start = offset + _LENGTH_BYTES
        if start > len(raw):
            raise InvalidTensor(f"raw input {input_name!r} ends inside a length")
        (length_bytes,) = struct.unpack_from("<I", raw, offset)
        offset = start + length_bytes
        if offset > len(raw):
            raise InvalidTensor(f"raw input {input_name!r} ends inside an element")
        elements.append(raw[start:offset])
    return elements


def join_raw_bytes(elements: Sequence[bytes]) -> bytes:
    """Encode BYTES elements for raw contents."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def add_output(
    response: messages.ModelInferResponse,
    name: str,
    values: Output,
    *,
    raw: bool,
) -> None:
    """Append an INT64 or FP32 output, raw or typed."""
    is_integer = values.dtype == np.int64
    tensor = response.outputs.add(
        name=name, datatype="INT64" if is_integer else "FP32", shape=values.shape
    )
    if raw:
        response.raw_output_contents.append(values.astype(values.dtype.newbyteorder("<")).tobytes())
    elif is_integer:
        tensor.contents.int64_contents.extend(values.ravel().tolist())
    else:
        tensor.contents.fp32_contents.extend(values.ravel().tolist())
