"""``python -m examples.image_classifier``: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from examples.open_inference import GeneratedCodeMissing

_STOP_GRACE_S = 5.0


def main() -> int:
    """Run the server and return its exit status."""
    options = _parse_options()
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda _number, _frame: stop.set())

    from examples.image_classifier.control import ControlSocket
    from examples.image_classifier.features import UserFeatures
    from examples.image_classifier.model import build_model
    from examples.image_classifier.preprocess import Preprocessor
    from examples.image_classifier.service import ClassifierService
    from examples.image_classifier.serving import CannotListen, Serving
    from examples.image_classifier.switches import switches
    from examples.open_inference.service import service_handler

    model = build_model(options.seed)
    preprocess = Preprocessor()
    features = UserFeatures(options.dependency)
    handler = service_handler(ClassifierService(model, preprocess, features))
    try:
        serving = Serving(handler, options.listen, options.workers)
    except CannotListen as error:
        print(error, file=sys.stderr)
        return 1
    control = None
    if options.control is not None:
        control = ControlSocket(
            options.control, switches(model, preprocess, serving, options.workers)
        )
    print(f"listening on {serving.address}", flush=True)
    stop.wait()
    if control is not None:
        control.close()
    serving.stop(_STOP_GRACE_S)
    features.close()
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.image_classifier")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8001",
        metavar="ADDRESS",
        help="HOST:PORT; port 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=8, help="threads that serve (default: %(default)s)"
    )
    parser.add_argument(
        "--dependency",
        metavar="ADDRESS",
        help="HOST:PORT of a feature store; without it the look-up is skipped",
    )
    parser.add_argument(
        "--control", metavar="PATH", help="unix socket on which faults can be switched"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the model's weights (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GeneratedCodeMissing as missing:
        sys.exit(str(missing))
