"""Generate the Python messages of the protocol: ``python -m examples.open_inference.generate``.

Only messages and their type stubs are generated. The list of methods is read from the descriptor
at run time (see ``service.py``), which spares the generated service file and its absolute import.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

_HERE = Path(__file__).resolve().parent
_PROTO_NAME = "open_inference.proto"
_OUTPUT = _HERE / "generated"


def generate() -> int:
    """Write ``generated/`` beside this file and return the exit status of protoc."""
    _OUTPUT.mkdir(exist_ok=True)
    (_OUTPUT / "__init__.py").write_text('"""Generated from open_inference.proto."""\n')
    well_known_types = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={_HERE}",
        f"--proto_path={well_known_types}",
        f"--python_out={_OUTPUT}",
        f"--pyi_out={_OUTPUT}",
        _PROTO_NAME,
    ]
    status = int(protoc.main(arguments))
    if status == 0:
        _exempt_from_type_checks(_OUTPUT / "open_inference_pb2.pyi")
    return status


def _exempt_from_type_checks(stub: Path) -> None:
    """Keep the stub's types but not its own complaints: protobuf itself ships no stubs."""
    stub.write_text("# mypy: ignore-errors\n" + stub.read_text())


if __name__ == "__main__":
    sys.exit(generate())
