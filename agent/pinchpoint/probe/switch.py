"""The kill switch: a file that an operator makes in the ring directory.

`disable` switches off the probe of every process whose ring is there, `disable-PID` that of
one, by the process id that begins its ring's name. Gone, the probe goes on. Its content and
its owner do not matter: who may write to the directory may switch the probe off.
"""

from __future__ import annotations

import os
from pathlib import Path

FILE = "disable"


class Switch:
    """Whether the probe of this process is switched off by a file.

    Args:
        directory: where the ring is.
        process_id: of this process, as it sees itself.
    """

    def __init__(self, directory: Path, process_id: int) -> None:
        self._files = (str(directory / FILE), str(directory / f"{FILE}-{process_id}"))

    def is_off(self) -> bool:
        """Look now. A directory that is gone has no such file."""
        return any(map(os.path.lexists, self._files))
