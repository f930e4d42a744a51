"""A FastAPI application with a torch model in it, as its users write them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import torch
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

CHUNKS = 3


class Scorer(torch.nn.Module):
    """Twice the sum of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = torch.nn.Linear(4, 1, bias=False)
        torch.nn.init.constant_(self.sum.weight, 2.0)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """One score a row."""
        scores: torch.Tensor = self.sum(rows)
        return scores.squeeze(1)


class Rows(BaseModel):
    """What is to be scored."""

    rows: list[list[float]]


torch.set_num_threads(1)
model = Scorer().eval()
app = FastAPI()


def score(rows: list[list[float]]) -> list[float]:
    """The model's answer."""
    with torch.inference_mode():
        scores: list[float] = model(torch.tensor(rows)).tolist()
        return scores


@app.post("/predict")
def predict(request: Rows) -> list[float]:
    """In a worker thread."""
    return score(request.rows)


@app.post("/predict-async")
async def predict_async(request: Rows) -> list[float]:
    """On the event loop."""
    return score(request.rows)


@app.get("/items/{item_id}")
def item(item_id: int) -> dict[str, int]:
    """A path with a parameter."""
    return {"item_id": item_id}


@app.get("/stream")
async def stream() -> StreamingResponse:
    """In chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(CHUNKS):
            yield b"%d\n" % number

    return StreamingResponse(chunks(), media_type="text/plain")


@app.get("/refused")
async def refused() -> None:
    """Refused by the handler itself."""
    raise HTTPException(503)


@app.get("/broken")
async def broken() -> None:
    """A defect of the handler."""
    raise RuntimeError("broken")
