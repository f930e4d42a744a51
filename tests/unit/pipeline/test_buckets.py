from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinchpoint.pipeline.buckets import LATENCY_SECONDS, NATIVE_BUCKETS_MAX, Buckets
from pinchpoint.snapshot import ZERO_THRESHOLD, Exemplar, NativeBuckets

TRACE, OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331b7ad6b7169203331"


def native_of(*values: float) -> NativeBuckets:
    buckets = Buckets(LATENCY_SECONDS, native=True)
    for value in values:
        buckets.observe(value)
    native = buckets.freeze().native
    assert native is not None
    return native


def holds(native: NativeBuckets, index: int, value: float) -> bool:
    """Whether the bucket is the one for the value, to the precision of its bounds."""
    upper: float = 2 ** (index / 2**native.schema)
    lower: float = 2 ** ((index - 1) / 2**native.schema)
    return lower * (1 - 1e-12) <= value <= upper * (1 + 1e-12)


def test_without_native_buckets_there_are_none() -> None:
    """A classic histogram costs what it did."""
    assert Buckets((1.0,)).freeze().native is None


@pytest.mark.parametrize(
    ("value", "index"), [(1.0, 0), (1.01, 1), (2.0, 8), (2.01, 9), (0.5, -8), (0.51, -7), (4.0, 16)]
)
def test_a_power_of_two_ends_a_bucket(value: float, index: int) -> None:
    """As in every other exporter: eight buckets from one power to the next."""
    assert native_of(value).counts == {index: 1}


@pytest.mark.parametrize("value", [0.0, -1.0, ZERO_THRESHOLD])
def test_nothing_is_counted_in_the_zero_bucket(value: float) -> None:
    """What is too small for a bucket, and a clock that went backwards."""
    native = native_of(value)
    assert (native.zero_count, native.counts) == (1, {})


@given(st.lists(st.floats(min_value=1e-9, max_value=1e6), min_size=1, max_size=50))
def test_every_value_is_in_its_bucket(values: list[float]) -> None:
    """And the sum over the buckets is their number."""
    native = native_of(*values)
    assert sum(native.counts.values()) == len(values)
    for value in values:
        assert any(holds(native, index, value) for index in native.counts)


def test_too_many_buckets_halve_the_resolution() -> None:
    """Nothing is lost, and values stay in buckets that hold them."""
    values = [2.0**-60 * 1.1**step for step in range(900)]
    native = native_of(*values)
    assert len(native.counts) <= NATIVE_BUCKETS_MAX
    assert native.schema < 3
    assert sum(native.counts.values()) == len(values)
    assert all(any(holds(native, i, value) for i in native.counts) for value in values)


def test_the_largest_range_of_numbers_fits() -> None:
    """From the smallest to the largest that a float can be."""
    native = native_of(*(math.ldexp(1.0, exponent) for exponent in range(-127, 1024)))
    assert len(native.counts) <= NATIVE_BUCKETS_MAX


def test_two_resolutions_add_up_to_the_lower() -> None:
    """As if all had been observed at it."""
    fine, coarse = native_of(0.1, 0.11, 3.0), native_of(0.1, 5.0).at(1)
    both = fine.plus(coarse)
    assert both == native_of(0.1, 0.11, 3.0, 0.1, 5.0).at(1)
    assert both == coarse.plus(fine)


def test_an_exemplar_stands_for_its_bucket_and_is_not_counted() -> None:
    """The latest of a bucket wins."""
    buckets = Buckets((1.0, 2.0))
    buckets.observe(1.5)
    buckets.exemplify(1.5, TRACE, 100.0)
    buckets.exemplify(1.7, OTHER_TRACE, 101.0)
    frozen = buckets.freeze()
    assert frozen.count == 1
    assert frozen.exemplars == (None, Exemplar(OTHER_TRACE, 1.7, 101.0), None)


def test_without_an_exemplar_there_is_no_place_for_one() -> None:
    """Most histograms never have any."""
    assert Buckets((1.0, 2.0)).freeze().exemplars == ()


def test_histograms_that_are_added_keep_the_later_exemplar() -> None:
    """Of each bucket, whichever side it is on."""
    one, other, none = Buckets((1.0, 2.0)), Buckets((1.0, 2.0)), Buckets((1.0, 2.0))
    one.exemplify(0.5, TRACE, 100.0)
    one.exemplify(1.5, TRACE, 200.0)
    other.exemplify(1.6, OTHER_TRACE, 150.0)
    other.exemplify(9.0, OTHER_TRACE, 151.0)
    expected = (
        Exemplar(TRACE, 0.5, 100.0),
        Exemplar(TRACE, 1.5, 200.0),
        Exemplar(OTHER_TRACE, 9.0, 151.0),
    )
    assert one.freeze().plus(other.freeze()).exemplars == expected
    assert other.freeze().plus(one.freeze()).exemplars == expected
    assert none.freeze().plus(one.freeze()).exemplars == one.freeze().exemplars


def test_histograms_that_are_added_keep_native_buckets_only_if_both_have_them() -> None:
    """Half of the values would be a wrong histogram."""
    native, classic = Buckets((1.0,), native=True), Buckets((1.0,))
    native.observe(0.3, 2)
    classic.observe(0.3)
    assert native.freeze().plus(classic.freeze()).native is None
    both = native.freeze().plus(native.freeze())
    assert both.native is not None
    assert sum(both.native.counts.values()) == both.count == 4
