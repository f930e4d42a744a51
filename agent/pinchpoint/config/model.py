"""Every key of the agent's configuration, with its default, bounds and names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pinchpoint.adapters.target import INTERVAL_SECONDS_MAX, AdapterTarget
from pinchpoint.config.kinds import Address, Choice, Count, Place, Seconds, Switch, Url
from pinchpoint.config.lists import Bounds, Mappings, Part
from pinchpoint.config.setting import PREFIX, setting, settings_of
from pinchpoint.pipeline.caps import SERIES_MIN, Caps
from pinchpoint.pipeline.options import PipelineOptions
from pinchpoint.probe.activate import DEFAULT_RING_DIR, RING_DIR

FILE_FLAG = "--config.file"
FILE_VARIABLE = f"{PREFIX}CONFIG_FILE"
"""How the file itself is named: the one thing that it cannot say."""

ADAPTER_KINDS = ("vllm", "sglang", "triton", "tgi", "torchserve")
ADAPTERS_MAX = 32

BOUNDS_MAX = 40
"""Each bound is a series of every method."""

NAMES = Count(1, 1000)
"""Names of one kind with series of their own."""

TIME = Seconds(0.000001, 86400.0)
"""A latency or a part of one."""

ADAPTERS = Mappings(
    "servers",
    ADAPTERS_MAX,
    (
        Part("kind", Choice(ADAPTER_KINDS), "The server.", required=True),
        Part("url", Url(), "Its metrics.", required=True),
        Part(
            "interval_seconds",
            Seconds(0.1, INTERVAL_SECONDS_MAX),
            "From the begin of one scrape to that of the next.",
            AdapterTarget.interval_seconds,
        ),
        Part(
            "timeout_seconds",
            Seconds(0.1, 60.0),
            "For a whole scrape, the connection included.",
            AdapterTarget.timeout_seconds,
        ),
        Part(
            "concurrency",
            Count(1, 100_000),
            "Requests of one model that the server works on at once, where that is known "
            "(instances times batch, `--max-num-seqs`).",
            AdapterTarget.concurrency,
        ),
    ),
    AdapterTarget,
    unique="url",
)

_CAPS = Caps()
_PIPELINE = PipelineOptions()


@dataclass(frozen=True)
class WebSection:
    """What the agent serves, and to whom."""

    listen_address: str = field(
        default="0.0.0.0:10061",
        metadata=setting(Address(), "Where to serve.", flag="--web.listen-address"),
    )
    config_file: Path | None = field(
        default=None,
        metadata=setting(
            Place("file"),
            "TLS, client certificates and passwords, in the format of Prometheus' exporters. "
            "Changes of the file apply by themselves.",
            example="/etc/pinchpoint/web.yaml",
            unset="plain HTTP for everybody",
            flag="--web.config.file",
        ),
    )
    enable_lifecycle: bool = field(
        default=False,
        metadata=setting(
            Switch(),
            "Allow POST /-/reload; SIGHUP always reloads.",
            flag="--web.enable-lifecycle",
        ),
    )


@dataclass(frozen=True)
class LimitsSection:
    """How many names keep series of their own. Those beyond share the series of `_OTHER`."""

    methods: int = field(
        default=_CAPS.methods, metadata=setting(NAMES, "gRPC methods and HTTP routes together.")
    )
    statuses: int = field(
        default=_CAPS.statuses, metadata=setting(NAMES, "HTTP status codes of one route.")
    )
    models: int = field(default=_CAPS.models, metadata=setting(NAMES, "torch models."))
    layers: int = field(default=_CAPS.layers, metadata=setting(NAMES, "Layers of one model."))
    stages: int = field(
        default=_CAPS.stages, metadata=setting(NAMES, "Stages that the server's code names.")
    )
    readings: int = field(
        default=_CAPS.readings,
        metadata=setting(NAMES, "Signals, and instances of one type of sample."),
    )
    series: int = field(
        default=_CAPS.series,
        metadata=setting(
            Count(SERIES_MIN, 100_000),
            "The most series of a scrape: when they are used up, further names are folded too.",
        ),
    )


@dataclass(frozen=True)
class HistogramsSection:
    """The buckets of histograms. Each bound is one more series of every method."""

    latency_bounds_seconds: tuple[float, ...] = field(
        default=_PIPELINE.latency_bounds_seconds,
        metadata=setting(Bounds(BOUNDS_MAX, TIME), "Of whole requests and forwards."),
    )
    fine_bounds_seconds: tuple[float, ...] = field(
        default=_PIPELINE.fine_bounds_seconds,
        metadata=setting(
            Bounds(BOUNDS_MAX, TIME), "Of parts of a request, such as its time in the queue."
        ),
    )
    native: bool = field(
        default=False,
        metadata=setting(
            Switch(), "Native histograms of requests too, for a Prometheus that scrapes those."
        ),
    )
    stages: bool = field(
        default=False,
        metadata=setting(
            Switch(), "Buckets for each stage of a request, besides its sum and count."
        ),
    )


@dataclass(frozen=True)
class ObjectiveSection:
    """What the service promises."""

    latency_seconds: float | None = field(
        default=None,
        metadata=setting(
            TIME,
            "The latency objective. It becomes one of the latency bounds, so that the share of "
            "requests within it is exact.",
            example="0.3",
            unset="no bound is added",
        ),
    )


@dataclass(frozen=True)
class Config:
    """The agent's configuration."""

    ring_directory: Path = field(
        default=Path(DEFAULT_RING_DIR),
        metadata=setting(
            Place("directory"),
            "Where the rings are. The probe reads the same variable.",
            flag="--ring-dir",
            variable=RING_DIR,
        ),
    )
    recording_file: Path | None = field(
        default=None,
        metadata=setting(
            Place("file"),
            "Also write all that is read to this file, for `pinchpoint replay` (at most 4 GiB).",
            example="/var/tmp/pinchpoint.rec",
            unset="nothing is recorded",
            flag="--record",
        ),
    )
    web: WebSection = WebSection()
    limits: LimitsSection = LimitsSection()
    histograms: HistogramsSection = HistogramsSection()
    objective: ObjectiveSection = ObjectiveSection()
    adapters: tuple[AdapterTarget, ...] = field(
        default=(),
        metadata=setting(
            ADAPTERS,
            "Servers in the pod whose own metrics are read as well.",
            example="[{kind: vllm, url: http://127.0.0.1:8000/metrics}]",
            unset="none",
            reloadable=True,
        ),
    )

    @property
    def pipeline(self) -> PipelineOptions:
        """What the pipeline is told."""
        return PipelineOptions(
            caps=Caps(**vars(self.limits)),
            latency_bounds_seconds=self.histograms.latency_bounds_seconds,
            fine_bounds_seconds=self.histograms.fine_bounds_seconds,
            objective_seconds=self.objective.latency_seconds,
            native_histograms=self.histograms.native,
            stage_histograms=self.histograms.stages,
        )


SETTINGS = tuple(settings_of(Config()))
