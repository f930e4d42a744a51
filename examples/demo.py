"""The demo: ``python -m examples.demo``. A healthy service, a fault, the label, healthy again.

Exit status: 0 when every fault got its label in time and the service became healthy again, 1 when
not, 130 after Ctrl-C, 143 after SIGTERM. Nothing is left behind in any case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from examples.faults import FAULTS, Fault
from examples.interruption import Interrupted, Interruption
from examples.plain import PlainView
from examples.results import Results
from examples.rig import PartFailed, Rig
from examples.scenario import Scenario, View
from examples.screen import ScreenView
from examples.summary import print_summary

_RATE_PER_S = 40.0
_DEFAULT_FAULTS = ("cpu-quota", "slow-preprocess")
_SUBSTITUTES = ("gil", "hot-layer")
_PRESSURE = Path("/proc/pressure/cpu")


def main() -> int:
    """Run the demo and return its exit status."""
    options = _parse_options()
    interruption = Interruption()
    results = Results()
    console = Console(highlight=False)
    faults = [] if options.no_fault else _choose_faults(options.fault, results)
    if not options.no_fault and not faults:
        results.failures.append("none of the faults can be injected on this machine")
        print_summary(console, results)
        return 1
    if not _PRESSURE.exists():
        results.notes.append(
            "this machine has no pressure stall information (/proc/pressure); "
            "Pinchpoint does without it"
        )
    plain = options.plain or not console.is_terminal
    for note in results.notes:
        console.print(f"Note: {note}", markup=False)
    exit_status = 0
    try:
        with Rig(interruption, _RATE_PER_S) as rig:
            print("Starting feature store, server, agent and load.", flush=True)
            rig.start()
            with contextlib.ExitStack() as screen:
                view: View = PlainView()
                if not plain:
                    title = f"demo: image classifier, {_RATE_PER_S:.0f} requests/s"
                    view = screen.enter_context(ScreenView(console, title))
                scenario = Scenario(rig, view, results)
                for note in results.notes:
                    scenario.say("info", note)
                if options.no_fault:
                    scenario.run_without_fault(options.seconds)
                else:
                    scenario.run_faults(faults)
            results.client = rig.stop_load()
    except Interrupted as interrupted:
        exit_status = interrupted.exit_status
        results.failures.append("interrupted")
    except (PartFailed, OSError) as error:
        results.failures.append(str(error))
    print_summary(console, results)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(results.as_document(), indent=2) + "\n")
    return exit_status or (0 if results.passed else 1)


def _choose_faults(wanted: Sequence[str] | None, results: Results) -> list[Fault]:
    """Return the faults to inject.

    What the machine cannot do is noted; of the default faults it is replaced as well.
    """
    by_name = {fault.name: fault for fault in FAULTS}
    substitutes = [] if wanted else list(_SUBSTITUTES)
    chosen = []
    for name in wanted or _DEFAULT_FAULTS:
        fault = by_name[name]
        lacking = fault.available()
        while lacking is not None:
            note = f"{fault.name} is not possible: {lacking}"
            if not substitutes:
                results.notes.append(note)
                break
            fault = by_name[substitutes.pop(0)]
            results.notes.append(f"{note}; {fault.name} instead")
            lacking = fault.available()
        else:
            chosen.append(fault)
    return chosen


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Break a running inference server on purpose and see it diagnosed.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--fault",
        action="append",
        nargs="+",
        choices=[fault.name for fault in FAULTS],
        metavar="NAME",
        help=f"faults to inject, in order (default: {' then '.join(_DEFAULT_FAULTS)}); one of "
        + ", ".join(fault.name for fault in FAULTS),
    )
    what.add_argument("--no-fault", action="store_true", help="only watch a healthy server")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long with --no-fault (default: 60)"
    )
    parser.add_argument(
        "--plain", action="store_true", help="plain lines, as when the output is no terminal"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results here as well")
    options = parser.parse_args()
    if options.fault is not None:
        options.fault = [name for names in options.fault for name in names]
    return options


if __name__ == "__main__":
    sys.exit(main())
