"""A program: the public Triton client against our server; prints what it counted and was told.

python -m tests.integration.triton_client HOST:PORT
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from examples.load.images import make_images
from tests.integration.classifier import IMAGES, SEED

MODEL = "image_classifier"
OUTPUTS = ("class_id", "score")


class Client:
    """Counts the code of every call."""

    def __init__(self, target: str) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._client = triton.InferenceServerClient(target)

    def call(self, method: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or None where the server refused."""
        try:
            answer = function(*arguments, client_timeout=20.0)
        except triton.InferenceServerException as error:
            self.counts[method, error.status().removeprefix("StatusCode.")] += 1
            return None
        self.counts[method, "OK"] += 1
        return answer

    def infer(self, jpeg: bytes, model: str = MODEL) -> dict[str, list[float]] | None:
        """The most probable classes of an image."""
        image = triton.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([jpeg], dtype=np.object_))

        def infer(client_timeout: float) -> Any:
            return self._client.infer(model, [image], client_timeout=client_timeout)

        result = self.call("ModelInfer", infer)
        return result and {name: result.as_numpy(name).tolist() for name in OUTPUTS}

    def ask_for_everything_else(self) -> None:
        """Every other method that the server has, and one that it has not.

        What asks for its health is not counted: it says nothing about the service.
        """
        client = self._client
        assert client.is_server_live()
        assert client.is_server_ready()
        assert self.call("ModelReady", client.is_model_ready, MODEL)
        assert self.call("ServerMetadata", client.get_server_metadata).name == "image-classifier"
        metadata = self.call("ModelMetadata", client.get_model_metadata, MODEL)
        assert [tensor.name for tensor in metadata.outputs] == list(OUTPUTS)
        assert self.call("ModelMetadata", client.get_model_metadata, "unknown") is None
        assert self.call("_OTHER", client.get_model_repository_index) is None


def main(target: str) -> None:
    """Talk to a server and print the report."""
    client = Client(target)
    answers = [client.infer(image) for image in make_images(IMAGES, SEED)]
    assert client.infer(b"no picture") is None
    assert client.infer(make_images(1, SEED)[0], model="unknown") is None
    client.ask_for_everything_else()
    counts = [[method, code, count] for (method, code), count in client.counts.items()]
    print(json.dumps({"counts": counts, "answers": answers}))


if __name__ == "__main__":
    main(sys.argv[1])
