from __future__ import annotations

import copy
import gc
import io
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from weakref import ref

import grpc
import pytest

import pinchpoint
from pinchpoint.probe import torch_cuda
from pinchpoint.probe.process import ProcessProbe
from pinchpoint.probe.torch_forward import UNCALLED_REQUESTS
from pinchpoint.probe.torch_layers import SIGNAL
from pinchpoint.schema.events import FORWARD_GRAD, DeviceEvent
from pinchpoint.schema.samples import ModelSample, SignalSample, TorchSample
from pinchpoint.schema.terms import STAGE_INDEX
from tests.support.fake_cuda import FakeCuda, FakeDevice, FakeStream
from tests.support.rings import Contents, contents, ring_files, ring_with, the_ring
from tests.support.scripts import ECHO_SERVER, run
from tests.support.servers import SERVICE, Served, serving, unary
from tests.support.waiting import LIMIT_SECONDS, until

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module
nn: Any = torch.nn

pytestmark = pytest.mark.integration

SLOT = "_compiled_call_impl"


class Small(Module):  # type: ignore[misc]  # torch may be missing, so it is Any
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, inputs: Any) -> Any:
        return self.head(self.encoder(inputs))


class Raising(Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, inputs: Any) -> Any:
        self.inner(inputs)
        raise RuntimeError("shapes do not match")


class Bench:
    """A served model that the probe watches, and its ring."""

    def __init__(self, probe: ProcessProbe, served: Served, directory: Path) -> None:
        self.probe = probe
        self.served = served
        self.directory = directory
        self.run: Callable[[], Any] = lambda: None

    def request(self, run: Callable[[], Any]) -> Any:
        """Call `run` in a handler and return its result."""
        result = []
        self.run = lambda: result.append(run())
        assert self.served.call("Run") == b"x"
        return result[0]

    def watch(self, model: Any) -> Any:
        """The model, after a request that found it."""
        self.request(lambda: None)
        assert model.__dict__.get(SLOT) is not None
        return model

    def ring(self, enough: Callable[[Contents], object]) -> Contents:
        return ring_with(self.directory, enough)


@pytest.fixture
def bench(probe: ProcessProbe, ring_dir: Path) -> Iterator[Bench]:
    benches: list[Bench] = []

    def run(request: bytes, _context: grpc.ServicerContext) -> bytes:
        benches[0].run()
        return request

    with serving({"Run": unary(run)}) as served:
        benches.append(Bench(probe, served, ring_dir))
        yield benches[0]
        assert probe._torch.part.errors == 0, probe._torch.part.last_error


def inputs(batch: int = 3) -> Any:
    return torch.arange(batch * 8, dtype=torch.float32).reshape(batch, 8) / 7


# What is recorded


def test_a_forward_is_recorded_with_model_batch_and_device(bench: Bench) -> None:
    """And its request says that it ran a model, and how its time is split."""
    model = Small()
    bench.request(lambda: model(inputs(5)))
    ring = bench.ring(lambda found: found.requests() and found.forwards())

    (forward,) = ring.forwards()
    (request,) = ring.requests()
    assert ring.text(forward.model_id) == ring.text(request.model_id) == "Small"
    assert ring.text(forward.device_id) == "cpu"
    assert (forward.batch_size, request.batch_size, request.forwards) == (5, 5, 1)
    assert request.forward_ns == forward.wall_ns > 0
    parts = request.preprocess_ns + request.forward_ns + request.postprocess_ns
    assert parts == request.handler_ns


def test_several_forwards_of_one_request_are_summed(bench: Bench) -> None:
    """Every one is an event of its own as well."""
    model = Small()
    bench.request(lambda: [model(inputs()) for _ in range(3)])
    ring = bench.ring(lambda found: found.requests())

    (request,) = ring.requests()
    assert (request.forwards, len(ring.forwards())) == (3, 3)
    assert request.forward_ns == sum(forward.wall_ns for forward in ring.forwards())


def test_only_the_outermost_module_is_a_forward(bench: Bench) -> None:
    """A model in a model is one forward, also when both are known as models."""
    inner = Small()
    bench.watch(inner)
    outer = nn.Sequential(inner, nn.Linear(4, 2))
    bench.request(lambda: outer(inputs()))
    ring = bench.ring(lambda found: len(found.requests()) == 2)
    assert [ring.text(forward.model_id) for forward in ring.forwards()] == ["Sequential"]


def test_a_keyword_tensor_gives_the_batch_size_and_none_gives_zero(bench: Bench) -> None:
    """Models are called in every way."""

    class Keyword(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, *, values: Any = None) -> Any:
            return values

    model = Keyword()
    bench.request(lambda: (model(values=inputs(4)), model(), model(values=torch.tensor(1.0))))
    ring = bench.ring(lambda found: found.requests())
    assert [forward.batch_size for forward in ring.forwards()] == [4, 0, 1]


def test_a_model_built_before_install_is_found(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`install()` may come late in a server's start."""
    model = Small()
    monkeypatch.setenv("PINCHPOINT_RING_DIR", str(ring_dir))
    assert pinchpoint.install()
    try:
        handlers = {"Run": unary(lambda request, _: bytes(model(inputs()).numel()) or request)}
        with serving(handlers) as served:
            served.call("Run")
            ring = ring_with(ring_dir, lambda found: found.requests())
        assert [ring.text(forward.model_id) for forward in ring.forwards()] == ["Small"]
    finally:
        pinchpoint.uninstall()
    assert SLOT not in model.__dict__


def test_children_that_are_called_themselves_are_found(bench: Bench) -> None:
    """A root that nobody calls gives way to its children after a while."""
    model = Small()
    for _ in range(UNCALLED_REQUESTS + 2):
        bench.request(lambda: model.head(model.encoder(inputs())))
    ring = bench.ring(lambda found: len(found.requests()) == UNCALLED_REQUESTS + 2)
    assert {ring.text(forward.model_id) for forward in ring.forwards()} == {"Sequential", "Linear"}
    assert ring.requests()[-1].forwards == 2


def test_an_empty_container_hides_no_other_model(bench: Bench) -> None:
    """An empty module is false, and still a module."""
    empty, model = nn.Sequential(), Small()
    for _ in range(UNCALLED_REQUESTS + 2):
        bench.request(lambda: model.head(model.encoder(inputs())))
    assert len(empty) == 0
    assert bench.ring(lambda found: found.forwards()).forwards()


def test_streaming_handlers_run_models_too(probe: ProcessProbe, ring_dir: Path) -> None:
    """A server that only streams has its models found as well."""
    model = Small()

    def stream(_request: bytes, _context: grpc.ServicerContext) -> Any:
        for _ in range(2):
            model(inputs())
            yield b"x"

    with serving({"Stream": grpc.unary_stream_rpc_method_handler(stream)}) as served:
        assert list(served.channel.unary_stream(f"/{SERVICE}/Stream")(b"x")) == [b"x", b"x"]
        ring = ring_with(ring_dir, lambda found: found.requests())
    assert [request.forwards for request in ring.requests()] == [2]


def test_a_forward_in_another_thread_is_recorded_without_a_request(bench: Bench) -> None:
    """A batcher's thread runs the model for requests that wait elsewhere."""
    model = bench.watch(Small())
    thread = threading.Thread(target=lambda: model(inputs(7)))
    thread.start()
    thread.join(LIMIT_SECONDS)
    ring = bench.ring(lambda found: found.forwards())
    (forward,) = ring.forwards()
    assert forward.batch_size == 7
    assert [request.forwards for request in ring.requests()] == [0]


def test_models_and_torch_are_described(bench: Bench) -> None:
    """Size, type and device without running anything."""
    model = bench.watch(Small())
    ring = bench.ring(lambda found: found.of(ModelSample) and found.of(TorchSample))
    (described, *_) = [s for s in ring.of(ModelSample) if ring.text(s.instance) == "Small"]
    parameters = sum(p.numel() for p in model.parameters())
    assert (described.parameters, described.bytes) == (parameters, 4 * parameters)
    assert ring.text(described.dtype_id) == "torch.float32"
    assert ring.text(described.device_id) == "cpu"
    assert ring.of(TorchSample)[0].intraop_threads == torch.get_num_threads()


def test_the_layers_of_a_sampled_forward_are_named_and_fit_into_it(bench: Bench) -> None:
    """Own CPU times: together they are no more than the thread spent in the forward."""

    class Heavy(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(256, 256) for _ in range(3))

        def forward(self, values: Any) -> Any:
            for block in self.blocks:
                values = block(values)
            return values

    model = Heavy()
    bench.request(lambda: model(torch.zeros(1, 256)))
    bench.request(lambda: model(torch.zeros(256, 256)))
    ring = bench.ring(lambda found: len(found.requests()) == 2)

    names = {ring.text(layer.layer_id) for layer in ring.layers()}
    assert names == {"blocks.0", "blocks.1", "blocks.2", "(model)"}
    assert all(layer.calls == 1 for layer in ring.layers())
    spent = ring.details[-1].stages[STAGE_INDEX["forward"]].cpu_ns
    assert 0 < sum(layer.cpu_ns for layer in ring.layers()) <= spent
    cpu = [layer.cpu_ns for layer in ring.layers()]
    assert cpu == sorted(cpu, reverse=True)


def test_a_child_that_raises_and_is_caught_is_not_counted_twice(bench: Bench) -> None:
    """What ran below it stays its own; the rest belongs to the module that caught it."""

    class Catching(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.raising = Raising()

        def forward(self, values: Any) -> Any:
            try:
                return self.raising(values)
            except RuntimeError:
                return values

    model = Catching()
    big = torch.zeros(20_000, 8)
    bench.request(lambda: model(inputs()))
    bench.request(lambda: model(big))
    ring = bench.ring(lambda found: len(found.requests()) == 2)
    assert {ring.text(layer.layer_id) for layer in ring.layers()} == {"raising.inner", "(model)"}
    spent = ring.details[-1].stages[STAGE_INDEX["forward"]].cpu_ns
    assert sum(layer.cpu_ns for layer in ring.layers()) <= spent


def test_modes_are_seen_and_become_findings(bench: Bench) -> None:
    """Of the forward that was looked at, and of what torch says by then."""
    model = Small()
    with torch.inference_mode():
        model.eval()
    bench.request(lambda: model(inputs()))
    ring = bench.ring(lambda found: any(s.grad_enabled for s in found.of(TorchSample)))
    (forward,) = ring.forwards()
    assert forward.flags == FORWARD_GRAD
    found = ring.of(TorchSample)[-1]
    assert (found.grad_enabled, found.training_mode) == (1, 0)
    assert found.interop_threads == torch.get_num_interop_threads()


def test_that_layers_cannot_be_sampled_is_said(bench: Bench) -> None:
    """By a signal, with its reason."""
    bench.watch(Small())

    def said(found: Contents) -> list[SignalSample]:
        return [s for s in found.of(SignalSample) if found.text(s.instance) == SIGNAL]

    ring = bench.ring(said)
    signal = said(ring)[-1]
    loaded = "torch._dynamo" in sys.modules
    assert signal.available == (not loaded)
    assert (signal.reason_id is not None) == loaded


def test_device_times_follow_the_forward(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler's thread writes them when the device has ended: here, a fake one."""
    cuda, stream = FakeCuda(), FakeStream(FakeDevice())
    times = bench.probe._torch._device_times
    monkeypatch.setattr(torch_cuda, "DEVICE_TYPE", "cpu")
    monkeypatch.setattr(times, "_cuda", cuda)
    monkeypatch.setattr(cuda, "current_stream", lambda _device=None: stream)
    monkeypatch.setattr(cuda, "set_device", lambda _device: None)

    class Enqueuing(Small):
        def forward(self, values: Any) -> Any:
            stream.busy_until_ms += 3.0
            return super().forward(values)

    model = Enqueuing()
    bench.request(lambda: [model(inputs(6)) for _ in range(2)])
    cuda.now_ms = 1000.0
    ring = bench.ring(lambda found: [e for e in found.events if isinstance(e, DeviceEvent)])
    (event,) = (e for e in ring.events if isinstance(e, DeviceEvent))
    forward = ring.forwards()[1]
    assert (ring.text(event.model_id), event.batch_size) == ("Enqueuing", 6)
    assert event.device_ns == 3_000_000
    assert (event.start_ns, event.host_ns) == (forward.start_ns, forward.wall_ns)
    assert cuda.waits == 0


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_of_every_kind_have_a_batch_size(bench: Bench) -> None:
    """Scalars, nested tensors, and those in a dictionary."""

    class Anything(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, values: Any) -> Any:
            return values

    model = Anything()
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(5)])
    batches = [torch.tensor(1.0), nested, {"name": "x", "pixels": inputs(4)}, "text"]
    bench.request(lambda: [model(values) for values in batches])
    ring = bench.ring(lambda found: found.requests())
    assert [forward.batch_size for forward in ring.forwards()] == [1, 2, 4, 0]


# What stays as it was


def test_results_are_the_same_to_the_bit(bench: Bench) -> None:
    """Sampled, not sampled, and without the probe."""
    model = Small()
    values = inputs()
    expected = model(values)
    results = [bench.request(lambda: model(values)) for _ in range(3)]
    assert bench.ring(lambda found: len(found.forwards()) == 3).layers()
    assert all(torch.equal(result, expected) for result in results)


def test_an_exception_passes_through_and_leaves_no_hook(bench: Bench) -> None:
    """The same object reaches the caller, and the next forward is as any other."""
    from torch.nn.modules import module as hooks

    model = Raising()

    def call() -> Any:
        with pytest.raises(RuntimeError, match="shapes do not match") as raised:
            model(inputs())
        return raised.value

    bench.request(call)
    assert bench.request(call).args == ("shapes do not match",)
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    ring = bench.ring(lambda found: len(found.requests()) == 2)
    assert [request.forwards for request in ring.requests()] == [1, 1]
    assert {ring.text(layer.layer_id) for layer in ring.layers()} == {"inner"}


def test_no_hook_is_left_after_a_sampled_forward(bench: Bench) -> None:
    """They are in place for one forward in many."""
    from torch.nn.modules import module as hooks

    model = Small()
    bench.request(lambda: [model(inputs()) for _ in range(2)])
    assert bench.ring(lambda found: found.layers()).layers()
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks


def test_a_copy_computes_with_its_own_weights(bench: Bench) -> None:
    """A closure that came along would compute with the original's."""
    model = bench.watch(Small())
    for twin in (copy.deepcopy(model), copy.copy(model)):
        assert SLOT not in twin.__dict__ or twin.__dict__[SLOT] is None
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(twin(inputs()), torch.zeros(3, 4))
    assert not torch.equal(model(inputs()), torch.zeros(3, 4))


def test_a_data_parallel_replica_computes_with_its_own_weights(bench: Bench) -> None:
    """`DataParallel` copies the module's dictionary as it is."""
    model = bench.watch(Small())
    replica = model._replicate_for_data_parallel()
    assert SLOT not in replica.__dict__
    assert model.__dict__.get(SLOT) is not None


def test_a_copy_of_the_dictionary_computes_with_its_own_weights(bench: Bench) -> None:
    """Libraries copy modules by hand; what they take along of ours steps aside."""
    model = nn.Linear(8, 4)
    bench.request(lambda: model(inputs(1)))
    assert "_compiled_call_impl" in model.__dict__
    twin = nn.Linear.__new__(nn.Linear)
    twin.__dict__ = dict(model.__dict__)
    twin._parameters = {
        name: torch.nn.Parameter(p.detach() * 2) for name, p in model._parameters.items()
    }
    assert torch.equal(twin(inputs(1)), model(inputs(1)) * 2)
    assert "_compiled_call_impl" not in twin.__dict__


def test_a_traced_graph_can_still_be_pickled(bench: Bench) -> None:
    """torch.fx pickles a graph module with its whole dictionary: we leave it alone."""
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(8, 4)))
    bench.request(lambda: graph(inputs(1)))
    assert torch.equal(pickle.loads(pickle.dumps(graph))(inputs(1)), graph(inputs(1)))


def test_transforms_are_not_taken_for_models(bench: Bench) -> None:
    """A module without parameters, beside a model, is part of the preprocessing."""
    model, transform = nn.Linear(8, 4), torch.nn.Softmax(dim=1)
    bench.request(lambda: model(transform(inputs(2))))
    ring = bench.ring(lambda found: found.requests())
    assert [ring.text(forward.model_id) for forward in ring.forwards()] == ["Linear"]


def test_a_model_is_pickled_and_saved_without_a_trace_of_us(bench: Bench) -> None:
    """What is loaded carries no closure."""
    model = bench.watch(nn.Linear(8, 4))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for loaded in (pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert loaded.__dict__.get(SLOT) is None
        assert torch.equal(loaded(inputs()), model(inputs()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_watched_model_can_be_scripted_and_traced(bench: Bench) -> None:
    """And what comes of it computes the same, watched in turn."""
    model = bench.watch(nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval())
    scripted = torch.jit.script(model)
    traced = torch.jit.trace(model, inputs())
    expected = model(inputs())
    for made in (scripted, traced):
        assert torch.equal(bench.request(partial(made, inputs())), expected)


# torch.compile loads dynamo for the rest of a process, and no layers are sampled from then on:
# what compiles has a process of its own.
COMPILING = (
    ECHO_SERVER
    + """
import torch

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, inputs):
        return self.layer(inputs)

def serve(run):
    results = []
    def handler(request, context):
        results.append(run())
        return request
    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    done = call_echo(port, 4)
    server.stop(None).wait()
    assert done == len(results) == 4
    return results

pinchpoint.install()
inputs = torch.ones(3, 8)
"""
)


def test_a_compiled_model_has_no_graph_break_of_ours(ring_dir: Path) -> None:
    """One graph, with the probe on the model and on what torch.compile returns."""
    done = run(
        COMPILING
        + """
model = Small().eval()
expected = serve(lambda: model(inputs))[-1]
assert "_compiled_call_impl" in model.__dict__

import torch._dynamo as dynamo
explained = dynamo.explain(model)(inputs)
assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained
dynamo.reset()
dynamo.utils.counters.clear()
compiled = torch.compile(model, backend="eager", fullgraph=True)
results = serve(lambda: compiled(inputs))
assert "_compiled_call_impl" in compiled.__dict__
assert all(torch.equal(result, expected) for result in results)
assert dynamo.utils.counters["stats"]["unique_graphs"] == 1, dynamo.utils.counters
assert not dynamo.utils.counters["graph_break"], dynamo.utils.counters
say("fine")
""",
        ring_dir,
    )
    assert done.stdout.split() == ["fine"], done.stderr
    ring = the_ring(ring_dir)
    assert [request.forwards for request in ring.requests()] == [1] * 8
    names = [ring.text(forward.model_id) for forward in ring.forwards()]
    assert names == ["Small"] * 4 + ["OptimizedModule"] * 4


def test_a_model_that_compiled_itself_keeps_its_compilation(ring_dir: Path) -> None:
    """`module.compile()` uses the same slot, before us or after."""
    done = run(
        COMPILING
        + """
before, after = Small().eval(), Small().eval()
before.compile(backend="eager")
slot = "_compiled_call_impl"
own = before.__dict__[slot]
serve(lambda: (before(inputs), after(inputs)))
assert before.__dict__[slot] is own
assert after.__dict__[slot] is not None
after.compile(backend="eager")
other = after.__dict__[slot]
pinchpoint.uninstall()
assert before.__dict__[slot] is own
assert after.__dict__[slot] is other
assert torch.equal(after(inputs), after.forward(inputs))
say("fine")
""",
        ring_dir,
    )
    assert done.stdout.split() == ["fine"], done.stderr


def test_no_layer_is_sampled_once_something_compiles(ring_dir: Path) -> None:
    """A global hook in place while a thread compiles would break that thread's graph."""
    done = run(
        COMPILING
        + """
import torch._dynamo
model = Small()
serve(lambda: model(inputs))
say("fine")
""",
        ring_dir,
    )
    assert done.stdout.split() == ["fine"], done.stderr
    ring = the_ring(ring_dir)
    assert len(ring.forwards()) == 4
    assert ring.layers() == []


def test_a_model_is_freed_when_the_server_drops_it(bench: Bench) -> None:
    """Models are gigabytes: no reference of ours keeps one."""
    models = [bench.watch(Small())]
    bench.request(lambda: models[0](inputs()))
    model_of = ref(models[0])
    gc.disable()
    try:
        models.clear()
        assert until(lambda: model_of() is None)
    finally:
        gc.enable()


def test_uninstall_leaves_modules_and_classes_as_they_were(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours stays in torch."""
    names = ("__init__", "__setstate__", "_replicate_for_data_parallel")
    original = {name: getattr(nn.Module, name) for name in names}
    monkeypatch.setenv("PINCHPOINT_RING_DIR", str(ring_dir))
    pinchpoint.install()
    assert nn.Module.__init__ is not original["__init__"]
    model = Small()
    with serving({"Run": unary(lambda request, _: request)}) as served:
        served.call("Run")
        assert SLOT in model.__dict__
    pinchpoint.uninstall()
    assert {name: getattr(nn.Module, name) for name in names} == original
    assert SLOT not in model.__dict__


def test_an_error_of_the_torch_part_costs_no_forward(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part goes off and is counted; forwards and requests go on."""
    model = bench.watch(Small())
    part = bench.probe._torch.part
    expected = model.forward(inputs())

    def broken(*_args: Any) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(bench.probe._torch._looks, "begin", broken)
    results = [bench.request(lambda: model(inputs())) for _ in range(3)]
    assert all(torch.equal(result, expected) for result in results)
    assert (part.errors, part.enabled) == (1, False)
    part.errors = 0


def test_models_are_built_while_requests_come_in(bench: Bench) -> None:
    """A server that loads a model while it serves another."""
    stop = threading.Event()

    def build() -> None:
        while not stop.is_set():
            Small()

    thread = threading.Thread(target=build)
    thread.start()
    try:
        for _ in range(100):
            bench.request(lambda: None)
    finally:
        stop.set()
        thread.join(LIMIT_SECONDS)
    assert bench.probe._torch.part.enabled


def test_a_model_loaded_before_the_fork_is_watched_in_the_child(ring_dir: Path) -> None:
    """Prefork servers load once and serve in many processes."""
    done = run(
        ECHO_SERVER
        + """
import os
import torch
pinchpoint.install()
model = torch.nn.Linear(8, 4)
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    def run(request, context):
        model(torch.zeros(2, 8))
        return request
    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(run)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    done = call_echo(port, 3)
    server.stop(None).wait()
    os._exit(0 if done == 3 else 1)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        ring_dir,
    )
    assert done.stdout.split() == ["0"], done.stderr
    (path,) = ring_files(ring_dir)
    ring = contents(path)
    assert [forward.batch_size for forward in ring.forwards()] == [2, 2, 2]
    assert [request.forwards for request in ring.requests()] == [1, 1, 1]
