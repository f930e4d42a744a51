"""Work whose share of the GPU is known beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 3.0
SIDE = 8192
COPY_BYTES = 1 << 30
LAUNCHES = 8
"""Between two looks at the clock."""


def phases(torch: Any) -> dict[str, Callable[[], None]]:
    """By name, what keeps the first GPU busy for `SECONDS`."""
    device = torch.device("cuda", 0)
    half, full = (
        torch.rand(SIDE, SIDE, device=device, dtype=dtype)
        for dtype in (torch.bfloat16, torch.float32)
    )
    source = torch.zeros(COPY_BYTES, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    host = torch.zeros(COPY_BYTES, dtype=torch.uint8).pin_memory()
    torch.backends.cuda.matmul.allow_tf32 = False
    return {
        "idle": lambda: time.sleep(SECONDS),
        "matrix product, bfloat16": _keep(torch, lambda: half @ half),
        "matrix product, float32": _keep(torch, lambda: full @ full),
        "copy on the GPU": _keep(torch, lambda: target.copy_(source)),
        "copy to the GPU": _keep(torch, lambda: target.copy_(host, non_blocking=True)),
    }


def _keep(torch: Any, launch: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for _ in range(LAUNCHES):
                launch()
            torch.cuda.synchronize()

    return run
