"""Faults of the server itself, thrown by its own switches (``image_classifier/switches.py``)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from examples.faults.rig import FaultRig


@dataclass(frozen=True)
class InServerFault:
    """A fault that the server carries inside, behind a switch of the same name."""

    name: str
    label: str

    def available(self) -> str | None:
        """Needs nothing of the machine."""
        return None

    def inject(self, rig: FaultRig) -> None:
        """Throw the switch."""
        rig.switch(self.name, True)

    def remove(self, rig: FaultRig) -> None:
        """Throw it back; a server that is gone took the fault with it."""
        with contextlib.suppress(OSError):
            rig.switch(self.name, False)


# A pure-Python thread that hardly lets go of the GIL.
GIL = InServerFault("gil", "gil_contention")
# A costly filter before the model, outside the GIL.
SLOW_PREPROCESS = InServerFault("slow-preprocess", "preprocess_cpu")
# One block of the model computes its result several times over.
HOT_LAYER = InServerFault("hot-layer", "model_hot_layer")
# A pool of one thread, which then waits for the dependency while requests queue.
FEW_WORKERS = InServerFault("few-workers", "insufficient_parallelism")
