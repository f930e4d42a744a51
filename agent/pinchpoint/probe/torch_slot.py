"""A module's `_compiled_call_impl`: the attribute that `Module.__call__` looks at first.

A plain function put there sees the outermost call without a hook and without a replaced
`forward` (INPROCESS section 4). It is not told which module was called, and libraries copy
modules by hand, `clone.__dict__ = module.__dict__.copy()`: a copy that took the function along
would silently compute with the weights of the original. So each function counts its own
references. A copied dictionary holds one more, and then, and only then, the caller's frame is
asked whose call this is: that costs 15 times as much.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

SLOT = "_compiled_call_impl"

NEVER = -1
"""No number of references: every call asks."""

_REFERENCES_MAX = 16
"""More than this are no count: an interpreter that defers or shares the counting."""


def references_in_call(module_class: Any) -> int:
    """References to a slot's function during a call, by `sys.getrefcount` within it: of the
    module, of `TorchForwardProbe`, of the function's own cell, of the call itself.

    The last differs between interpreters, so it is measured.
    """

    def forward(*_args: Any, **_kwargs: Any) -> int:
        return sys.getrefcount(forward)

    kept = (forward,)
    module = module_class()
    module.__dict__[SLOT] = kept[0]
    # Calls may count differently until the interpreter has specialised them.
    references = min(int(module(None)) for _ in range(16))
    return references if references <= _REFERENCES_MAX else NEVER


def stray(function: Callable[..., Any] | None, module: Any, frame: Any) -> Any:
    """The module whose call this is, if it is not ours; its slot is then free again.

    Args:
        function: what was called, None once it has been taken out.
        module: whose it is, None once that is gone.
        frame: of the caller.
    """
    called = frame.f_locals.get("self")
    if called is None or called is module:
        return None
    own = called.__dict__
    if function is None or own.get(SLOT) is function:
        own.pop(SLOT, None)
    return called


def copies_itself(torch: Any, module_class: type) -> bool:
    """Whether modules of a class might take the function along when they are copied.

    Those that pickle or copy themselves their own way might (torch.fx.GraphModule fails on it).
    Scripted modules refuse to be pickled anyway, and what torch.compile returns is made anew
    from the model in it.
    """
    if issubclass(module_class, torch.jit.ScriptModule):
        return False
    if module_class.__name__ == "OptimizedModule":
        return False
    base = torch.nn.Module
    return any(
        getattr(module_class, name, None) is not getattr(base, name, None)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__", "__copy__", "__deepcopy__")
    )
