"""Run something right after a module has been imported, whenever that is.

A meta-path finder that lets the real finders do the work and adds one step. Written
without `importlib.abc` and `importlib.util`: importing those costs 22 ms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

AfterImport = Callable[[ModuleType], None]


class AfterImportFinder:
    """Calls `hooks[name](module)` once that module is there."""

    def __init__(self, hooks: dict[str, AfterImport]) -> None:
        self._pending = dict(hooks)

    def install(self) -> None:
        """Serve modules that are already imported at once, the others on import."""
        for name in list(self._pending):
            if name in sys.modules:
                self._pending.pop(name)(sys.modules[name])
        if self._pending:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Stop waiting."""
        self._pending.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The real finders' spec, its loader wrapped when we wait for this module."""
        hook = self._pending.pop(name, None)
        if hook is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _AfterImportLoader(spec.loader, hook)
                return spec
        return None


class _AfterImportLoader:
    """The module's own loader, with one step after `exec_module`."""

    def __init__(self, loader: Any, hook: AfterImport) -> None:
        self._loader = loader
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        """As the real loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, give it its real loader back, then run the hook."""
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._hook(module)
