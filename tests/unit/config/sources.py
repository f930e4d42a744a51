"""Configurations from texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pinchpoint.config.load import Loaded, load
from pinchpoint.errors import ConfigError


class Sources:
    """A file in a directory of its own, variables and flags."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "pinchpoint.yaml"

    def load(
        self,
        text: str | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> Loaded:
        """What they make."""
        if text is not None:
            self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        file = None if text is None else self.path
        return load(file, environment or {}, flags or {})

    def mistakes(
        self,
        text: str | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> list[str]:
        """What is wrong with them; the file is called F."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, environment, flags)
        assert caught.value.exit_code == 6
        return str(caught.value).replace(str(self.path), "F").splitlines()
