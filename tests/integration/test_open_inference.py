"""The image classifier under `pinchpoint run`, asked by our own client and by a public one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import torch

from examples.image_classifier.model import USER_FEATURES, build_model
from examples.image_classifier.preprocess import Preprocessor
from examples.load.client import make_request
from examples.load.images import make_images
from examples.open_inference.protocol import messages
from examples.open_inference.service import MODEL_INFER_PATH
from tests.integration.classifier import (
    IMAGES,
    SEED,
    Counts,
    TritonReport,
    load,
    start_classifier,
    triton,
)
from tests.integration.processes import programs
from tests.integration.scraping import Metrics

pytestmark = pytest.mark.integration

TOP_CLASSES = 5
SCORE_TOLERANCE = 1e-5
CALL_SECONDS = 30.0

Answer = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Run:
    """A server after all its clients are done, and what they counted."""

    load: Counts
    triton: TritonReport
    ours: Counts
    our_answers: list[Answer]
    metrics: Metrics

    @property
    def sent(self) -> Counts:
        """All that the clients were answered."""
        return self.load + self.triton.counts + self.ours


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One server with three clients, one after the other."""
    with programs(tmp_path_factory.mktemp("classifier")) as started:
        watched = start_classifier(started)
        loaded = load(started, watched.target, rate=20, seconds=3)
        report = triton(started, watched.target)
        ours, answers = ask_ourselves(watched.target)
        sent = loaded + report.counts + ours
        metrics = watched.agent.scrape_when(lambda scrape: scrape.handled() == sent)
        yield Run(loaded, report, ours, answers, metrics)


def ask_ourselves(target: str) -> tuple[Counts, list[Answer]]:
    """The same images in our own messages, a broken one and an unknown model."""
    images = make_images(IMAGES, SEED)
    unknown = messages.ModelInferRequest.FromString(make_request(images[0], 0))
    unknown.model_name = "unknown"
    requests = [make_request(jpeg, 0) for jpeg in (*images, b"no picture")]
    counts: Counts = Counter()
    answers = []
    with grpc.insecure_channel(target) as channel:
        infer: grpc.UnaryUnaryMultiCallable[bytes, Any] = channel.unary_unary(
            MODEL_INFER_PATH, response_deserializer=messages.ModelInferResponse.FromString
        )
        for request in (*requests, unknown.SerializeToString()):
            try:
                answers.append(read_answer(infer(request, timeout=CALL_SECONDS)))
                counts["ModelInfer", "OK"] += 1
            except grpc.RpcError as error:
                counts["ModelInfer", error.code().name] += 1
    return counts, answers


def read_answer(response: Any) -> Answer:
    """Class ids and scores out of the raw outputs."""
    class_ids, scores = response.raw_output_contents
    return (
        torch.frombuffer(bytearray(class_ids), dtype=torch.int64).tolist(),
        torch.frombuffer(bytearray(scores), dtype=torch.float32).tolist(),
    )


@pytest.fixture(scope="module")
def truth() -> list[Answer]:
    """What the model says of the images, without any server."""
    model, preprocess = build_model(0), Preprocessor()
    answers = []
    for jpeg in make_images(IMAGES, SEED):
        with torch.inference_mode():
            probabilities = model(preprocess(jpeg), torch.zeros(1, USER_FEATURES))[0]
        scores, class_ids = torch.topk(probabilities, TOP_CLASSES)
        answers.append((class_ids.tolist(), scores.tolist()))
    return answers


def assert_same(answers: list[Answer], truth: list[Answer]) -> None:
    assert [class_ids for class_ids, _ in answers] == [class_ids for class_ids, _ in truth]
    for (_, scores), (_, expected) in zip(answers, truth, strict=True):
        assert scores == pytest.approx(expected, abs=SCORE_TOLERANCE)


def test_our_client_gets_what_the_model_says(run: Run, truth: list[Answer]) -> None:
    """The probe changes no answer."""
    assert_same(run.our_answers, truth)


def test_the_triton_client_gets_what_the_model_says(run: Run, truth: list[Answer]) -> None:
    """A public client of the protocol is answered as ours is."""
    assert_same(run.triton.answers, truth)


def test_errors_keep_their_codes(run: Run) -> None:
    """A bad picture, an unknown model and an unknown method are told apart by both clients."""
    assert run.ours["ModelInfer", "INVALID_ARGUMENT"] == 1
    assert run.ours["ModelInfer", "NOT_FOUND"] == 1
    assert run.triton.counts["ModelInfer", "INVALID_ARGUMENT"] == 1
    assert run.triton.counts["ModelInfer", "NOT_FOUND"] == 1
    assert run.triton.counts["ModelMetadata", "NOT_FOUND"] == 1
    assert run.triton.counts["_OTHER", "UNIMPLEMENTED"] == 1


def test_every_request_of_the_load_is_answered(run: Run) -> None:
    """The load client got OK and nothing else."""
    assert run.load["ModelInfer", "OK"] > 30
    assert set(run.load) == {("ModelInfer", "OK")}


def test_the_agent_counts_each_request_once(run: Run) -> None:
    """Per method and code the agent says what the clients counted."""
    assert run.metrics.handled() == run.sent


def test_what_was_started_has_been_handled_at_rest(run: Run) -> None:
    """With no client left both totals are the same, method by method."""
    for method in {method for method, _ in run.sent}:
        started = run.metrics.total("grpc_server_started_total", grpc_method=method)
        handled = run.metrics.total("grpc_server_handled_total", grpc_method=method)
        assert started == handled > 0


def test_histograms_hold_every_request_that_reached_the_pool(run: Run) -> None:
    """Latency is observed for all but the calls that were refused before a worker had them."""
    counted = run.metrics.total("grpc_server_handling_seconds_count")
    assert counted == run.sent.total() - run.sent["_OTHER", "UNIMPLEMENTED"]
    assert run.metrics.values("pinchpoint_requests_rejected_total", reason="unknown_method") == [1]


def test_forwards_are_counted_with_their_batch_size(run: Run) -> None:
    """Each good picture is one forward of one image; the pictures that are refused are none."""
    good = run.sent["ModelInfer", "OK"]
    assert run.metrics.values("pinchpoint_forward_seconds_count", model="ImageClassifier") == [good]
    batches = {"model": "ImageClassifier", "le": "1.0"}
    assert run.metrics.values("pinchpoint_batch_size_bucket", **batches) == [good]
