"""The GPU sampler's readings, as the server's probe would take them."""

from __future__ import annotations

import time

from pinchpoint.samplers.nvml import NvmlSampler
from pinchpoint.schema.observations import NameKind
from pinchpoint.schema.samples import GpuSample
from pinchpoint.schema.wire import sample_fields

NAMES = ("index", "product_id", "driver_id", "parent_id")


class Readings:
    """A sampler that is asked for numbers by UUID."""

    def __init__(self) -> None:
        self._texts = [""]
        self._sampler = NvmlSampler(self._intern)

    def read(self) -> dict[str, dict[str, float]]:
        """Every number of every device now.

        Raises:
            SourceUnavailable: there is no GPU, driver or module.
        """
        return {
            self._texts[sample.instance]: {
                field: value
                for field in sample_fields(GpuSample)
                if field not in NAMES and (value := getattr(sample, field)) is not None
            }
            for sample in self._sampler.sample(time.monotonic_ns())
            if isinstance(sample, GpuSample)
        }

    def close(self) -> None:
        """Give back what the driver keeps."""
        self._sampler.close()

    def _intern(self, _kind: NameKind, text: str) -> int:
        if text not in self._texts:
            self._texts.append(text)
        return self._texts.index(text)
