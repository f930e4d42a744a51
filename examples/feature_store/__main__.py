"""``python -m examples.feature_store``: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import signal
import struct
import sys

import grpc
import grpc.aio

_FEATURES = 16
_MAX_DELAY_MS = 10_000.0


class FeatureStore:
    """Answers every look-up after a delay, as a store across a network would."""

    def __init__(self, delay_ms: float) -> None:
        self._delay_ms = delay_ms

    async def get(self, user_id: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Return the features of a user, always the same for the same user."""
        await asyncio.sleep(self._delay_ms / 1000)
        digest = hashlib.shake_128(user_id).digest(_FEATURES)
        return struct.pack(f"<{_FEATURES}f", *(value / 255 for value in digest))

    async def set_delay(
        self, delay_ms: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        """Take a new delay and return the former one."""
        try:
            wanted_ms = float(delay_ms)
        except ValueError:
            wanted_ms = -1.0
        if not 0 <= wanted_ms <= _MAX_DELAY_MS:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the delay must be a number from 0 to {_MAX_DELAY_MS:.0f} milliseconds",
            )
        former_ms, self._delay_ms = self._delay_ms, wanted_ms
        return repr(former_ms).encode()


async def _serve(listen: str, delay_ms: float) -> int:
    store = FeatureStore(delay_ms)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    # Without serialisers the messages are plain bytes.
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Get": grpc.unary_unary_rpc_method_handler(store.get),
        "SetDelay": grpc.unary_unary_rpc_method_handler(store.set_delay),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("features.FeatureStore", handlers),)
    )
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        print(f"cannot listen on {listen}: {error}", file=sys.stderr)
        return 1
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await server.start()
    print(f"listening on {listen.rpartition(':')[0]}:{port}", flush=True)
    await stop.wait()
    await server.stop(grace=1.0)
    return 0


def main() -> int:
    """Run the store and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.feature_store")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8002",
        metavar="ADDRESS",
        help="HOST:PORT; port 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--delay-ms", type=float, default=12.0, help="time to answer (default: %(default)s)"
    )
    options = parser.parse_args()
    return asyncio.run(_serve(options.listen, options.delay_ms))


if __name__ == "__main__":
    sys.exit(main())
