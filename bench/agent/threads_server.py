"""A server with 64 threads under the probe, for `threads.py`.

Prints its port. Then each line on stdin is answered with one of JSON on stdout: the CPU seconds
of the process, and of each of the probe's threads. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.overhead.echo import register
from pinchpoint.samplers.schedstat import open_schedstat, read_schedstat

THREADS = 64
IDLE, WAIT, WORK = "idle", "wait", "work"
"""Threads that serve nothing; handlers that block until the end; handlers that compute."""

_WORK_SECONDS = 0.002
_PROBE = "pinchpoint"


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent.threads_server")
    parser.add_argument("kind", choices=(IDLE, WAIT, WORK))
    parser.add_argument("--ungoverned", action="store_true", help="sample in full, come what may")
    options = parser.parse_args()
    _install(ungoverned=options.ungoverned)
    import grpc

    ended = threading.Event()

    def wait(request: Any, _context: Any) -> Any:
        ended.wait()
        return request

    if options.kind == IDLE:
        for number in range(THREADS):
            threading.Thread(target=ended.wait, name=f"idle-{number}", daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(THREADS))
    register(server, _work if options.kind == WORK else wait)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    for _ in sys.stdin:
        print(json.dumps({"process": time.process_time(), "threads": _threads()}), flush=True)
    ended.set()
    server.stop(1.0).wait()
    return 0


def _install(*, ungoverned: bool) -> None:
    import pinchpoint
    from pinchpoint.probe import governor

    if ungoverned:
        setattr(governor, "RATIO_MIN", 1.0)  # noqa: B010  # mypy: it is a constant
    if not pinchpoint.install():
        raise RuntimeError("the probe did not start")


def _work(request: Any, _context: Any) -> Any:
    until = time.thread_time() + _WORK_SECONDS
    while time.thread_time() < until:
        sum(range(100))
    return request


def _threads() -> dict[str, float]:
    """CPU seconds of the probe's threads by name."""
    own = [t for t in threading.enumerate() if t.name.startswith(_PROBE)]
    return {t.name: _cpu_seconds(t.native_id) for t in own if t.native_id is not None}


def _cpu_seconds(native_id: int) -> float:
    descriptor = open_schedstat(f"/proc/self/task/{native_id}/schedstat")
    try:
        return read_schedstat(descriptor).cpu_ns / 1e9
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    raise SystemExit(main())
