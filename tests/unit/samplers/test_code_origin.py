from __future__ import annotations

import os
import threading

import pytest

from pinchpoint.samplers import stacks
from pinchpoint.samplers.code_origin import Origin, origin_of

SITE = "/venv/lib/python3.12/site-packages"
STANDARD = os.path.dirname(os.__file__)


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/srv/app/server.py", Origin.OWN),
        ("server.py", Origin.OWN),
        (f"{SITE}/numpy/core/numeric.py", Origin.LIBRARY),
        ("/usr/lib/python3/dist-packages/yaml/loader.py", Origin.LIBRARY),
        (f"{SITE}/redis/connection.py", Origin.CLIENT),
        (f"{SITE}/google/cloud/storage/blob.py", Origin.CLIENT),
        (f"{SITE}/google/protobuf/message.py", Origin.LIBRARY),
        (f"{SITE}/redistribute/main.py", Origin.LIBRARY),
        (f"{SITE}/psycopg2/__init__.py", Origin.CLIENT),
        (f"{SITE}/grpc/_channel.py", Origin.GRPC_CLIENT),
        (f"{SITE}/grpc/_server.py", Origin.GRPC_SERVER),
        (f"{SITE}/grpc/_common.py", Origin.GLUE),
        (f"{SITE}/grpc/framework/foundation/future.py", Origin.LIBRARY),
        (f"{SITE}/torch/nn/functional.py", Origin.TORCH),
        (f"{SITE}/torchvision/models/resnet.py", Origin.TORCH),
        (f"{SITE}/torchmetrics/metric.py", Origin.LIBRARY),
        (f"{STANDARD}/json/decoder.py", Origin.STANDARD),
        (f"{STANDARD}/http/client.py", Origin.CLIENT),
        (f"{STANDARD}/queue.py", Origin.GLUE),
        (threading.__file__, Origin.GLUE),
        (stacks.__file__, Origin.PROBE),
        ("<frozen importlib._bootstrap>", Origin.STANDARD),
        ("<string>", Origin.STANDARD),
    ],
)
def test_a_file_belongs_to(path: str, origin: Origin) -> None:
    assert origin_of(path) is origin
