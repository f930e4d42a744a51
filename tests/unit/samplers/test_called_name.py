from __future__ import annotations

import dis
from types import CodeType

import pytest

from pinchpoint.samplers.called_name import CalledNames


def compiled(statement: str) -> CodeType:
    function: dict[str, CodeType] = {}
    source = f"def f(self, a, b, call):\n    {statement}\n"
    namespace: dict[str, object] = {}
    exec(source, namespace)
    function["f"] = namespace["f"].__code__  # type: ignore[attr-defined]
    return function["f"]


def names(statement: str) -> list[str]:
    """What each instruction of a statement calls, in order, where it is known."""
    code, known = compiled(statement), CalledNames()
    found = [known.at(code, instruction.offset) for instruction in dis.get_instructions(code)]
    return [name for name in found if name is not None]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("self.lock.acquire()", ["acquire"]),
        ("time.sleep(0.5)", ["sleep"]),
        ("call(a, b)", ["call"]),
        ("self.queue.get(timeout=self.limit + a)", ["get"]),
        ("call(other(1), a.b.c(2)[0], False)", ["other", "c", "call"]),
        ("call([1, 2, *a], {1: b}, f'{a!r}')", ["call"]),
        ("call(a, key=b, more=a.inner())", ["inner", "call"]),
    ],
)
def test_the_called_name_is_found(statement: str, expected: list[str]) -> None:
    # In 3.11 a call is two instructions, PRECALL and CALL, which call the same.
    found = names(statement)
    assert [name for i, name in enumerate(found) if i == 0 or found[i - 1] != name] == expected


def test_the_entry_of_a_with_block_is_found() -> None:
    assert "with" in names("with self.lock: pass")


@pytest.mark.parametrize("statement", ["call()()", "call(*a)", "a + b", "a[0](b)"])
def test_a_callee_without_a_name_has_none(statement: str) -> None:
    assert set(names(statement)) <= {"call"}


def test_an_argument_with_branches_gives_no_guess() -> None:
    assert names("call(a if b else self)") == []


def test_code_that_does_not_run_yet_calls_nothing() -> None:
    assert CalledNames().at(compiled("call()"), -1) is None
