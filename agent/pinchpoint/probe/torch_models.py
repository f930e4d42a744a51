"""Which torch modules are models: found as they are built, without touching a call.

`Module.__init__` and `Module.__setstate__` (copies and loaded models) note every new
module weakly. When a request is about to run and something new was noted, the modules
that are nobody's child are the roots. A root that is never called while the process
serves (code that calls `model.encoder` itself) gives way to its children.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

from pinchpoint.probe.guard import Part

MODULES_MAX = 20_000
"""New modules remembered between two looks; beyond it a model is simply not seen."""

DESCENTS_MAX = 3
"""How many levels below an uncalled root are tried."""


class ModelFinder:
    """Roots among the modules of this process.

    Args:
        part: the guard's part.
        module_class: `torch.nn.Module`.
        on_new: called when there is something for `new_roots`.
    """

    def __init__(self, part: Part, module_class: type, on_new: Callable[[], None]) -> None:
        self._part = part
        self._on_new = on_new
        self._module_class = module_class
        self._new: dict[int, Any] = {}
        self._known: dict[int, Any] = {}
        self._undo: list[Callable[[], None]] = []
        self.dirty = False

    def install(self, *, look_back: bool) -> None:
        """Note modules from now on.

        Args:
            look_back: also find those that were built before, by one walk over the heap.
        """
        self._wrap("__init__")
        self._wrap("__setstate__")
        if look_back:
            for candidate in gc.get_objects():
                # Not isinstance(): that reads `__class__`, which lazy objects compute.
                if issubclass(type(candidate), self._module_class):
                    self._note(candidate)

    def uninstall(self) -> None:
        """Put the class back as it was."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def _wrap(self, name: str) -> None:
        original = getattr(self._module_class, name)
        part, note = self._part, self._note

        def noting(module: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(module, *args, **kwargs)
            if part.enabled:
                try:
                    note(module)
                except Exception as error:
                    part.trip(error)
            return result

        noting.__name__ = name
        noting.__wrapped__ = original  # type: ignore[attr-defined]
        setattr(self._module_class, name, noting)
        self._undo.append(lambda: setattr(self._module_class, name, original))

    def _note(self, module: Any) -> None:
        if len(self._new) < MODULES_MAX:
            self._new[id(module)] = ref(module)
            if not self.dirty:
                self.dirty = True
                self._on_new()

    def new_roots(self) -> list[Any]:
        """Roots among the modules noted since the last look."""
        self.dirty = False
        noted, self._new = self._new, {}
        # A copy: a thread that builds a model may be adding to the old table yet.
        modules = [m for reference in list(noted.values()) if (m := reference()) is not None]
        children = {id(child) for module in modules for child in _children(module)}
        roots = [module for module in modules if id(module) not in children]
        for root in roots:
            self._known[id(root)] = ref(root)
        # Transforms, losses and loose activations are modules too; what has no weights is
        # a model only where nothing else is.
        models = [root for root in self.known_roots() if _has_weights(root)]
        return [root for root in roots if _has_weights(root)] if models else roots

    def known_roots(self) -> list[Any]:
        """Every living root found so far."""
        # `is not None`: an empty container module is false.
        living = [m for reference in list(self._known.values()) if (m := reference()) is not None]
        self._known = {id(module): ref(module) for module in living}
        return living


def _has_weights(module: Any) -> bool:
    if next(iter(module.parameters()), None) is not None:
        return True
    # Quantized layers pack theirs.
    return any("_packed_params" in child.__dict__ for child in module.modules())


def _children(module: Any) -> Iterator[Any]:
    """Direct children; scripted modules keep theirs elsewhere and are asked politely."""
    own = module.__dict__.get("_modules")
    if isinstance(own, dict):
        yield from (child for child in own.values() if child is not None)
    else:
        yield from module.children()


def descendants(module: Any, level: int) -> list[Any]:
    """The modules exactly `level` steps below."""
    generation = [module]
    for _ in range(level):
        generation = [child for parent in generation for child in _children(parent)]
    return generation
