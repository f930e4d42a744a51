"""What is computed from h2load's log."""

import pytest

from bench.overhead.h2load import _load


def test_log_gives_latencies_and_the_rate_from_first_start_to_last_end() -> None:
    """Columns: start in microseconds, HTTP status, microseconds to the end."""
    load = _load([(1_000_000 + 1_000 * n, 200, 1_000 + n) for n in range(101)])
    assert load.p50_us == pytest.approx(1_050)
    assert load.p99_us == pytest.approx(1_099, abs=1)
    assert load.per_second == pytest.approx(101 / 0.101_1)
