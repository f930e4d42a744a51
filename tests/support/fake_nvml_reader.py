"""The sampler of GPUs in a process of its own, one reading at a time.

The library that `pynvml` loads is chosen by the process' environment, so every test has a process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.scripts import Script, running

PROGRAM = """
import ctypes
import json
import os
import sys

from pinchpoint.samplers.nvml import NvmlSampler
from pinchpoint.samplers.source import SourceUnavailable

texts = [""]


def intern(kind, text):
    if text not in texts:
        texts.append(text)
    return texts.index(text)


def read(seconds):
    global now_ns
    now_ns += round(seconds * 1e9)
    answer = {"unavailable": None, "error": None, "samples": []}
    try:
        for sample in sampler.sample(now_ns):
            fields = {key: value for key, value in vars(sample).items() if value is not None}
            for key in ("instance", "product_id", "driver_id", "parent_id"):
                if key in fields:
                    fields[key] = texts[fields[key]]
            answer["samples"].append([type(sample).__name__, fields])
    except SourceUnavailable as unavailable:
        answer["unavailable"] = unavailable.reason
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    return answer | {"errors": sampler.errors}


def close():
    sampler.close()
    library = ctypes.CDLL("libnvidia-ml.so.1")
    return getattr(library, "fake_gpm_samples", lambda: 0)()


now_ns = 0
sampler = NvmlSampler(intern)
for line in sys.stdin:
    command, _, argument = line.strip().partition(" ")
    if command == "read":
        answer = read(float(argument))
    elif command == "set":
        name, _, value = argument.partition("=")
        os.environ[name] = value
        answer = None
    else:
        answer = close()
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Answer:
    """One reading. Names are resolved, what is absent is left out."""

    unavailable: str | None
    error: str | None
    errors: int
    samples: list[tuple[str, dict[str, Any]]]

    def gpus(self) -> dict[str, dict[str, Any]]:
        """What is said of each device, by UUID."""
        return self._of("GpuSample")

    def gpu(self) -> dict[str, Any]:
        """What is said of the only one."""
        (fields,) = self.gpus().values()
        return fields

    def xids(self) -> list[tuple[str, int]]:
        """Instance and errors, in their order."""
        return [
            (fields["instance"], fields["errors"])
            for kind, fields in self.samples
            if kind == "GpuXidSample"
        ]

    def _of(self, wanted: str) -> dict[str, dict[str, Any]]:
        return {
            fields.pop("instance"): fields
            for kind, fields in ((kind, dict(fields)) for kind, fields in self.samples)
            if kind == wanted and fields.pop("time_ns") is not None
        }


class Reader:
    """A sampler of GPUs that reads when it is told to."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def read(self, seconds: float = 1.0) -> Answer:
        """Read, so long after the last time."""
        return Answer(**self._tell(f"read {seconds}"))

    def set(self, name: str, value: str) -> None:
        """Change its environment."""
        self._tell(f"set {name}={value}")

    def close(self) -> int:
        """Close the sampler: how many GPM samples of the fake are left."""
        left: int = self._tell("close")
        return left

    def _tell(self, command: str) -> Any:
        self._script.tell(command)
        return json.loads(self._script.line())


@contextmanager
def reading(directory: Path, program: str = PROGRAM, **environment: str) -> Iterator[Reader]:
    """A sampler in a process with this environment."""
    with running(program, directory, **environment) as script:
        yield Reader(script)
