"""Every number that a verdict depends on, with its source.

DETECTOR, LAB and DESIGN are the project's design documents; "DETECTOR 3" is the taxonomy
with the signature of each label.
"""

from __future__ import annotations

WINDOW_NS = 10_000_000_000
"""The fast view: 10 s (DETECTOR 4.1)."""

HOP_NS = 1_000_000_000
"""How often the detector looks. DETECTOR 4.1 has 2 s; 1 s halves the time to a label at
the same two-of-three rule."""

REQUESTS_MIN = 4
"""Fewer finished requests in a window support no claim (DETECTOR 4.1)."""

SILENCE_NS = 5_000_000_000
"""A serving process samples itself every second; five missed in a row and it hangs as a
whole, its samplers included."""

COMPARED_MIN = 12
"""Fewer sampled requests are not compared with the usual: inputs differ, and the standard
error of a share of one half is then 14 %, the materiality threshold itself. Labels that rest
on counters of their own need no such comparison."""

GAIN_MIN = 0.15
"""Materiality: taking the cause away must gain this much latency (DETECTOR 4.4, gate 2)."""

HARM_RATIO = 1.25
"""Harm: a figure this much above its learned reference (DESIGN 5)."""

HEADROOM_MIN = 0.20
"""Harm: less headroom than this (DESIGN 5)."""

UNATTRIBUTED_MAX = 0.30
"""More unattributed time than this in a slow service is `unknown` (DETECTOR 3, states)."""

SLOW_RATIO = 1.5
"""Median latency this much above its reference is slow even when nothing explains it. Six
healthy runs wandered by up to 1.4 (LAB 5: p99 by 1.4, medians by less)."""

PROVISIONAL_HITS = 2
PROVISIONAL_LOOKS = 3
"""Provisional: 2 of 3 looks (DETECTOR 4.5). Cleared when none of 3 passes."""

THROTTLED_PERIODS_RATIO = 0.20
"""cpu_quota_throttling: share of CFS periods that ended throttled (DETECTOR 3)."""

PERIODS_MIN = 5
"""Periods needed before their ratio means anything."""

GIL_LATE_RATIO = 0.35
"""gil_contention: share of heartbeats more than 2 ms late, net of their own run-queue
delay. Healthy windows had a p99 net lateness of 0.19 ms, one Python-bound thread puts the
median at 5 ms (LAB 5, INPROCESS 7); a third leaves room for a thread busy half the time."""

GIL_PRESENT_RATIO = 0.05
"""Late beats above this share mean that some blocked time is the lock's: healthy windows
have none to one in ninety (a beat of 10 s)."""

GIL_BEATS_MIN = 20
"""Two seconds of heartbeats."""

GIL_OTHER_CORES = 0.25
"""CPU of Python threads that serve no request, above which they, not the requests, hold
the interpreter lock: a thread that makes a third of the beats late must run that often."""

GIL_OWN_CORES = 0.80
"""Python that only the requests run, without a usual to compare: 20 % headroom of the one
core that the interpreter lock lets it use (DESIGN 5)."""

GC_SHARE = 0.03
"""Collector pauses above this share of wall time explain late heartbeats (DETECTOR 3)."""

PREPROCESS_SHARE = 0.35
"""preprocess_cpu: CPU share of the service time outside the forward (DETECTOR 3)."""

FORWARD_SHARE = 0.60
"""model_hot_layer: the forward's CPU share of the service time (DETECTOR 3)."""

GROWN_SHARE = 0.20
"""For a stage that has grown against its reference, the share of service time that makes
it worth naming; the two shares above stand in where no reference is known."""

LAYER_SHARE = 0.40
"""model_hot_layer is `concentrated` when one module has this share of the forward."""

DOWNSTREAM_SHARE = 0.35
"""downstream_wait: share of the service time blocked in calls to others."""

STACKS_MIN = 5
"""Looks at waiting request threads needed before their categories split blocked time."""

QUEUE_SHARE = 0.30
"""Queue share of latency above which queueing is worth explaining: an M/D/1 queue passes
it at a utilisation of 0.46."""

CPU_IDLE = 0.50
"""insufficient_parallelism: hardware is idle below this utilisation (DETECTOR 3)."""

CPU_RECENT_NS = 3_000_000_000
"""Queues jump at once, the CPU use of a window follows slowly: its last three seconds are
looked at as well."""

CPU_SATURATED = 0.60
"""queue_saturation: utilisation of the CPUs that the server may use. The clients and the
kernel's network work of a small machine take the rest; above it the run queue is own."""

QUEUE_RHO_AFTER = 0.80
"""If utilisation falls below this without another cause, queueing is its effect
(DETECTOR 0, item 5)."""

RUNQUEUE_SHARE = 0.15
"""Run-queue wait above this share means that the CPUs are not idle for this process."""

SERVED_READINGS_MIN = 3
"""Readings of a server's own metrics in a window, before they say that a queue stands."""

SERVED_BUSY_RATIO = 0.80
"""Share of a server's places that are taken on average when it is as good as full: the same
20 % that the headroom of any other server is judged by (DESIGN 5)."""

REPLAY_TOLERANCE = 0.25
"""The factual replay must give the observed mean within this (DETECTOR 4.8)."""

REFERENCE_LAG_NS = 5_000_000_000
"""A second of traffic joins the reference only when it is this old, so that the first
seconds of a fault do not."""

REFERENCE_SECONDS_MIN = 4
"""Seconds of healthy traffic before a reference is used."""

REFERENCE_SECONDS_MAX = 600
"""Seconds of healthy traffic that the reference remembers."""

REFERENCE_PURGE_NS = 12_000_000_000
"""When a label appears, the reference forgets this much: the fault began before it."""
