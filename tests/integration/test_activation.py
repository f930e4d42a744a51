"""Getting in and out of a process, and leaving it as it was."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import pinchpoint
from pinchpoint.probe import activate
from pinchpoint.ring.reader import RingReader
from tests.support.rings import ring_files, ring_with, the_ring
from tests.support.scripts import ECHO_SERVER, ROOT, run
from tests.support.servers import SERVICE, Served, serving, unary
from tests.support.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.integration


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    return request


def count(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def serves(served: Served) -> bool:
    both = served.channel.stream_stream(f"/{SERVICE}/Count")
    return served.call("Echo") == b"x" and list(both(iter([b"1", b"2"]))) == [b"1", b"2"]


HANDLERS = {"Echo": unary(echo), "Count": grpc.stream_stream_rpc_method_handler(count)}


# What is replaced is put back


def surface() -> dict[str, Any]:
    """Every attribute of what the probe may touch, by where it is."""
    import grpc._server
    import grpc.aio._server
    import torch

    found: dict[str, Any] = {"meta_path": [*sys.meta_path], "gc": [*gc.callbacks]}
    owners: list[Any] = [torch.nn.Module, torch.nn.modules.module, torch.nn.DataParallel]
    for module in (grpc, grpc._server, grpc.aio, grpc.aio._server):
        owners.append(module)
        owners.extend(
            value
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__
        )
    for owner in owners:
        for name, value in vars(owner).items():
            found[f"{owner.__module__ if isinstance(owner, type) else ''}{owner}.{name}"] = value
    return found


@pytest.fixture
def environment(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(activate.RING_DIR, str(ring_dir))
    monkeypatch.delenv(activate.DISABLE, raising=False)
    yield
    pinchpoint.uninstall()


@pytest.mark.usefixtures("environment")
def test_after_uninstall_everything_is_what_it_was() -> None:
    """grpc, grpc.aio, torch and Python's own hooks: identical, not only equal."""
    import torch

    model = torch.nn.Linear(1, 1)
    with serving(HANDLERS) as served:
        assert serves(served)  # what grpc imports at its first use is there
    before = surface()
    own = dict(vars(model))
    assert pinchpoint.install()
    during = surface()
    changed = {name for name in before if during.get(name) is not before[name]}
    with serving(HANDLERS) as served:
        assert serves(served)
        model(torch.zeros(1))
    pinchpoint.uninstall()

    after = surface()
    assert after.keys() == before.keys()
    kept = {"meta_path", "gc"}
    assert {name for name in before if after[name] is not before[name]} <= kept
    assert all(after[name] == before[name] for name in kept)
    assert vars(model).keys() == own.keys()
    assert any("grpc._server._Server" in name for name in changed)
    assert any("torch.nn.modules.module.Module" in name for name in changed)


@pytest.mark.usefixtures("environment")
def test_a_server_outlives_the_probe_and_the_probe_comes_back(ring_dir: Path) -> None:
    """Made while it is installed, serving without it, with it again, and without."""
    assert pinchpoint.install()
    with serving(HANDLERS) as served:
        assert serves(served)
        ring_with(ring_dir, lambda found: len(found.requests()) == 2)
        for _ in range(3):
            pinchpoint.uninstall()
            assert serves(served)
            assert pinchpoint.install()
            assert serves(served)
        assert len(the_ring(ring_dir).requests()) == 2
        with serving(HANDLERS) as another:
            assert serves(another)
        assert len(ring_files(ring_dir)) == 2


@pytest.mark.usefixtures("environment")
def test_any_number_of_threads_may_install_and_uninstall() -> None:
    """While the process serves: one probe at a time, and none is left."""
    before = surface()
    go = threading.Barrier(5, timeout=LIMIT_SECONDS)
    failures: list[BaseException] = []

    def turn() -> None:
        try:
            go.wait()
            for _ in range(20):
                assert pinchpoint.install()
                pinchpoint.uninstall()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=turn) for _ in range(4)]
    with serving(HANDLERS) as served:
        for thread in threads:
            thread.start()
        go.wait()
        while any(thread.is_alive() for thread in threads):
            assert serves(served)
        for thread in threads:
            thread.join(LIMIT_SECONDS)
        assert failures == []
        pinchpoint.uninstall()
        after = surface()
        assert {n for n in before if after[n] is not before[n]} <= {"meta_path", "gc"}
        assert (after["meta_path"], after["gc"]) == (before["meta_path"], before["gc"])
        assert serves(served)


INSTALLS_WHILE_IMPORTING = (
    ECHO_SERVER.replace("import grpc\n", "", 1).replace("import pinchpoint\n", "", 1)
    + """
import threading
import pinchpoint

def install():
    for _ in range(50):
        assert pinchpoint.install()

threads = [threading.Thread(target=install) for _ in range(4)]
for thread in threads:
    thread.start()
import grpc
for thread in threads:
    thread.join(60)
server, port = echo_server()
say(call_echo(port, 3))
server.stop(None).wait()
"""
)


def test_installing_while_grpc_is_being_imported_waits_for_nobody(ring_dir: Path) -> None:
    """Neither the import's lock nor ours is ever waited for in a circle."""
    done = run(INSTALLS_WHILE_IMPORTING, ring_dir)
    assert done.stdout.split() == ["3"], done.stderr


# By the environment alone, where pip has installed us


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has our wheel and grpcio."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    wheels = folder / "wheels"
    build = [*pip, "wheel", "--no-build-isolation", *offline, "-w", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, timeout=4 * LIMIT_SECONDS)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(wheel)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "theirs.pth").write_text(f"{Path(grpc.__file__).parents[1]}\n", "utf-8")
    return python


ENABLED = {"PINCHPOINT_ENABLE": "1"}
STATE = (
    "import sys; a = sys.modules.get('pinchpoint.probe.activate'); "
    "print('pinchpoint' in sys.modules, bool(a and a._Installed.activation))"
)


def start(python: Path, *arguments: str, extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PINCHPOINT_", "PYTHON"))}
    return subprocess.run(
        [str(python), *arguments],
        env=plain | extra,
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("flags", [(), ("-I",), ("-E",), ("-s",)], ids="".join)
@pytest.mark.parametrize(
    ("extra", "state"),
    [
        ({}, "False False"),
        ({"PINCHPOINT_ENABLE": "0"}, "False False"),
        ({"PINCHPOINT_ENABLE": "1"}, "True True"),
        ({"PINCHPOINT_ENABLE": "1", "PINCHPOINT_DISABLE": "1"}, "True False"),
    ],
)
def test_one_variable_starts_the_probe_and_nothing_does_without_it(
    installed: Path, flags: tuple[str, ...], extra: dict[str, str], state: str
) -> None:
    """Also where Python is told to ignore PYTHONPATH."""
    done = start(installed, *flags, "-c", STATE, extra=extra)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, state, "")


def test_a_server_started_that_way_is_watched(installed: Path, ring_dir: Path) -> None:
    """It does not know of us."""
    program = (
        ECHO_SERVER.replace("import pinchpoint\n", "")
        + "\nserver, port = echo_server(); say(call_echo(port, 4)); server.stop(None).wait()\n"
    )
    done = start(installed, "-I", "-c", program, extra=ENABLED | {activate.RING_DIR: str(ring_dir)})
    assert (done.stdout.strip(), done.stderr) == ("4", "")
    assert len(the_ring(ring_dir).requests()) == 4
    (path,) = ring_files(ring_dir)
    reader = RingReader(path)
    assert not reader.writer_alive()
    reader.close()


def test_both_start_up_files_do_the_same_and_may_run_twice(installed: Path) -> None:
    """Python 3.15 and later take the second (PEP 829); some environments run the first twice."""
    (site,) = installed.parents[1].glob("lib/python*/site-packages")
    (line,) = (site / "pinchpoint.pth").read_text("utf-8").splitlines()
    (entry,) = (site / "pinchpoint.start").read_text("utf-8").splitlines()
    module, _, function = entry.partition(":")
    program = (
        f"import importlib; start = importlib.import_module({module!r}).{function}; "
        f"exec({line!r}); start(); exec({line!r}); start(); {STATE}; "
        "print(sum('AfterImport' in type(f).__name__ for f in sys.meta_path))"
    )
    assert line.startswith("import ")
    on = start(installed, "-c", program, extra=ENABLED)
    assert on.stdout.split() == ["True", "True", "1"], on.stderr
    off = start(installed, "-c", program, extra={})
    assert off.stdout.split() == ["True", "False", "0"], off.stderr


def test_uninstalling_the_package_leaves_no_start_up_file(installed: Path) -> None:
    """They are in its list of files."""
    (site,) = installed.parents[1].glob("lib/python*/site-packages")
    (record,) = site.glob("pinchpoint-*.dist-info/RECORD")
    listed = {line.partition(",")[0] for line in record.read_text("utf-8").splitlines()}
    assert {"pinchpoint.pth", "pinchpoint.start"} <= listed
    assert not list((site / "pinchpoint" / "inject").glob("*.pth"))
