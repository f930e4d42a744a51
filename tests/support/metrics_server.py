"""A real HTTP server whose `/metrics` says what a test wants it to say."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Answers every GET with what `say` gives, as `content_type`; hangs while `hanging` is set.

    Args:
        say: the exposition at this moment; asked in the server's threads.
        port: 0 for any.
    """

    def __init__(self, say: Callable[[], str], port: int = 0) -> None:
        self.say = say
        self.content_type = TEXT
        self.status = 200
        self._going_on = threading.Event()
        self._going_on.set()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served._going_on.wait()
                body = served.say().encode()
                with contextlib.suppress(OSError):  # whoever asked has given up
                    self.send_response(served.status)
                    self.send_header("Content-Type", served.content_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Tests read the output of the programs under test only."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Of its metrics."""
        return f"http://127.0.0.1:{self.port}/metrics"

    def hang(self) -> None:
        """Answer nobody until told to go on."""
        self._going_on.clear()

    def go_on(self) -> None:
        """Answer everybody who has been kept waiting."""
        self._going_on.set()

    def close(self) -> None:
        """End; nothing listens afterwards."""
        self.go_on()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def metrics_server(say: Callable[[], str], port: int = 0) -> Iterator[MetricsServer]:
    """A server that ends with the block."""
    server = MetricsServer(say, port)
    try:
        yield server
    finally:
        server.close()


class VllmLoad:
    """A vLLM with so many requests; each look at its metrics is a moment later.

    Args:
        running: requests on the hardware.
        waiting: requests in the queue.
        finished: requests that end between two looks.
    """

    def __init__(self, running: int = 0, waiting: int = 0, finished: int = 0) -> None:
        self.running = running
        self.waiting = waiting
        self.finished = finished
        self.ended = 0

    def restart(self) -> None:
        """Its counters begin again."""
        self.ended = 0

    def __call__(self) -> str:
        """Its exposition."""
        self.ended += self.finished
        label = '{engine="0",model_name="llama"}'
        return "".join(
            f"vllm:{name}{label} {value}\n"
            for name, value in (
                ("num_requests_running", self.running),
                ("num_requests_waiting", self.waiting),
                ("kv_cache_usage_perc", 0.96),
                ("request_success_total", self.ended),
                ("e2e_request_latency_seconds_sum", 4.0 * self.ended),
                ("request_queue_time_seconds_sum", 1.0 * self.ended),
            )
        )
