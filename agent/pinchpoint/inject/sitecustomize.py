"""Starts the probe in a Python process that has this directory on its PYTHONPATH.

Python imports `sitecustomize` at start-up, the first one on its path. This one starts the
probe and then steps aside for the one that it hides, if there is one. Whatever goes wrong here
must not reach the server: it runs on without the probe. No import but `os` and `sys`, which
every interpreter has loaded by then.
"""

import os
import sys


def _start_probe(inject: str) -> None:
    """Import Pinchpoint from beside this directory unless the server has its own.

    The path is extended for that one import only: a package knows where its modules are, and
    nothing else that lies there may become importable for the server.
    """
    beside = os.path.dirname(os.path.dirname(inject))
    added = beside not in sys.path
    if added:
        sys.path.append(beside)
    try:
        import pinchpoint
    finally:
        if added:
            sys.path.remove(beside)
    pinchpoint.install()


def _run_hidden(inject: str) -> None:
    """Import the `sitecustomize` that would have been imported without this directory."""
    hidden = [(i, entry) for i, entry in enumerate(sys.path) if _is_ours(entry, inject)]
    ours = sys.modules.pop(__name__, None)
    sys.path[:] = [entry for entry in sys.path if not _is_ours(entry, inject)]
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        # None there: the usual case. Anything else is its own failure, which Python reports.
        if getattr(error, "name", None) != "sitecustomize":
            raise
        if ours is not None:
            sys.modules[__name__] = ours
    finally:
        # What it did to the path stays; ours goes back, for those who hand their path on.
        for place, entry in hidden:
            sys.path.insert(place, entry)


def _is_ours(entry: str, inject: str) -> bool:
    return os.path.abspath(entry) == inject


def _main() -> None:
    inject = os.path.dirname(os.path.abspath(__file__))
    if os.environ.get("PINCHPOINT_DISABLE", "") in ("", "0"):
        try:
            _start_probe(inject)
        except Exception as error:
            sys.stderr.write(
                f"pinchpoint: the probe is off, the server runs on without it "
                f"({type(error).__name__}: {error}); it needs Python 3.10 or newer\n"
            )
    _run_hidden(inject)


_main()
