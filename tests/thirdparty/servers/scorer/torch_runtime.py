"""An MLServer runtime that serves a torch model, as MLServer's documentation has custom ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Scorer(torch.nn.Module):
    """Twice the sum of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = torch.nn.Linear(4, 1, bias=False)
        torch.nn.init.constant_(self.sum.weight, 2.0)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """One score a row."""
        scores: torch.Tensor = self.sum(rows)
        return scores


class TorchRuntime(MLModel):  # type: ignore[misc, unused-ignore]
    """Serves a `Scorer`."""

    async def load(self) -> bool:
        """Build the model."""
        torch.set_num_threads(1)
        self._scorer = Scorer().eval()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the rows of the only input."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype("float32")
        if rows.shape[1] != self._scorer.sum.in_features:
            raise ValueError("a row has four columns")
        with torch.inference_mode():
            scores = self._scorer(torch.from_numpy(rows)).numpy()
        return self._response(scores)

    async def predict_stream(
        self, payloads: AsyncIterator[InferenceRequest]
    ) -> AsyncIterator[InferenceResponse]:
        """Score each request of a stream, and say so after each of its rows."""
        async for payload in payloads:
            rows = NumpyCodec.decode_input(payload.inputs[0]).astype("float32")
            for row in torch.from_numpy(rows):
                with torch.inference_mode():
                    scores = self._scorer(row[None]).numpy()
                yield self._response(scores)

    def _response(self, scores: numpy.ndarray) -> InferenceResponse:
        output = NumpyCodec.encode_output("scores", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
