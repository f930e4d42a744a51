"""Sources, their strength, and every mistake at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.config.load import MISTAKES_MAX, load
from pinchpoint.config.model import BOUNDS_MAX, SETTINGS, Config
from pinchpoint.config.setting import value_of
from pinchpoint.config.text_file import BYTES_MAX
from pinchpoint.errors import ConfigError
from tests.unit.config.sources import Sources


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A place for a file."""
    return Sources(tmp_path)


# What is understood


def test_nothing_said_is_the_default(sources: Sources) -> None:
    for text in (None, "", "---\n", "# nothing\n", "~", "web:\nlimits: {methods: }\nadapters:\n"):
        loaded = sources.load(text)
        assert loaded.config == Config()
        assert not loaded.origins


def test_every_kind_of_value_is_read(sources: Sources) -> None:
    config = sources.load(
        """
ring_directory: /rings
recording_file: run.rec
web: {listen_address: "[::1]:9", config_file: ../web.yaml, enable_lifecycle: on}
limits:
  methods: "12"
histograms:
  latency_bounds_seconds: [0.5, 1, 1e1]
  native: true
objective:
  latency_seconds: 0.2
adapters:
  - kind: triton
    url: https://[::1]:8002/metrics?x=y
    timeout_seconds: 0.5
    concurrency: 16
  - {kind: vllm, url: "http://127.0.0.1:8000/metrics"}
"""
    ).config
    assert config.ring_directory == Path("/rings")
    assert config.recording_file == sources.path.parent / "run.rec"
    assert config.web.listen_address == "[::1]:9"
    assert config.web.config_file == sources.path.parent / "../web.yaml"
    assert config.web.enable_lifecycle is True
    assert config.limits.methods == 12
    assert config.histograms.latency_bounds_seconds == (0.5, 1.0, 10.0)
    assert config.adapters == (
        AdapterTarget("triton", "https://[::1]:8002/metrics?x=y", 1.0, 0.5, 16),
        AdapterTarget("vllm", "http://127.0.0.1:8000/metrics"),
    )
    options = config.pipeline
    assert options.caps.methods == 12
    assert options.caps.models == Config().limits.models
    assert options.latency_bounds == (0.2, 0.5, 1.0, 10.0)
    assert options.native_histograms
    assert not options.stage_histograms


def test_variables_are_stronger_than_the_file_and_flags_than_both(sources: Sources) -> None:
    text = "limits: {methods: 1, models: 1}\nweb: {listen_address: ':1'}\nring_directory: /a"
    environment = {
        "PINCHPOINT_LIMITS_METHODS": "2",
        "PINCHPOINT_WEB_LISTEN_ADDRESS": ":2",
        "PINCHPOINT_RING_DIR": "",
    }
    loaded = sources.load(text, environment, {"web.listen_address": ":3"})
    config = loaded.config
    assert (config.limits.models, config.limits.methods) == (1, 2)
    assert config.web.listen_address == ":3"
    assert config.ring_directory == Path("/a")
    assert loaded.origins == {
        "limits.models": f"{sources.path}:1",
        "limits.methods": "PINCHPOINT_LIMITS_METHODS",
        "web.listen_address": "--web.listen-address",
        "ring_directory": f"{sources.path}:3",
    }


def test_a_variable_holds_a_list_as_yaml(sources: Sources) -> None:
    environment = {
        "PINCHPOINT_ADAPTERS": "[{kind: tgi, url: 'http://[::1]/metrics'}]",
        "PINCHPOINT_HISTOGRAMS_FINE_BOUNDS_SECONDS": "[0.01, 1]",
    }
    config = sources.load(environment=environment).config
    assert config.adapters == (AdapterTarget("tgi", "http://[::1]/metrics"),)
    assert config.histograms.fine_bounds_seconds == (0.01, 1.0)


def test_paths_of_variables_start_where_the_agent_does(sources: Sources) -> None:
    config = sources.load("web: {}", {"PINCHPOINT_WEB_CONFIG_FILE": "web.yaml"}).config
    assert config.web.config_file == Path("web.yaml")


def test_what_holds_without_a_source_can_be_given(sources: Sources) -> None:
    base = Config(ring_directory=Path("/base"))
    assert load(None, {}, {}, base).config == base


# Mistakes in a file


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "web: {listen_adress: ':1'}",
            "F:1: web.listen_adress does not exist: did you mean web.lis",
        ),
        (
            "listen_address: ':1'",
            "F:1: listen_address does not exist: did you mean web.listen_addr",
        ),
        ("limit: {}", "F:1: limit does not exist: did you mean limits?"),
        ("zzz: 1", "F:1: zzz does not exist: there are ring_directory, recording_file, web, "),
        ("objective: {zzz: 1}", "F:1: objective.zzz does not exist: there are latency_seconds"),
        ("\nweb: 3", 'F:2: web is "3": write a mapping of listen_address, config_file, '),
        ("- a", "F:1: the file is a list: write a mapping of ring_directory, "),
        ("limits: {methods: many}", 'F:1: limits.methods is "many": write a whole number from 1 '),
        ("limits: {methods: 0}", 'F:1: limits.methods is "0": write a whole number from 1 to '),
        ("limits: {methods: ٣}", 'F:1: limits.methods is "٣": write a whole number'),
        ("limits: {methods: [1]}", "F:1: limits.methods is a list: write a whole number"),
        ("limits: {series: 10}", 'F:1: limits.series is "10": write a whole number from '),
        ("web: {enable_lifecycle: maybe}", 'web.enable_lifecycle is "maybe": write true or false'),
        ("objective: {latency_seconds: 250ms}", 'latency_seconds is "250ms": write seconds from'),
        ("objective: {latency_seconds: .nan}", 'latency_seconds is ".nan": write seconds from'),
        ("objective: {latency_seconds: nan}", 'latency_seconds is "nan": write seconds from'),
        ("objective: {latency_seconds: inf}", 'latency_seconds is "inf": write seconds from'),
        ("objective: {latency_seconds: 0}", 'latency_seconds is "0": write seconds from 0.000001'),
        ("web: {listen_address: nowhere}", 'web.listen_address is "nowhere": write HOST:PORT'),
        ("web: {listen_address: '::1:80'}", 'web.listen_address is "::1:80": write HOST:PORT'),
        ("web: {listen_address: ':99999'}", 'web.listen_address is ":99999": write HOST:PORT'),
        ('ring_directory: ""', "F:1: ring_directory is empty: write the path of a directory"),
        ('ring_directory: "a\\0b"', 'F:1: ring_directory is "a\\x00b": write the path'),
        ('ring_directory: "a\\nF:2: b"\nx: 1', "F:2: x does not exist"),
    ],
)
def test_a_mistake_is_told_with_line_key_and_remedy(
    sources: Sources, text: str, mistake: str
) -> None:
    (line,) = sources.mistakes(text)
    assert mistake in line


@pytest.mark.parametrize(
    ("bounds", "mistake"),
    [
        ("[]", "has 0 items: write a list of 1 to 40 rising seconds"),
        (f"[{', '.join(str(n) for n in range(1, BOUNDS_MAX + 2))}]", "has 41 items: write a list"),
        ("'0.1, 0.2'", 'is "0.1, 0.2": write a list of'),
        ("[1, x]", 'latency_bounds_seconds[1] is "x": write seconds'),
        ("[1, -1]", 'latency_bounds_seconds[1] is "-1": write seconds'),
        ("[0.25, 0.1, 1]", "latency_bounds_seconds[1] is 0.1 and follows 0.25: write the bounds"),
        ("[1, 1]", "latency_bounds_seconds[1] is 1 and follows 1: write the bounds in rising"),
    ],
)
def test_bounds_are_positive_and_rise(sources: Sources, bounds: str, mistake: str) -> None:
    (line,) = sources.mistakes(f"histograms: {{latency_bounds_seconds: {bounds}}}")
    assert mistake in line


def test_as_many_bounds_as_allowed_are_accepted(sources: Sources) -> None:
    bounds = tuple(float(n) for n in range(1, BOUNDS_MAX + 1))
    text = f"histograms: {{latency_bounds_seconds: {list(bounds)}}}"
    assert sources.load(text).config.histograms.latency_bounds_seconds == bounds


@pytest.mark.parametrize(
    ("entry", "mistakes"),
    [
        ("vllm", ['F:1: adapters[0] is "vllm": write a mapping with the keys kind, url, ']),
        ("{}", ["F:1: adapters[0].kind is missing: ", "F:1: adapters[0].url is missing: "]),
        ("{kind: vlm, url: 'http://a/m'}", ['F:1: adapters[0].kind is "vlm": write vllm, ']),
        ("{kind: tgi, url: 'ftp://a/m'}", ['F:1: adapters[0].url is "ftp://a/m": write an']),
        ("{kind: tgi, url: 'http:///m'}", ['F:1: adapters[0].url is "http:///m": write an']),
        ("{kind: tgi, url: 'http://a:0/'}", ['F:1: adapters[0].url is "http://a:0/": write an']),
        ("{kind: tgi, url: 'http://a:x/'}", ['F:1: adapters[0].url is "http://a:x/": write an']),
        ("{kind: tgi, url: 'http://u:p@a/'}", ['F:1: adapters[0].url is "http://u:p@a/": write']),
        ("{kind: tgi, url: 'http://a b/'}", ['F:1: adapters[0].url is "http://a b/": write an']),
        (
            "{kind: tgi, urll: 'http://a/'}",
            [
                "F:1: adapters[0].urll does not exist: did you mean adapters[0].url?",
                "F:1: adapters[0].url is missing: ",
            ],
        ),
        (
            "{kind: tgi, url: 'http://a/'}, {kind: tgi, url: 'http://a/'}",
            ["F:1: adapters[1].url is that of adapters[0]: list each of them once"],
        ),
    ],
)
def test_mistakes_in_an_adapter_name_it(sources: Sources, entry: str, mistakes: list[str]) -> None:
    told = sources.mistakes(f"adapters: [{entry}]")
    assert len(told) == len(mistakes)
    for line, mistake in zip(told, mistakes, strict=True):
        assert line.startswith(mistake)


def test_all_mistakes_of_all_sources_are_told_together_in_order(sources: Sources) -> None:
    text = """\
limits:
  methods: x
  models: 3
histograms: {fine_bounds_seconds: [2, 1]}
adapters:
  - kind: zzz
    url: http://a/
web: {listen_adress: x}
"""
    environment = {"PINCHPOINT_LIMITS_MODELS": "-1", "PINCHPOINT_ADAPTERS": "[{kind: zzz}"}
    told = sources.mistakes(text, environment, {"web.enable_lifecycle": "perhaps"})
    assert [line.split(" ")[0] + " " + line.split(" ")[1] for line in told] == [
        "F:2: limits.methods",
        "F:4: histograms.fine_bounds_seconds[1]",
        "F:6: adapters[0].kind",
        "F:8: web.listen_adress",
        "PINCHPOINT_LIMITS_MODELS is",
        "PINCHPOINT_ADAPTERS: this",
        "--web.enable-lifecycle is",
    ]


def test_mistakes_in_one_line_keep_their_order(sources: Sources) -> None:
    told = sources.mistakes(f"adapters: [{', '.join(['x'] * 12)}]")
    assert [line.split()[1] for line in told] == [f"adapters[{place}]" for place in range(12)]


def test_a_flood_of_mistakes_is_cut(sources: Sources) -> None:
    told = sources.mistakes("".join(f"key{n}: 1\n" for n in range(1000)))
    assert len(told) == MISTAKES_MAX + 1
    assert told[-1] == f"and {1000 - MISTAKES_MAX} more mistakes"


def test_mistakes_inside_a_variable_name_it(sources: Sources) -> None:
    environment = {"PINCHPOINT_ADAPTERS": "[{kind: vllm, url: x}]"}
    (line,) = sources.mistakes(environment=environment)
    assert line.startswith('PINCHPOINT_ADAPTERS[0].url is "x": write an address such as')


_KEYS = [*{part for setting in SETTINGS for part in setting.key.split(".")}, "kind", "url", "x"]
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([setting.example for setting in SETTINGS])
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _TREES, max_size=8))
def test_any_document_is_a_configuration_or_mistakes(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object]
) -> None:
    """Whatever is accepted is within its bounds: shown and read again it is the same."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8", "replace")
    mistakes = ""
    config = Config()
    try:
        config = load(path, {}, {}).config
    except ConfigError as error:
        mistakes = str(error)
    assert all(line.startswith(f"{path}:") for line in mistakes.splitlines())
    shown = {
        setting.variable: setting.kind.shown(value)
        for setting in SETTINGS
        if (value := value_of(config, setting.key)) not in (None, ())
    }
    assert load(None, shown, {}).config == config


# Files that are no configuration


def test_a_missing_file_is_one_sentence(sources: Sources) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read \(No such file"):
        load(Path("absent.yaml"), {}, {})


def test_a_directory_and_a_fifo_are_no_files(sources: Sources, tmp_path: Path) -> None:
    """Neither is waited for."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo):
        with pytest.raises(ConfigError, match="is not a file"):
            load(path, {}, {})


def test_an_unreadable_file_is_one_sentence(sources: Sources) -> None:
    assert sources.mistakes(b"# " + b"x" * BYTES_MAX) == [
        "F is larger than 64 KiB: this is no configuration"
    ]
    (line,) = sources.mistakes(b"# ok\nring_directory: \xff\n")
    assert line == "F:2: this is not UTF-8: save the file as UTF-8"


# The environment of others


def test_a_variable_that_looks_like_a_slip_is_pointed_out(sources: Sources) -> None:
    environment = {"PINCHPOINT_LIMITS_METHOD": "3", "PINCHPOINT_WEB_LISTEN_ADRESS": ":1"}
    loaded = sources.load(environment=environment)
    assert loaded.config == Config()
    assert loaded.notes == (
        "the variable PINCHPOINT_LIMITS_METHOD is not read: "
        "did you mean PINCHPOINT_LIMITS_METHODS?",
        "the variable PINCHPOINT_WEB_LISTEN_ADRESS is not read: "
        "did you mean PINCHPOINT_WEB_LISTEN_ADDRESS?",
    )


def test_what_kubernetes_and_the_probe_set_is_not_pointed_out(sources: Sources) -> None:
    """Variables that exist for a Service named `pinchpoint` or `pinchpoint-web`."""
    environment = {
        "PINCHPOINT_SERVICE_HOST": "10.0.0.1",
        "PINCHPOINT_SERVICE_PORT_METRICS": "10061",
        "PINCHPOINT_PORT": "tcp://10.0.0.1:10061",
        "PINCHPOINT_PORT_10061_TCP_ADDR": "10.0.0.1",
        "PINCHPOINT_WEB_SERVICE_HOST": "10.0.0.1",
        "PINCHPOINT_WEB_PORT": "tcp://10.0.0.1:10061",
        "PINCHPOINT_DISABLE": "1",
        "PINCHPOINT_ENABLE": "1",
        "PINCHPOINT_DEBUG": "1",
        "PINCHPOINT_CONFIG_FILE": "f",
        "OTHER_LIMITS_METHOD": "1",
    }
    loaded = sources.load(environment=environment)
    assert loaded.config == Config()
    assert loaded.notes == ()
