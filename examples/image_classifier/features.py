"""The per-user features the model wants, fetched from a feature store by a blocking call."""

from __future__ import annotations

import grpc
import numpy as np
import torch

from examples.feature_store import GET_PATH
from examples.image_classifier.model import USER_FEATURES

_TIMEOUT_S = 5.0


class UserFeatures:
    """Looks users up at ``address``; without an address every user is like any other."""

    def __init__(self, address: str | None) -> None:
        self._channel: grpc.Channel | None = None
        # Without serialisers the call carries plain bytes.
        self._get: grpc.UnaryUnaryMultiCallable[bytes, bytes] | None = None
        if address is not None:
            self._channel = grpc.insecure_channel(address)
            self._get = self._channel.unary_unary(GET_PATH)

    def __call__(self, user_id: str) -> torch.Tensor:
        """Return a float tensor [1, features]; raises grpc.RpcError when the store fails."""
        if self._get is None:
            return torch.zeros(1, USER_FEATURES)
        reply = self._get(user_id.encode(), timeout=_TIMEOUT_S)
        values = np.frombuffer(reply, dtype="<f4")
        return torch.from_numpy(values.astype(np.float32).reshape(1, USER_FEATURES))

    def close(self) -> None:
        """Close the connection to the store."""
        if self._channel is not None:
            self._channel.close()
