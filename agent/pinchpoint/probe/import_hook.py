"""Run something right after a module has been imported, whenever that is.

A meta-path finder that lets the real finders do the work and adds one step. Written
without `importlib.abc` and `importlib.util`: importing those costs 22 ms.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing `typing` takes eight milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    AfterImport = Callable[[ModuleType, bool], None]
    """Takes the module, and whether it had been imported before we came."""


class AfterImportFinder:
    """Calls `hooks[name](module, late)` once that module is there."""

    def __init__(self, hooks: dict[str, AfterImport]) -> None:
        self._pending = dict(hooks)

    def install(self) -> None:
        """Serve modules that are already imported at once, the others on import."""
        for name in list(self._pending):
            module = sys.modules.get(name)
            if module is not None:
                self._run(name, module, late=True)
        if self._pending:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Stop waiting."""
        self._pending.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The real finders' spec, its loader wrapped when we wait for this module."""
        # Still pending after this: whoever asks may only want to know whether it is there.
        if name not in self._pending:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _AfterImportLoader(spec.loader, name, self._run)
                return spec
        return None

    def _run(self, name: str, module: ModuleType, *, late: bool = False) -> None:
        hook = self._pending.pop(name, None)
        if hook is None:
            return
        try:
            hook(module, late)
        except Exception:
            # The import is the server's. Hooks count their own errors.
            return


class _AfterImportLoader:
    """The module's own loader, with one step after `exec_module`."""

    def __init__(
        self, loader: Any, name: str, after_import: Callable[[str, ModuleType], None]
    ) -> None:
        self._loader = loader
        self._name = name
        self._after_import = after_import

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
        self._after_import(self._name, module)
