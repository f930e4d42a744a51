"""What is answered at which address. Every answer is made from the published snapshot.

/metrics          text, OpenMetrics or protobuf, by the Accept header; `name[]` selects families
/api/v1/verdict   the verdict with its evidence, as JSON
/-/healthy        200 while the process answers
/-/ready          200 once the agent has looked for rings, else 503
/-/reload         read the configuration again: POST or PUT, where that is enabled
/                 where to find the above
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics

from pinchpoint.expose import protobuf
from pinchpoint.expose.api import verdict_json
from pinchpoint.expose.collect import SnapshotCollector
from pinchpoint.expose.negotiate import metrics_format
from pinchpoint.expose.state import PublishedState, ScrapeStats
from pinchpoint.expose.web_landing import landing_page
from pinchpoint.expose.web_options import WebOptions

METRICS = "/metrics"
PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"

READ = ("GET", "HEAD")
WRITE = ("POST", "PUT")


@dataclass(frozen=True)
class Request:
    """What is asked."""

    method: str
    path: str
    names: tuple[str, ...] = ()
    """Of the families that are wanted; none for all."""
    accept: str = ""
    served: str = ""
    """Where and how it came in, for people."""


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Site:
    """The endpoints.

    Args:
        state: what the agent publishes.
        options: what is offered.
        reload: reads the configuration again, in whatever thread; a sentence if it is wrong.
        say: takes one line for the operator.
    """

    def __init__(
        self,
        state: PublishedState,
        options: WebOptions,
        reload: Callable[[], str | None],
        say: Callable[[str], None],
    ) -> None:
        self._state, self._options, self._reload, self._say = state, options, reload, say
        self._reloading = threading.Lock()
        self._said: set[str] = set()
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Request], Answer]]] = {
            METRICS: (READ, self._metrics),
            "/api/v1/verdict": (READ, self._verdict),
            "/-/healthy": (READ, partial(_said, 200, "Pinchpoint is Healthy.")),
            "/-/ready": (READ, self._ready),
            "/-/reload": (WRITE, self._reloaded),
            "/": (READ, self._landing),
        }

    @property
    def stats(self) -> ScrapeStats:
        """What is counted of scrapes."""
        return self._state.scrapes

    def answer(self, request: Request) -> Answer:
        """Answer; an error of ours is an answer too, and is said once."""
        if request.path not in self._routes:
            return _said(404, "not found; see / for what there is")
        methods, route = self._routes[request.path]
        if request.method not in methods:
            allowed = ", ".join(methods)
            return Answer(405, PLAIN, f"only {allowed}\n".encode(), (("Allow", allowed),))
        try:
            return route(request)
        except Exception as error:
            return self._failed(request.path, error)

    def _failed(self, path: str, error: Exception) -> Answer:
        if path == METRICS:
            self.stats.failed()
        sentence = (
            f"{path} could not be answered ({type(error).__name__}: {error}): please report this"
        )
        if path not in self._said:
            self._said.add(path)
            self._say(sentence)
        return _said(500, sentence)

    def _metrics(self, request: Request) -> Answer:
        chosen = metrics_format(request.accept, protobuf=self._options.native_histograms)
        collector = SnapshotCollector(self._state, request.names)
        if chosen.kind == "protobuf":
            body = protobuf.encode(collector.filled(), chosen.escaping)
        elif chosen.kind == "openmetrics":
            body = openmetrics.generate_latest(collector, chosen.escaping)  # type: ignore[no-untyped-call]
        else:
            body = text.generate_latest(collector, chosen.escaping)
        return Answer(200, chosen.content_type, body)

    def _verdict(self, _request: Request) -> Answer:
        snapshot = self._state.snapshot
        if snapshot is None:
            return Answer(503, JSON, b'{"error": "no verdict yet, try again in a second"}\n')
        document = json.dumps(verdict_json(snapshot), indent=1)
        return Answer(200, JSON, document.encode() + b"\n")

    def _ready(self, _request: Request) -> Answer:
        if self._state.ready:
            return _said(200, "Pinchpoint is Ready.")
        return _said(503, "Pinchpoint is starting.")

    def _reloaded(self, _request: Request) -> Answer:
        if not self._options.enable_lifecycle:
            return _said(403, "reloading is not enabled: start with --web.enable-lifecycle")
        with self._reloading:
            mistake = self._reload()
        if mistake is not None:
            return _said(500, f"the configuration was not reloaded: {mistake}")
        return _said(200, "reloaded")

    def _landing(self, request: Request) -> Answer:
        return Answer(200, HTML, landing_page(self._state, self._options, request.served).encode())


def _said(status: int, sentence: str, _request: Request | None = None) -> Answer:
    return Answer(status, PLAIN, f"{sentence}\n".encode())
