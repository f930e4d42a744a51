"""The service table of the protocol, read from its descriptor."""

from __future__ import annotations

from typing import Any, Protocol

import grpc

from examples.open_inference.protocol import messages

SERVICE_NAME = "inference.GRPCInferenceService"
MODEL_INFER_PATH = f"/{SERVICE_NAME}/ModelInfer"
SERVER_READY_PATH = f"/{SERVICE_NAME}/ServerReady"


class InferenceService(Protocol):
    """What a server of this protocol implements; every method may abort through the context."""

    def ServerLive(
        self, request: messages.ServerLiveRequest, context: grpc.ServicerContext
    ) -> messages.ServerLiveResponse: ...

    def ServerReady(
        self, request: messages.ServerReadyRequest, context: grpc.ServicerContext
    ) -> messages.ServerReadyResponse: ...

    def ModelReady(
        self, request: messages.ModelReadyRequest, context: grpc.ServicerContext
    ) -> messages.ModelReadyResponse: ...

    def ServerMetadata(
        self, request: messages.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> messages.ServerMetadataResponse: ...

    def ModelMetadata(
        self, request: messages.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> messages.ModelMetadataResponse: ...

    def ModelInfer(
        self, request: messages.ModelInferRequest, context: grpc.ServicerContext
    ) -> messages.ModelInferResponse: ...


def service_handler(service: InferenceService) -> Any:
    """Return the generic RPC handler that serves every method of the protocol."""
    descriptor = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(service, method.name),
            request_deserializer=getattr(messages, method.input_type.name).FromString,
            response_serializer=getattr(messages, method.output_type.name).SerializeToString,
        )
        for method in descriptor.methods
    }
    return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)
