"""What the current instruction of a frame calls, from its bytecode.

Only the code object is read, never a variable. `dis` is imported at the first use, in the
sampler's own thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile, takewhile
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dis import Instruction

WITH = "with"
"""The entry of a `with` block, which calls `__enter__`."""

INSTRUCTIONS_MAX = 4096
"""Distinct instructions remembered, about 100 bytes each; then all are forgotten."""

CODE_BYTES_MAX = 65_536
"""Longer code is generated and takes tens of milliseconds to disassemble: it has no names."""

_WITH_ENTRIES = frozenset({"BEFORE_WITH", "SETUP_WITH"})
# The callable lies this many stack slots below its last argument, by what the call adds to them.
_CALLS = {
    "CALL": 0,
    "CALL_FUNCTION": 0,
    "CALL_FUNCTION_KW": 1,
    "CALL_KW": 1,
    "CALL_METHOD": 0,
    "PRECALL": 0,
}
_SUSPENDED = frozenset(
    {
        "CACHE", "EXTENDED_ARG", "JUMP_BACKWARD_NO_INTERRUPT", "LOAD_CONST", "NOP", "RESUME",
        "SEND", "YIELD_FROM", "YIELD_VALUE",
    }
)  # fmt: skip
"""What stands between a call whose result is awaited and the place where its frame rests."""

_PARTS_OF_A_CALL = frozenset({"CACHE", "EXTENDED_ARG", "KW_NAMES", "PRECALL"})
_AFTER_THE_CALLABLE = frozenset({"CACHE", "EXTENDED_ARG", "PUSH_NULL"})
_NAMES = frozenset(
    {
        "LOAD_ATTR", "LOAD_CLASSDEREF", "LOAD_DEREF", "LOAD_FAST", "LOAD_FAST_BORROW",
        "LOAD_FAST_CHECK", "LOAD_FROM_DICT_OR_DEREF", "LOAD_FROM_DICT_OR_GLOBALS",
        "LOAD_GLOBAL", "LOAD_METHOD", "LOAD_NAME", "LOAD_SUPER_ATTR",
    }
)  # fmt: skip


class CalledNames:
    """Names by instruction, worked out once each."""

    def __init__(self) -> None:
        # By id, because code objects hash by content; the code is kept so that no id is reused.
        self._known: dict[tuple[int, int], tuple[CodeType, str | None]] = {}

    def at(self, code: CodeType, offset: int) -> str | None:
        """The name called at `offset` (`f_lasti`), `WITH`, or None where it calls none."""
        key = (id(code), offset)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= INSTRUCTIONS_MAX:
                self._known.clear()
            found = self._known[key] = (code, _work_out(code, offset))
        return found[1]


def _work_out(code: CodeType, offset: int) -> str | None:
    if offset < 0 or len(code.co_code) > CODE_BYTES_MAX:
        return None
    import dis

    # A frame that called into Python may point into the cache behind its call instruction.
    passed = list(takewhile(lambda i: i.offset <= offset, dis.get_instructions(code)))
    if passed[-1].opname in _SUSPENDED:
        return _awaited(passed)
    return _name(passed[:-1], passed[-1])


def _awaited(passed: Sequence[Instruction]) -> str | None:
    """What was called to get what a suspended frame awaits."""
    before = list(passed)
    while before and before[-1].opname in _SUSPENDED:
        before.pop()
    if not before or before.pop().opname != "GET_AWAITABLE":
        return None
    while before and before[-1].opname == "CACHE":
        before.pop()
    return _name(before[:-1], before[-1]) if before else None


def _name(before: Sequence[Instruction], current: Instruction) -> str | None:
    if current.opname in _WITH_ENTRIES:
        return WITH
    extra = _CALLS.get(current.opname)
    if extra is None or current.arg is None:
        return None
    return _callable(before, current.arg + extra)


def _callable(before: Sequence[Instruction], slots: int) -> str | None:
    """Walk back over the instructions that pushed `slots` arguments, to what pushed the callee."""
    import dis

    backwards = dropwhile(lambda i: i.opname in _PARTS_OF_A_CALL, reversed(before))
    for instruction in backwards:
        if slots == 0 and instruction.opname not in _AFTER_THE_CALLABLE:
            return _loaded(instruction)
        if slots < 0 or instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            # An argument with branches: which way it came is not known.
            return None
        if slots:
            slots -= dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
    return None


def _loaded(instruction: Instruction) -> str | None:
    if instruction.opname == "LOAD_SPECIAL":
        return WITH if "__enter__" in instruction.argrepr else None
    if instruction.opname in _NAMES and isinstance(instruction.argval, str):
        return instruction.argval
    return None
