"""The inference service: one request in, the most probable classes out."""

from __future__ import annotations

import grpc
import numpy as np
import torch

from examples.image_classifier.features import UserFeatures
from examples.image_classifier.model import ImageClassifier
from examples.image_classifier.preprocess import InvalidImage, Preprocessor
from examples.open_inference import tensors
from examples.open_inference.protocol import messages

MODEL_NAME = "image_classifier"
MODEL_VERSION = "1"
TOP_CLASSES = 5

_INPUT = "image"
_OUTPUTS = ("class_id", "score")


class ClassifierService:
    """Implements the Open Inference Protocol for one model."""

    def __init__(
        self, model: ImageClassifier, preprocess: Preprocessor, features: UserFeatures
    ) -> None:
        self._model = model
        self._preprocess = preprocess
        self._features = features

    def ServerLive(
        self, _request: messages.ServerLiveRequest, _context: grpc.ServicerContext
    ) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=True)

    def ServerReady(
        self, _request: messages.ServerReadyRequest, _context: grpc.ServicerContext
    ) -> messages.ServerReadyResponse:
        return messages.ServerReadyResponse(ready=True)

    def ModelReady(
        self, request: messages.ModelReadyRequest, _context: grpc.ServicerContext
    ) -> messages.ModelReadyResponse:
        return messages.ModelReadyResponse(ready=_is_served(request.name, request.version))

    def ServerMetadata(
        self, _request: messages.ServerMetadataRequest, _context: grpc.ServicerContext
    ) -> messages.ServerMetadataResponse:
        return messages.ServerMetadataResponse(name="image-classifier", version=MODEL_VERSION)

    def ModelMetadata(
        self, request: messages.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> messages.ModelMetadataResponse:
        _require_model(request.name, request.version, context)
        metadata = messages.ModelMetadataResponse(
            name=MODEL_NAME, versions=[MODEL_VERSION], platform="pytorch_eager"
        )
        metadata.inputs.add(name=_INPUT, datatype="BYTES", shape=[1])
        metadata.outputs.add(name="class_id", datatype="INT64", shape=[TOP_CLASSES])
        metadata.outputs.add(name="score", datatype="FP32", shape=[TOP_CLASSES])
        return metadata

    def ModelInfer(
        self, request: messages.ModelInferRequest, context: grpc.ServicerContext
    ) -> messages.ModelInferResponse:
        _require_model(request.model_name, request.model_version, context)
        try:
            jpeg = _only_image(request)
            wanted = _wanted_outputs(request)
            user_features = self._features(request.parameters["user_id"].string_param)
            image = self._preprocess(jpeg)
        except (tensors.InvalidTensor, InvalidImage) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except grpc.RpcError as error:
            context.abort(
                grpc.StatusCode.UNAVAILABLE, f"the feature store failed: {error.details()}"
            )
        with torch.inference_mode():
            scores, class_ids = torch.topk(self._model(image, user_features)[0], TOP_CLASSES)
        values: dict[str, tensors.Output] = {
            "class_id": class_ids.numpy().astype(np.int64),
            "score": scores.numpy().astype(np.float32),
        }
        response = messages.ModelInferResponse(
            model_name=MODEL_NAME, model_version=MODEL_VERSION, id=request.id
        )
        # The answer comes in the encoding of the question.
        raw = bool(request.raw_input_contents)
        for name in wanted:
            tensors.add_output(response, name, values[name], raw=raw)
        return response


def _is_served(name: str, version: str) -> bool:
    return name == MODEL_NAME and version in ("", MODEL_VERSION)


def _require_model(name: str, version: str, context: grpc.ServicerContext) -> None:
    if not _is_served(name, version):
        context.abort(
            grpc.StatusCode.NOT_FOUND,
            f"model {name!r} version {version or 'any'} is unknown; "
            f"this server has {MODEL_NAME!r} version {MODEL_VERSION}",
        )


def _only_image(request: messages.ModelInferRequest) -> bytes:
    images = tensors.bytes_elements(request, _INPUT)
    if len(images) != 1:
        raise tensors.InvalidTensor(
            f"input {_INPUT!r} has {len(images)} images; this server takes one a request"
        )
    return images[0]


def _wanted_outputs(request: messages.ModelInferRequest) -> tuple[str, ...]:
    wanted = tuple(output.name for output in request.outputs) or _OUTPUTS
    for name in wanted:
        if name not in _OUTPUTS:
            raise tensors.InvalidTensor(f"output {name!r} is unknown; the model has {_OUTPUTS}")
    return wanted
