"""`pinchpoint run` and `pinchpoint agent` as real processes around small Python programs."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from pinchpoint.commands.agent import COMPANION
from pinchpoint.ring.layout import HEADER_BYTES, MAGIC
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema import wire
from pinchpoint.schema.observations import NameKind
from tests.support.ring_content import write_request

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
INJECT = REPOSITORY / "agent" / "pinchpoint" / "inject"
PINCHPOINT = [sys.executable, "-m", "pinchpoint"]
ANY_PORT = "--web.listen-address=127.0.0.1:0"
WAIT_SECONDS = 60.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that do not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"text": True, "cwd": tmp_path, **pipes, **options}
        process = subprocess.Popen([*PINCHPOINT, *arguments], **options)
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def execute(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A process, to its end."""
    options = {"text": True, "capture_output": True, "timeout": WAIT_SECONDS, **options}
    return subprocess.run(command, check=False, **options)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A `pinchpoint` command line, to its end."""
    return execute([*PINCHPOINT, *arguments], **options)


def run_python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A Python program under `pinchpoint run`."""
    options_of_run = arguments or (ANY_PORT,)
    return run("run", *options_of_run, "--", sys.executable, "-c", code, **options)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def line(stream: IO[str] | None) -> str:
    """The next line of a process, without its end. The process' end ends the wait."""
    assert stream is not None
    return stream.readline().rstrip("\n")


def agents_of(directory: Path) -> list[int]:
    """The agents that `pinchpoint run` has started for a ring directory."""
    return sorted({*processes_with(f"--ring-dir={directory}")} & {*processes_with(COMPANION)})


def processes_with(text: str) -> list[int]:
    """Processes whose command line holds `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(int(entry.name))
    return found


AGENTS_OWN = ("serving metrics", ": idle: ", ": unknown: ")


def ours(stderr: str) -> list[str]:
    """What Pinchpoint said, its agent's own report left out."""
    lines = [text for text in stderr.splitlines() if text.startswith("pinchpoint: ")]
    return [text for text in lines if not any(t in text for t in AGENTS_OWN)]


# The command's exit code, signals and streams


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands(code: int) -> None:
    assert run_python(f"raise SystemExit({code})").returncode == code


def test_a_command_that_a_signal_ended_exits_with_128_and_its_number() -> None:
    result = run_python("import os; os.kill(os.getpid(), 9)")
    assert result.returncode == 128 + signal.SIGKILL


PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

ANSWERS_SIGNALS = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
print("ready", flush=True)
print(signal.Signals(signal.sigwait(range(1, 16))).name)
sys.exit(3)
"""


@pytest.mark.parametrize("name", PASSED_ON)
def test_signals_are_passed_on(start: Start, name: str) -> None:
    process = start("run", ANY_PORT, "--", sys.executable, "-c", ANSWERS_SIGNALS)
    assert line(process.stdout) == "ready"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=WAIT_SECONDS)
    assert (out, process.returncode) == (f"{name}\n", 3)


def test_the_command_starts_with_no_signal_blocked_or_ignored() -> None:
    code = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    shown = "print(open('/proc/self/status').read().split('SigBlk:')[1].split()[0])"
    result = run_python(f"{code}; {shown}")
    assert result.stdout.split() == ["0", "0" * 16]


COUNTS_INTERRUPTS = """
import signal, sys
count = 0
def interrupted(*_):
    global count
    count += 1
    print("interrupted", flush=True)
def ended(*_):
    print("count", count, flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGTERM, ended)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_an_interrupt_of_the_terminal_reaches_the_command_once(start: Start) -> None:
    ours_end, theirs = pty.openpty()

    def take_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-c", COUNTS_INTERRUPTS]
    process = start("run", ANY_PORT, "--", *command, stdin=theirs, preexec_fn=take_terminal)
    os.close(theirs)
    assert line(process.stdout) == "ready"
    os.write(ours_end, b"\x03")
    assert line(process.stdout) == "interrupted"
    # Signals that wait are taken in the order of their numbers: an interrupt that was passed
    # on as well has reached the command before this.
    process.terminate()
    assert line(process.stdout) == "count 1"
    process.communicate(timeout=WAIT_SECONDS)
    os.close(ours_end)
    assert process.returncode == 0


def test_streams_are_the_commands_own(start: Start) -> None:
    code = "import sys; sys.stderr.write('err\\n'); print(sys.stdin.read().upper())"
    process = start("run", ANY_PORT, "--", sys.executable, "-c", code)
    out, err = process.communicate("hello", timeout=WAIT_SECONDS)
    assert out == "HELLO\n"
    assert "err" in err.splitlines()


def test_a_descriptor_that_was_handed_over_is_the_commands_too() -> None:
    read_end, write_end = os.pipe()
    result = run_python(
        f"import os; os.write({write_end}, b'through')", ANY_PORT, pass_fds=(write_end,)
    )
    os.close(write_end)
    assert (result.returncode, os.read(read_end, 100)) == (0, b"through")
    os.close(read_end)


# What keeps a command from starting


def test_a_missing_command_exits_with_127() -> None:
    result = run("run", ANY_PORT, "--", "no-such-command-anywhere")
    assert result.returncode == 127
    assert ours(result.stderr) == [
        "pinchpoint: no-such-command-anywhere: command not found; check its name, or give its path"
    ]


def test_a_command_that_cannot_be_executed_exits_with_126(tmp_path: Path) -> None:
    file = tmp_path / "server.py"
    file.write_text("print(1)")
    result = run("run", "--no-agent", "--", str(file))
    assert result.returncode == 126
    assert "name its interpreter" in result.stderr


def test_a_taken_address_exits_with_5_and_starts_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}"
        result = run_python(f"open({str(marker)!r}, 'w')", address)
    assert result.returncode == 5
    (sentence,) = ours(result.stderr)
    assert "choose another port" in sentence
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_an_unusable_ring_directory_exits_with_4(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / kind
    if kind == "file":
        directory.touch()
    result = run_python("print('started')", f"--ring-dir={directory}")
    assert (result.returncode, result.stdout) == (4, "")
    assert len(ours(result.stderr)) == 1


def test_a_recording_that_cannot_be_made_keeps_the_command_from_starting(tmp_path: Path) -> None:
    result = run_python("print('started')", ANY_PORT, f"--record={tmp_path / 'no' / 'run.rec'}")
    assert (result.returncode, result.stdout) == (1, "")
    assert len(ours(result.stderr)) == 1


def test_a_missing_extra_is_named_before_the_command_starts(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['psutil'] = None"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    result = run_python("print('started')", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stdout) == (1, "")
    (sentence,) = ours(result.stderr)
    assert "pip install 'pinchpoint[agent]'" in sentence
    assert "--no-agent" in sentence


# What the command sees


SHOWS_ITSELF = """
import json, os, sys
print(json.dumps({
    "environment": dict(os.environ),
    "path": sys.path,
    "probe": "pinchpoint" in sys.modules,
    "sitecustomize": getattr(sys.modules.get("sitecustomize"), "__file__", None),
    "marks": getattr(sys, "marks", []),
}))
"""


def shown(result: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert result.returncode == 0, result.stderr
    document: dict[str, object] = json.loads(result.stdout)
    return document


@pytest.fixture
def plain_environment() -> dict[str, str]:
    names = ("PYTHONPATH", "PINCHPOINT_RING_DIR", "PINCHPOINT_DISABLE")
    return {name: value for name, value in os.environ.items() if name not in names}


def bare(code: str, environment: dict[str, str]) -> dict[str, object]:
    """The same program without us."""
    return shown(execute([sys.executable, "-c", code], env=environment))


def serve(environment: dict[str, str], *path: Path) -> subprocess.CompletedProcess[str]:
    """A Python program with these directories on its PYTHONPATH."""
    search = {"PYTHONPATH": os.pathsep.join(map(str, path))}
    return execute([sys.executable, "-c", "print('served')"], env={**environment, **search})


def test_environment_and_path_are_changed_in_nothing_else(
    plain_environment: dict[str, str],
) -> None:
    before = bare(SHOWS_ITSELF, plain_environment)
    now = shown(run_python(SHOWS_ITSELF, env=plain_environment))
    environment = now["environment"]
    assert isinstance(environment, dict)
    inject = environment.pop("PYTHONPATH")
    assert environment.pop("PINCHPOINT_RING_DIR")
    assert environment == before["environment"]
    assert isinstance(now["path"], list)
    assert [entry for entry in now["path"] if entry != inject] == before["path"]
    assert [file.name for file in Path(inject).glob("*.py")] == ["sitecustomize.py"]
    assert now["probe"]


def test_a_python_without_pinchpoint_gets_the_probe_and_nothing_else(
    plain_environment: dict[str, str],
) -> None:
    isolated = [sys.executable, "-S", "-c"]
    code = (
        "import site, sys; site.execsitecustomize(); import pinchpoint.probe.activate as a; "
        "print(a._Installed.activation is not None, 'psutil' in sys.modules);"
        "print(any(p.endswith('/agent') for p in sys.path))"
    )
    result = run("run", ANY_PORT, "--", *isolated, code, env=plain_environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "True False\nFalse\n"


def test_a_script_with_a_shebang_gets_the_probe(tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text(f"#!{sys.executable}\nimport sys\nprint('pinchpoint' in sys.modules)\n")
    script.chmod(0o755)
    result = run("run", ANY_PORT, "--", str(script))
    assert (result.returncode, result.stdout) == (0, "True\n")


def test_a_hidden_sitecustomize_runs_as_well(
    tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import sys; sys.marks = ['ran']; sys.path.append('/added')")
    environment = {**plain_environment, "PYTHONPATH": str(tmp_path)}
    now = shown(run_python(SHOWS_ITSELF, env=environment))
    assert now["marks"] == ["ran"]
    assert now["sitecustomize"] == str(hidden)
    assert now["probe"]
    before = bare(SHOWS_ITSELF, environment)
    assert isinstance(now["path"], list)
    assert [entry for entry in now["path"] if not entry.endswith("/inject")] == before["path"]


@pytest.mark.parametrize(
    "text", ["import no_such_module_anywhere", "raise RuntimeError('theirs')", "1 +"]
)
def test_a_hidden_sitecustomize_that_fails_does_so_as_before(
    tmp_path: Path, plain_environment: dict[str, str], text: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(text)
    before = serve(plain_environment, tmp_path)
    now = serve(plain_environment, INJECT, tmp_path)
    assert (now.returncode, now.stdout, now.stderr) == (0, "served\n", before.stderr)


def test_a_probe_that_cannot_be_imported_leaves_the_server_alone(
    tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    package = tmp_path / "pinchpoint"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('broken')")
    result = serve(plain_environment, INJECT, tmp_path)
    assert (result.returncode, result.stdout) == (0, "served\n")
    (sentence,) = result.stderr.splitlines()
    assert "the probe is off, the server runs on without it" in sentence


def test_disabled_means_that_nothing_is_imported(plain_environment: dict[str, str]) -> None:
    environment = {**plain_environment, "PINCHPOINT_DISABLE": "1"}
    now = shown(run_python(SHOWS_ITSELF, env=environment))
    assert now["probe"] is False


# What is left behind


PRINTS_RING_DIRECTORY = """
import os, sys
print(os.environ["PINCHPOINT_RING_DIR"], flush=True)
sys.stdin.read()
"""


def running(start: Start, *options: str) -> tuple[subprocess.Popen[str], Path, int]:
    """A command that runs until its input ends; its ring directory and its agent."""
    command = [sys.executable, "-c", PRINTS_RING_DIRECTORY]
    process = start("run", ANY_PORT, *options, "--", *command)
    directory = Path(line(process.stdout))
    (agent,) = agents_of(directory)
    return process, directory, agent


def test_nothing_is_left_after_the_commands_end(start: Start) -> None:
    process, directory, _ = running(start)
    assert directory.is_dir()
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0
    assert not directory.exists()
    assert processes_with(str(directory)) == []


def test_nothing_is_left_after_sigterm(start: Start) -> None:
    process, directory, _ = running(start)
    process.terminate()
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert not directory.exists()
    assert processes_with(str(directory)) == []


def test_the_agent_ends_when_pinchpoint_is_killed(start: Start) -> None:
    process, directory, _ = running(start)
    process.kill()
    eventually(lambda: not agents_of(directory))
    process.communicate(timeout=WAIT_SECONDS)
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def test_the_command_goes_on_when_the_agent_dies(start: Start) -> None:
    process, directory, agent = running(start)
    os.kill(agent, signal.SIGKILL)
    while "the agent has ended (signal 9)" not in (text := line(process.stderr)):
        assert text
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0
    assert not directory.exists()


def test_a_given_ring_directory_keeps_what_is_not_ours(start: Start, tmp_path: Path) -> None:
    rings = tmp_path / "rings"
    rings.mkdir()
    (rings / "notes.txt").write_text("keep")
    (rings / "foreign.ring").write_text("no ring")
    process, directory, _ = running(start, f"--ring-dir={rings}")
    assert directory == rings
    _, err = process.communicate(timeout=WAIT_SECONDS)
    assert sorted(os.listdir(rings)) == ["foreign.ring", "notes.txt"]
    assert "pinchpoint: the ring foreign.ring is not read: not a Pinchpoint ring" in err


# Rings, recordings, replay


WRITES_A_RING = """
import os
from pathlib import Path
from pinchpoint.ring.writer import RingWriter
from pinchpoint.schema.observations import NameKind
from tests.support.ring_content import write_request
ring = RingWriter(Path(os.environ["PINCHPOINT_RING_DIR"]))
method = ring.intern(NameKind.METHOD, "/pkg.Svc/Do")
for _ in range(1000):
    write_request(ring, method)
"""


def test_all_that_a_short_lived_server_wrote_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "run.rec"
    result = run_python(WRITES_A_RING, ANY_PORT, f"--record={file}", cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr
    dumped = run("dump", str(file))
    lines = dumped.stdout.splitlines()
    requests = [text for text in lines if text.startswith("request source=1 ")]
    assert len(requests) == 1000
    assert {text.split()[2] for text in requests} == {"method=/pkg.Svc/Do"}
    assert sum(text.startswith("closed source=1 ") for text in lines) == 1
    assert lines[-1].startswith("tick source=0 ")


def test_replay_says_what_the_agent_said_every_time_the_same(tmp_path: Path) -> None:
    file = tmp_path / "run.rec"
    result = run_python(WRITES_A_RING, ANY_PORT, f"--record={file}", cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr
    first, second = run("replay", str(file)), run("replay", str(file))
    assert first.returncode == 0
    assert first.stdout == second.stdout
    *verdicts, summary = first.stdout.splitlines()
    assert ", 1000 requests; " in summary
    said = [text.removeprefix("pinchpoint: ") for text in result.stderr.splitlines()]
    assert [text.split(maxsplit=1)[1] for text in verdicts] == said[1:]
    documents = run("replay", "--json", str(file)).stdout.splitlines()
    assert [json.loads(text)["state"] for text in documents] == [
        text.split()[1].strip(":") for text in verdicts
    ]


def test_a_killed_agents_recording_is_replayed(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "run.rec"
    agent = start("agent", ANY_PORT, f"--ring-dir={tmp_path}", f"--record={file}")
    eventually(lambda: file.exists() and file.stat().st_size > 1000)
    agent.kill()
    agent.wait(WAIT_SECONDS)
    assert run("replay", str(file)).returncode == 0


def test_an_agent_waits_for_its_directory_and_reads_only_good_rings(
    start: Start, tmp_path: Path
) -> None:
    rings, file = tmp_path / "rings", tmp_path / "run.rec"
    agent = start("agent", ANY_PORT, f"--ring-dir={rings}", f"--record={file}")
    assert "serving metrics on http://127.0.0.1:" in line(agent.stderr)
    assert "cannot look for rings" in line(agent.stderr)
    rings.mkdir()
    (rings / "future.ring").write_bytes(MAGIC + bytes([wire.VERSION + 1]) + bytes(HEADER_BYTES))
    while "future.ring is not read: ring format" not in (text := line(agent.stderr)):
        assert text
    ring = RingWriter(rings, (64, 16, 16))
    write_request(ring, ring.intern(NameKind.METHOD, "/pkg.Svc/Do"))
    eventually(lambda: "request source=1 " in run("dump", str(file)).stdout)
    ring.close()
    eventually(lambda: os.listdir(rings) == ["future.ring"])
    agent.terminate()
    _, err = agent.communicate(timeout=WAIT_SECONDS)
    assert agent.returncode == 0
    assert "future.ring" not in err
    assert "closed source=1 " in run("dump", str(file)).stdout


def test_a_dump_that_nobody_reads_to_its_end_ends_quietly(tmp_path: Path) -> None:
    file = tmp_path / "run.rec"
    assert run_python(WRITES_A_RING, ANY_PORT, f"--record={file}", cwd=REPOSITORY).returncode == 0
    pipeline = f"{sys.executable} -m pinchpoint dump {file} | head -n 1"
    result = execute(["bash", "-c", pipeline])
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""
