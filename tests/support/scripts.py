"""Python programs in processes of their own, for what cannot be done to this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import LIMIT_SECONDS

ROOT = Path(__file__).resolve().parents[2]

ECHO_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

import pinchpoint


def echo_server():
    def echo(request, context):
        return request

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def call_echo(port, times):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return sum(
            channel.unary_unary("/test.Service/Echo")(b"hello") == b"hello" for _ in range(times)
        )


def say(*words):
    print(*words, flush=True)
"""
"""Put before a program: an echo server, a client for it and a way to talk to the test."""


class Script:
    """A running program that talks through its standard streams, one line at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.process.kill()
        self.process.wait(LIMIT_SECONDS)


def _environment(ring_dir: Path, extra: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join((str(ROOT / "agent"), str(ROOT)))
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PINCHPOINT_")}
    return plain | {"PYTHONPATH": path, "PINCHPOINT_RING_DIR": str(ring_dir)} | extra


def run(source: str, ring_dir: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its environment gets `extra`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=_environment(ring_dir, extra),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_SECONDS,
        check=False,
    )


@contextmanager
def running(source: str, ring_dir: Path, **extra: str) -> Iterator[Script]:
    """A program while the test looks at it; killed if it has not ended by then."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=_environment(ring_dir, extra),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Script(process)
        finally:
            process.kill()
