"""The echo server of one variant, in a process of its own, for `over_the_wire.py`.

Prints its port. Then each line on stdin is answered with one of JSON on stdout: `clock` with
the CPU time of the process, a number with what the variant has counted (once it is that
many) and the memory of the process. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.overhead.echo import echo, echo_aio, register
from bench.overhead.variants import VARIANTS, Bare

WORKERS = 8
_COUNTED_SECONDS = 5.0
"""A record may be written after the client has its answer, a span be exported much later."""


def main() -> int:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead.echo_server")
    parser.add_argument("kind", choices=("sync", "aio"))
    parser.add_argument("variant", choices=tuple(VARIANTS))
    options = parser.parse_args()
    variant = VARIANTS[options.variant]()
    variant.install()
    if options.kind == "sync":
        _serve_sync(variant)
    else:
        asyncio.run(_serve_aio(variant))
    return 0


def _serve_sync(variant: Bare) -> None:
    import grpc

    server = grpc.server(ThreadPoolExecutor(WORKERS), interceptors=list(variant.interceptors()))
    register(server, echo)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    variant.ready()
    _answer(variant, port)
    server.stop(None).wait()


async def _serve_aio(variant: Bare) -> None:
    import grpc.aio

    server = grpc.aio.server(interceptors=variant.aio_interceptors())
    register(server, echo_aio)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    variant.ready()
    ended = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def answer() -> None:
        _answer(variant, port)
        loop.call_soon_threadsafe(ended.set_result, None)

    threading.Thread(target=answer, daemon=True).start()
    await ended
    await server.stop(None)


def _answer(variant: Bare, port: int) -> None:
    print(port, flush=True)
    for line in sys.stdin:
        if line.strip() == "clock":
            answer: object = time.process_time_ns()
        else:
            answer = {"counted": _counted(variant, int(line)), "memory": _memory()}
        print(json.dumps(answer), flush=True)


def _counted(variant: Bare, expected: int) -> int | None:
    if not variant.counts:
        return None
    deadline = time.monotonic() + _COUNTED_SECONDS
    while (seen := variant.seen()) < expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return seen


def _memory() -> dict[str, int]:
    """Bytes resident, and those of them that are shared memory, where the ring is."""
    status = Path("/proc/self/status").read_text("utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssShmem")}


if __name__ == "__main__":
    raise SystemExit(main())
