"""Each mistake at the command line has one sentence and its exit code."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pinchpoint import __version__
from pinchpoint.cli import COMMANDS, main
from pinchpoint.commands import command
from pinchpoint.commands.sources import read_sources
from pinchpoint.config.flags import FLAGGED
from pinchpoint.config.model import FILE_FLAG
from pinchpoint.config.setting import PREFIX
from pinchpoint.detect.labels import LABELS
from pinchpoint.errors import PinchpointError
from pinchpoint.recording import Tee
from pinchpoint.ring.layout import HEADER_BYTES, MAGIC
from pinchpoint.schema import wire
from pinchpoint.schema.frames import control_frame, pack_header
from pinchpoint.schema.observations import Tick
from tests.support.ring_content import write_ring

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of our variables."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def fails(output: Output, arguments: list[str], code: int) -> str:
    """Run a command line that must fail; returns its one sentence."""
    assert main(arguments) == code
    out, err = output.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("pinchpoint: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["agent", "--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["replay"], "required: FILE"),
        (["dump", "x", "--", "python"], "takes no command behind --"),
        (["run"], "write -- and the command last"),
        (["run", "--"], "write -- and the command last"),
        (["run", "python", "server.py"], "write -- and the command last"),
        (["run", "--no-agent", "--record", "x", "--", "true"], "are the agent's: --record;"),
        (
            ["run", "--no-agent", "--config.file", "x", "--web.enable-lifecycle", "--", "true"],
            "are the agent's: --config.file, --web.enable-lifecycle;",
        ),
        (["check-config"], "required: FILE"),
    ],
)
def test_a_wrong_command_line_exits_with_2(
    capsys: Output, arguments: list[str], sentence: str
) -> None:
    assert sentence in fails(capsys, arguments, 2)


def test_the_version_is_the_distributions(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"pinchpoint {__version__}\n"


def test_the_help_lists_every_command(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for listed in COMMANDS:
        assert re.search(rf"^    {listed.name}\s", text, re.MULTILINE)
        assert listed.help.split()[0] in text


def test_every_command_has_its_file() -> None:
    folder = Path(command.__file__).parent
    for listed in COMMANDS:
        assert (folder / f"{listed.name.replace('-', '_')}.py").exists()


def test_the_help_has_every_exit_code(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    codes = {error.exit_code for error in PinchpointError.__subclasses__()} - {127}
    assert codes == set(range(2, max(codes) + 1))
    for code in codes:
        assert f"  {code}  " in text


@pytest.mark.parametrize("name", ["agent", "run"])
def test_the_help_has_every_flag_of_the_configuration(capsys: Output, name: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    text = capsys.readouterr().out
    for flag in (FILE_FLAG, *(setting.flag for setting in FLAGGED)):
        assert f"\n  {flag} " in text


# check-config


def test_a_good_configuration_is_fine_and_its_changes_are_shown(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pinchpoint.yaml"
    path.write_text("limits:\n  methods: 3\n  models: 16\nobjective: {latency_seconds: 2.5e-1}\n")
    monkeypatch.setenv("PINCHPOINT_HISTOGRAMS_NATIVE", "true")
    assert main(["check-config", str(path)]) == 0
    assert capsys.readouterr() == (
        f"{path} is fine\n"
        f"  limits.methods: 3  ({path}:2)\n"
        "  histograms.native: true  (PINCHPOINT_HISTOGRAMS_NATIVE)\n"
        f"  objective.latency_seconds: 0.25  ({path}:4)\n",
        "",
    )


def test_every_mistake_is_a_line_and_the_exit_code_is_6(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pinchpoint.yaml"
    path.write_text("limits:\n  methods: many\n  modles: 3\n")
    web = tmp_path / "web.yaml"
    web.write_text("basic_auth_users: {me: password}\n")
    monkeypatch.setenv("PINCHPOINT_HISTOGRAMS_NATIVE", "perhaps")
    assert main(["check-config", str(path), "--web.config.file", str(web)]) == 6
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    for line, start in zip(
        lines,
        (
            f'{path}:2: limits.methods is "many": write a whole number',
            f"{path}:3: limits.modles does not exist: did you mean limits.models?",
            'PINCHPOINT_HISTOGRAMS_NATIVE is "perhaps": write true or false',
            f"{web}:1: basic_auth_users.me",
        ),
        strict=True,
    ):
        assert line.startswith(f"pinchpoint: {start}")


def test_the_web_configuration_that_it_names_is_checked_too(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "pinchpoint.yaml"
    path.write_text("web: {config_file: absent.yaml}\n")
    assert str(tmp_path / "absent.yaml") in fails(capsys, ["check-config", str(path)], 6)
    assert main(["check-config", "--syntax-only", str(path)]) == 0
    assert f"web.config_file: {tmp_path / 'absent.yaml'}" in capsys.readouterr().out


def test_a_slip_in_a_variable_is_pointed_out(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pinchpoint.yaml"
    path.touch()
    monkeypatch.setenv("PINCHPOINT_LIMITS_METHOD", "3")
    assert main(["check-config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path} is fine\n"
    assert "did you mean PINCHPOINT_LIMITS_METHODS?" in err


@pytest.mark.parametrize("option", ["--config.file=absent.yaml", "--web.listen-address=nowhere"])
def test_an_agent_with_a_wrong_configuration_does_not_start(capsys: Output, option: str) -> None:
    fails(capsys, ["agent", option], 6)


@pytest.mark.parametrize("name", ["replay", "dump"])
def test_what_cannot_be_read_exits_with_3(capsys: Output, tmp_path: Path, name: str) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no recording")
    for path in (text, tmp_path, tmp_path / "absent.rec"):
        assert str(path) in fails(capsys, [name, str(path)], 3)


def test_a_ring_of_another_version_exits_with_3(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "1.ring"
    path.write_bytes(MAGIC + bytes([wire.VERSION + 1]) + bytes(HEADER_BYTES))
    sentence = fails(capsys, ["dump", str(path)], 3)
    assert "run the agent of the same Pinchpoint release" in sentence


def test_a_damaged_ring_exits_with_3(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "1.ring"
    path.write_bytes(MAGIC)
    assert "shorter than its header" in fails(capsys, ["dump", str(path)], 3)


def test_a_ring_is_dumped_from_its_start(capsys: Output, tmp_path: Path) -> None:
    ring = write_ring(tmp_path)
    assert main(["dump", str(ring.path)]) == 0
    ring.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("opened source=1 ")
    golden = Path(__file__).parents[1] / "golden" / "dump" / "records.txt"
    assert lines[1:] == golden.read_text().splitlines()[: len(lines) - 1]
    assert len(lines) == 20


def test_an_empty_recording_is_replayed(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "empty.rec"
    path.write_bytes(pack_header())
    assert main(["replay", str(path)]) == 0
    assert capsys.readouterr() == (
        "0.0 s, 0 records, 0 lost, 0 requests; bottlenecks: none\n",
        "",
    )


def test_a_missing_end_is_said_and_is_no_error(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "cut.rec"
    tee = Tee(path, print)
    for second in range(3):
        tee.write(control_frame(0, Tick(second * 1_000_000_000 + 1_000_000_000, 0)))
    tee.close()
    path.write_bytes(path.read_bytes()[:-1])
    for name in ("replay", "dump"):
        assert main([name, str(path)]) == 0
        out, err = capsys.readouterr()
        assert out
        assert "is missing (from byte" in err


def test_the_doctor_knows_every_signal_that_a_label_needs(capsys: Output) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    needed = {signal for label in LABELS for signal in label.signals}
    for name in needed | {reading.name for reading in read_sources()}:
        assert f"\n  {name} " in text
    for label in LABELS:
        assert f"\n  {label.type} " in text


def test_the_doctor_says_when_no_ring_can_be_made(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("PINCHPOINT_RING_DIR", str(file / "rings"))
    assert main(["doctor"]) == 0
    assert "cannot be written: make it writable" in capsys.readouterr().out
