"""The labels that can be given, whose they are and what helps. Strings are public API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """A bottleneck type. `owner` routes it: service, platform, dependency or client."""

    type: str
    owner: str
    meaning: str
    remedies: tuple[str, ...]
    signals: tuple[str, ...]
    """Signals without which this label cannot be given."""


CPU_QUOTA_THROTTLING = Label(
    "cpu_quota_throttling",
    "platform",
    "The container's CPU limit stops the server in mid-request.",
    (
        "Raise the CPU limit (resources.limits.cpu), or remove it and keep the request.",
        "Set intra-op threads (torch.set_num_threads, OMP_NUM_THREADS) to the CPU limit.",
        "Allow bursts (cpu.max.burst) if the average use is below the limit.",
    ),
    ("cgroup",),
)
GIL_CONTENTION = Label(
    "gil_contention",
    "service",
    "Request threads wait for Python's interpreter lock.",
    (
        "Serve with several processes instead of threads for the Python-bound part.",
        "Move the thread that holds the lock to another process.",
        "Offload pure-Python work to native code that releases the lock (numpy, orjson).",
    ),
    ("python",),
)
DOWNSTREAM_WAIT = Label(
    "downstream_wait",
    "dependency",
    "Requests wait for another service.",
    (
        "Find out why the dependency is slow; the code line in the evidence names the call.",
        "Cache its answers, or ask for several at once.",
        "Set a timeout, hedge slow calls, and raise the client's connection pool.",
    ),
    ("stacks", "threads"),
)
PREPROCESS_CPU = Label(
    "preprocess_cpu",
    "service",
    "Preparing the input and the output takes the CPU, not the model.",
    (
        "Vectorise or resize early: decode at the size that the model needs.",
        "Move preprocessing to worker processes or to the client, or onto the GPU.",
        "Cache decoded inputs; use a faster decoder (libjpeg-turbo, DALI).",
    ),
    ("torch",),
)
MODEL_HOT_LAYER = Label(
    "model_hot_layer",
    "service",
    "The model's forward takes the CPU.",
    (
        "Quantise, prune or distil the model; replace the layer that the evidence names.",
        "Fuse with torch.compile, or use bf16 where the CPU has it.",
        "Batch requests, cache repeated inputs, or serve a smaller model.",
    ),
    ("torch",),
)
INSUFFICIENT_PARALLELISM = Label(
    "insufficient_parallelism",
    "service",
    "Requests queue for a worker while the hardware is idle.",
    (
        "Raise max_workers of the gRPC server's thread pool.",
        "Serve asynchronously (grpc.aio), so that a waiting request holds no worker.",
        "Run more processes or replicas.",
    ),
    (),
)
QUEUE_SATURATION = Label(
    "queue_saturation",
    "service",
    "More requests arrive than this replica can serve.",
    (
        "Add replicas, or CPU if one replica may have more.",
        "Shed or limit load (maximum_concurrent_rpcs, admission control).",
        "Make each request cheaper: cache, batch, quantise.",
    ),
    (),
)

LABELS: tuple[Label, ...] = (
    CPU_QUOTA_THROTTLING,
    GIL_CONTENTION,
    DOWNSTREAM_WAIT,
    PREPROCESS_CPU,
    MODEL_HOT_LAYER,
    INSUFFICIENT_PARALLELISM,
    QUEUE_SATURATION,
)
"""In the order in which equal gains are ranked: causes before symptoms (LAB 4)."""

COMPOSITION: frozenset[Label] = frozenset((DOWNSTREAM_WAIT, PREPROCESS_CPU, MODEL_HOT_LAYER))
"""Labels that say what the service is made of: they need harm, best against a reference."""

QUEUEING: frozenset[Label] = frozenset((INSUFFICIENT_PARALLELISM, QUEUE_SATURATION))
"""Labels that are an effect wherever another cause explains them."""

STATES: tuple[str, ...] = ("healthy", "idle", "unknown")
