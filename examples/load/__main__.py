"""``python -m examples.load``: send a Poisson stream of images and report what came back."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from examples.open_inference import GeneratedCodeMissing

if TYPE_CHECKING:
    from examples.load.client import LoadClient

_IMAGES = 8


async def _run(options: argparse.Namespace) -> int:
    from examples.load.client import CannotConnect, LoadClient
    from examples.load.images import make_images
    from examples.load.schedule import poisson_schedule

    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    client = LoadClient(
        options.target,
        make_images(_IMAGES, options.seed),
        options.timeout_s,
        options.max_in_flight,
    )
    ticker = asyncio.create_task(_print_seconds(client)) if options.each_second else None
    try:
        elapsed_s = await client.run(
            poisson_schedule(options.rate, options.seconds, options.seed), stop
        )
    except CannotConnect as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if ticker is not None:
            ticker.cancel()
    summary = json.dumps(client.report.summary(elapsed_s))
    if options.report_file is not None:
        Path(options.report_file).write_text(summary + "\n")
    print(summary, flush=True)
    return 0


async def _print_seconds(client: LoadClient) -> None:
    start_s = time.monotonic()
    while True:
        await asyncio.sleep(1.0)
        print(json.dumps(client.report.take_second(time.monotonic() - start_s)), flush=True)


def main() -> int:
    """Run the client and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.load")
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument(
        "--rate", type=float, default=40.0, help="requests per second (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of schedule and images (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout-s", type=float, default=20.0, help="deadline of a request (default: %(default)s)"
    )
    parser.add_argument(
        "--max-in-flight",
        type=int,
        default=256,
        help="requests under way at most; more are dropped and counted (default: %(default)s)",
    )
    parser.add_argument(
        "--each-second", action="store_true", help="print a JSON line each second as well"
    )
    parser.add_argument("--report-file", metavar="PATH", help="also write the summary here")
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GeneratedCodeMissing as missing:
        sys.exit(str(missing))
