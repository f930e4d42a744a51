"""Drives MLServer with its own types and stubs.

    python mlserver_client.py HTTP_PORT GRPC_PORT ROUNDS STREAMS

Says `failed CODE` for the code that a failing `predict` has come back with: MLServer's own choice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import grpc
import httpx
import numpy
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest

MODEL = "scorer"
ROWS = numpy.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]], dtype=numpy.float32)
SCORES = [20.0, 2.0]


def asking(rows: numpy.ndarray) -> InferenceRequest:
    """A request with these rows."""
    return InferenceRequest(inputs=[NumpyCodec.encode_input("rows", rows)])


def scores(response: messages.ModelInferResponse) -> list[float]:
    """What the model has said."""
    outputs = converters.ModelInferResponseConverter.to_types(response).outputs
    decoded: list[float] = NumpyCodec.decode_output(outputs[0]).flatten().tolist()
    return decoded


def code_of(stub: GRPCInferenceServiceStub, request: messages.ModelInferRequest) -> grpc.StatusCode:
    """The status of a call that has to fail."""
    try:
        stub.ModelInfer(request)
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError("it did not fail")


def call_grpc(channel: grpc.Channel) -> None:
    """What the protocol offers, once."""
    stub = GRPCInferenceServiceStub(channel)
    to_message = converters.ModelInferRequestConverter.from_types
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    assert stub.ModelMetadata(messages.ModelMetadataRequest(name=MODEL)).name == MODEL
    assert scores(stub.ModelInfer(to_message(asking(ROWS), model_name=MODEL))) == SCORES
    narrow = to_message(asking(ROWS[:, :3]), model_name=MODEL)
    print("failed", code_of(stub, narrow).name)
    unknown = to_message(asking(ROWS), model_name="nobody")
    assert code_of(stub, unknown) is grpc.StatusCode.NOT_FOUND


def call_stream(channel: grpc.Channel) -> None:
    """Two requests of two rows each."""
    message = converters.ModelInferRequestConverter.from_types(asking(ROWS), model_name=MODEL)
    requests: Iterator[messages.ModelInferRequest] = iter([message, message])
    responses = GRPCInferenceServiceStub(channel).ModelStreamInfer(requests)
    assert [scores(response) for response in responses] == [[20.0], [2.0], [20.0], [2.0]]


def call_rest(client: httpx.Client) -> None:
    """The same over REST."""
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get(f"/v2/models/{MODEL}").json()["name"] == MODEL
    body = asking(ROWS).model_dump(exclude_none=True)
    response = client.post(f"/v2/models/{MODEL}/infer", json=body)
    assert response.json()["outputs"][0]["data"] == SCORES, response.text
    assert client.post("/v2/models/nobody/infer", json=body).status_code == 404


if __name__ == "__main__":
    http_port, grpc_port, rounds, streams = map(int, sys.argv[1:])
    with (
        grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as rpc,
        httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60) as rest,
    ):
        for _ in range(rounds):
            call_grpc(rpc)
            call_rest(rest)
        for _ in range(streams):
            call_stream(rpc)
