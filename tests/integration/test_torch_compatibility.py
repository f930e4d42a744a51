"""Every way to run a torch model, in a server with the probe and in the same one without.

Results are the same to the bit, nothing is compiled or broken up more often, and each way is
seen as often as the table says: a 0 is a way that the probe does not see, and says so.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pinchpoint.schema.events import FORWARD_OUTSIDE
from pinchpoint.schema.samples import ProbeSample
from tests.support.rings import the_ring
from tests.support.scripts import ECHO_SERVER, run
from tests.support.servers import SERVICE

pytest.importorskip("torch")

pytestmark = pytest.mark.integration

CALLS = 3

SERVER = (
    ECHO_SERVER
    + f"""
import copy, hashlib, io, json, pickle, threading, warnings

CALLS = {CALLS}
SERVICE = {SERVICE!r}
warnings.simplefilter("ignore")
pinchpoint.install()
import torch


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.last = torch.nn.Linear(16, 4)

    def forward(self, inputs):
        return self.last(torch.relu(self.first(inputs)))


def block():
    torch.manual_seed(1)
    return Block().eval()


def saved(module, save, load):
    file = io.BytesIO()
    save(module, file)
    file.seek(0)
    return load(file)


def digest(result):
    return hashlib.sha256(result.detach().contiguous().numpy().tobytes()).hexdigest()


inputs = torch.arange(24, dtype=torch.float32).reshape(3, 8) / 7


def serve(ways):
    results = {{}}

    def handler_of(name, run):
        def handler(request, context):
            results.setdefault(name, []).append(digest(run(inputs)))
            return request
        return grpc.unary_unary_rpc_method_handler(handler)

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {{name: handler_of(name, run) for name, run in ways.items()}}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        for name in ways:
            for _ in range(CALLS):
                channel.unary_unary(f"/{{SERVICE}}/{{name}}")(b"x")
    server.stop(None).wait()
    return results
"""
)

PLAIN = """
def in_thread(model):
    def run(values):
        results = []
        thread = threading.Thread(target=lambda: results.append(model(values)))
        thread.start()
        thread.join()
        return results[0]
    return run


def within(mode, model):
    def run(values):
        with mode():
            return model(values)
    return run


watched = block()
serve({"Watch": watched})  # what is copied below has been watched
loaded = block()
loaded.load_state_dict(watched.state_dict())
scripted, traced = torch.jit.script(watched), torch.jit.trace(watched, inputs)
one, other = block(), block()
ways = {
    "Eager": block(),
    "NoGrad": within(torch.no_grad, block()),
    "InferenceMode": within(torch.inference_mode, block()),
    "DirectForward": block().forward,
    "DeepCopy": copy.deepcopy(watched),
    "Pickle": pickle.loads(pickle.dumps(watched)),
    "SaveAndLoad": saved(watched, torch.save, lambda f: torch.load(f, weights_only=False)),
    "StateDict": loaded,
    "QuantizeDynamic": torch.ao.quantization.quantize_dynamic(watched, {torch.nn.Linear}),
    "FunctionalCall": lambda values: torch.func.functional_call(
        watched, {k: v * 2 for k, v in watched.named_parameters()}, (values,)),
    "DataParallel": torch.nn.DataParallel(block()),
    "Fx": torch.fx.symbolic_trace(watched),
    "Export": torch.export.export(watched, (inputs,)).module(),
    "Script": scripted,
    "Trace": traced,
    "Freeze": torch.jit.freeze(torch.jit.script(block())),
    "JitLoad": saved(scripted, torch.jit.save, torch.jit.load),
    "Thread": in_thread(block()),
    "Several": lambda values: one(values) + other(values),
    "PerRequest": lambda values: block()(values),
}
say(json.dumps(serve(ways)))
"""

PLAIN_SEEN = {
    "Eager": 1,
    "NoGrad": 1,
    "InferenceMode": 1,
    "DirectForward": 0,
    "DeepCopy": 1,
    "Pickle": 1,
    "SaveAndLoad": 1,
    "StateDict": 1,
    "QuantizeDynamic": 1,
    "FunctionalCall": 1,
    "DataParallel": 1,
    "Fx": 0,
    "Export": 0,
    "Script": 1,
    "Trace": 1,
    "Freeze": 0,
    "JitLoad": 1,
    "Several": 2,
    "PerRequest": 0,
}
"""Forwards of one request. Not seen: what calls `forward` itself, graph modules of torch.fx and
torch.export (which pickle their whole dictionary), what has no weights of its own beside a model
that has (a frozen one keeps constants), what is built within its request."""

COMPILED = """
import torch._dynamo.utils as dynamo

itself = block()
itself.compile(backend="eager")
whole = torch.compile(block(), backend="eager", fullgraph=True)
inner = block()
function = torch.compile(lambda values: inner(values) * 2, backend="eager", fullgraph=True)
ways = {
    "Eager": torch.compile(block(), backend="eager"),
    "AotEager": torch.compile(block(), backend="aot_eager"),
    "FullGraph": whole,
    "Function": function,
    "Dynamic": torch.compile(block(), backend="eager", dynamic=True),
    "Itself": itself,
    "Plain": block(),
    INDUCTOR
}
results = serve(ways)
stats = {kind: dict(counts) for kind, counts in dynamo.counters.items() if counts}
say(json.dumps(results))
say(json.dumps({kind: stats[kind] for kind in ("stats", "graph_break", "recompiles")
                if kind in stats}))
"""

COMPILED_SEEN = {
    "Eager": 1,
    "AotEager": 1,
    "FullGraph": 1,
    "Function": 0,
    "Dynamic": 1,
    "Itself": 0,
    "Plain": 1,
}
"""Not seen: a model inside of a compiled function, which is part of its graph, and one that has
compiled itself before it was found, whose slot is torch's."""


def served(source: str, ring_dir: Path, **extra: str) -> list[Any]:
    # From a file: torch.jit.script reads the source of what it compiles.
    program = ring_dir.parent / "program.py"
    program.write_text(SERVER + source)
    start = f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"
    done = run(start, ring_dir, **extra)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def forwards_seen(ring_dir: Path) -> dict[str, int]:
    """Forwards of each method's requests, which are all alike."""
    ring = the_ring(ring_dir)
    seen: dict[str, list[int]] = {}
    for request in ring.requests():
        method = ring.text(request.method_id).rpartition("/")[2]
        seen.setdefault(method, []).append(request.forwards)
    seen.pop("Watch", None)
    uneven = {method: counts for method, counts in seen.items() if len(set(counts)) != 1}
    assert uneven.keys() <= {"Thread"}
    return {method: counts[0] for method, counts in seen.items()}


def test_every_way_to_run_a_model_computes_the_same(ring_dir: Path) -> None:
    """And is seen, or said not to be."""
    with_probe = served(PLAIN, ring_dir)
    assert with_probe == served(PLAIN, ring_dir, PINCHPOINT_DISABLE="1")
    seen = forwards_seen(ring_dir)
    seen.pop("Thread")  # whether its forward is taken for the request's is a matter of timing
    assert seen == PLAIN_SEEN
    ring = the_ring(ring_dir)
    outside = [forward for forward in ring.forwards() if forward.flags & FORWARD_OUTSIDE]
    # The main thread runs the model once as well, when torch checks what it has traced.
    assert sum(forward.thread_id != ring.process_id for forward in outside) == CALLS
    assert all(sample.errors == 0 for sample in ring.of(ProbeSample) if sample.instance)


def test_everything_compiled_stays_as_it_was_compiled(ring_dir: Path) -> None:
    """As many graphs, breaks and recompilations as without the probe."""
    inductor = '"Inductor": torch.compile(block()),' if shutil.which("cc") else ""
    source = COMPILED.replace("INDUCTOR", inductor)
    results, stats = served(source, ring_dir)
    assert [results, stats] == served(source, ring_dir, PINCHPOINT_DISABLE="1")
    assert stats["stats"]["unique_graphs"] > 0
    assert stats.keys() == {"stats"}  # no graph break, no recompilation
    assert forwards_seen(ring_dir) == COMPILED_SEEN | ({"Inductor": 1} if inductor else {})
