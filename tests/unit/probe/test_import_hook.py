from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pinchpoint.probe.import_hook import AfterImportFinder
from tests.support.scripts import run

NAME = "pinchpoint_test_module"


@pytest.fixture
def module_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that nothing has imported yet."""
    path = tmp_path / f"{NAME}.py"
    path.write_text("server = 'server'\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop(NAME, None)


class Hook:
    def __init__(self) -> None:
        self.calls: list[tuple[ModuleType, bool]] = []

    def __call__(self, module: ModuleType, late: bool) -> None:
        self.calls.append((module, late))


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
def finder(hook: Hook) -> Iterator[AfterImportFinder]:
    finder = AfterImportFinder({NAME: hook})
    finder.install()
    yield finder
    finder.uninstall()


def test_a_module_imported_later_is_hooked_once(
    module_file: Path, finder: AfterImportFinder, hook: Hook
) -> None:
    """After its own code has run, with the finished module."""
    module = importlib.import_module(NAME)
    importlib.import_module(NAME)
    assert hook.calls == [(module, False)]
    assert module.server == "server"


def test_a_module_that_is_there_already_is_hooked_at_once(module_file: Path, hook: Hook) -> None:
    """`install()` after the server's imports."""
    module = importlib.import_module(NAME)
    finder = AfterImportFinder({NAME: hook})
    finder.install()
    assert hook.calls == [(module, True)]
    assert finder not in sys.meta_path


def test_the_module_has_its_own_loader_afterwards(
    module_file: Path, finder: AfterImportFinder
) -> None:
    """Tools that look at a module's loader find the one they know."""
    module: Any = importlib.import_module(NAME)
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__.loader is module.__loader__


def test_names_imported_from_the_module_are_there(
    module_file: Path, finder: AfterImportFinder, hook: Hook
) -> None:
    """`from module import name` is an import like any other."""
    namespace: dict[str, Any] = {}
    exec(f"from {NAME} import server", namespace)
    assert namespace["server"] == "server"
    assert len(hook.calls) == 1


def test_asking_whether_the_module_exists_does_not_use_up_the_hook(
    module_file: Path, finder: AfterImportFinder, hook: Hook
) -> None:
    """Libraries look for torch with find_spec() long before anything imports it."""
    assert importlib.util.find_spec(NAME) is not None
    assert hook.calls == []
    importlib.import_module(NAME)
    assert len(hook.calls) == 1


def test_a_failed_import_does_not_use_up_the_hook(
    module_file: Path, finder: AfterImportFinder, hook: Hook
) -> None:
    """The server may try again, and the error is the module's own."""
    module_file.write_text("raise ValueError('half')\n", "utf-8")
    with pytest.raises(ValueError, match="half"):
        importlib.import_module(NAME)
    assert hook.calls == []
    module_file.write_text("server = 'at last'\n", "utf-8")
    importlib.invalidate_caches()
    module = importlib.import_module(NAME)
    assert [called for called, _ in hook.calls] == [module]


def test_a_missing_module_stays_missing(finder: AfterImportFinder, hook: Hook) -> None:
    """With the error that Python gives."""
    with pytest.raises(ModuleNotFoundError, match=NAME):
        importlib.import_module(NAME)
    assert hook.calls == []


@pytest.mark.parametrize("late", [True, False])
def test_a_hook_that_raises_does_not_break_the_import(module_file: Path, late: bool) -> None:
    """Whatever is wrong with us, the server has its module."""

    def failing(_module: ModuleType, _late: bool) -> None:
        raise RuntimeError("ours")

    finder = AfterImportFinder({NAME: failing})
    if late:
        importlib.import_module(NAME)
    finder.install()
    try:
        assert importlib.import_module(NAME).server == "server"
    finally:
        finder.uninstall()


def test_a_module_that_was_blocked_is_not_hooked(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sys.modules[name] = None` is how an import is forbidden."""
    monkeypatch.setitem(sys.modules, NAME, None)
    finder = AfterImportFinder({NAME: hook})
    finder.install()
    finder.uninstall()
    assert hook.calls == []


def test_after_uninstall_nothing_waits(module_file: Path, hook: Hook) -> None:
    """The import system is as it was."""
    before = list(sys.meta_path)
    finder = AfterImportFinder({NAME: hook})
    finder.install()
    finder.uninstall()
    finder.uninstall()
    importlib.import_module(NAME)
    assert hook.calls == []
    assert sys.meta_path == before


def test_grpc_imported_by_name_after_install_is_watched(ring_dir: Path) -> None:
    """`from grpc import server` gets the patched class, because the class is what is patched."""
    done = run(
        """
        import pinchpoint
        assert pinchpoint.install()
        from concurrent.futures import ThreadPoolExecutor
        from grpc import server
        made = server(ThreadPoolExecutor(1))
        print(type(made._state.thread_pool).__name__)
        """,
        ring_dir,
    )
    assert done.stdout.split() == ["PoolProxy"], done.stderr


def test_installing_imports_neither_grpc_nor_torch(ring_dir: Path) -> None:
    """A process that serves nothing pays for nothing, and has no ring."""
    done = run(
        """
        import sys
        import pinchpoint
        assert pinchpoint.install()
        print(sorted({"grpc", "torch", "importlib.util", "psutil"} & set(sys.modules)))
        """,
        ring_dir,
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert list(ring_dir.iterdir()) == []
