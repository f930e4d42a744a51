"""The image classifier of the examples, watched, and what its clients are told."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass

from tests.integration.processes import ANY_PORT, PINCHPOINT, Programs
from tests.integration.scraping import Endpoint, endpoint_of

LISTEN = "--listen=127.0.0.1:0"

IMAGES = 4
SEED = 11
"""The pictures that clients are asked to send: `make_images(IMAGES, SEED)`."""

Counts = Counter[tuple[str, str]]
"""RPCs by method and code."""


@dataclass(frozen=True)
class Watched:
    """A server under `pinchpoint run`, and the agent beside it."""

    target: str
    agent: Endpoint


def start_classifier(programs: Programs) -> Watched:
    """Start the server as a user does."""
    server = [sys.executable, "-m", "examples.image_classifier", LISTEN]
    program = programs.start(*PINCHPOINT, "run", ANY_PORT, "--", *server)
    agent = endpoint_of(program)
    return Watched(program.says(r"^listening on (\S+)$"), agent)


def load(programs: Programs, target: str, *, rate: float, seconds: float) -> Counts:
    """What our own load client counts, at its end."""
    arguments = ["--target", target, "--rate", str(rate), "--seconds", str(seconds)]
    program = programs.python("-m", "examples.load", *arguments)
    assert program.wait(seconds + 60) == 0, program.err
    summary = json.loads(program.out.splitlines()[-1])
    assert summary["unfinished"] == 0
    return Counter({("ModelInfer", code): count for code, count in summary["codes"].items()})


@dataclass(frozen=True)
class TritonReport:
    """What the third-party client counted, and what it was answered."""

    counts: Counts
    answers: list[tuple[list[int], list[float]]]


def triton(programs: Programs, target: str) -> TritonReport:
    """Run the third-party client. It registers the same message names as our own messages, so it
    has a process of its own."""
    program = programs.python("-m", "tests.integration.triton_client", target)
    assert program.wait() == 0, program.err
    report = json.loads(program.out)
    counts = Counter({(method, code): count for method, code, count in report["counts"]})
    return TritonReport(counts, [(a["class_id"], a["score"]) for a in report["answers"]])
