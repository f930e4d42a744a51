"""The feature store takes ten times as long to answer."""

from __future__ import annotations

import contextlib

import grpc

from examples.faults.rig import FaultRig
from examples.feature_store import SET_DELAY_PATH

_SLOW_MS = 120.0
_TIMEOUT_S = 5.0


class SlowDependency:
    """Raises the delay of the feature store and puts back the one it had."""

    name = "slow-dependency"
    label = "downstream_wait"

    def __init__(self) -> None:
        self._usual_ms: float | None = None

    def available(self) -> str | None:
        """Needs nothing of the machine."""
        return None

    def inject(self, rig: FaultRig) -> None:
        """Slow the store down."""
        if self._usual_ms is None:
            self._usual_ms = _set_delay(rig.feature_store_address, _SLOW_MS)

    def remove(self, rig: FaultRig) -> None:
        """Put the usual delay back; a store that is gone needs none."""
        usual_ms, self._usual_ms = self._usual_ms, None
        if usual_ms is not None:
            with contextlib.suppress(grpc.RpcError):
                _set_delay(rig.feature_store_address, usual_ms)


def _set_delay(address: str, delay_ms: float) -> float:
    """Set the delay and return the former one."""
    with grpc.insecure_channel(address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SET_DELAY_PATH)
        return float(call(repr(delay_ms).encode(), timeout=_TIMEOUT_S))
