from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.thirdparty import environment
from tests.thirdparty.observed import Observed, observed


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Observed]:
    """An agent that watches what is served; needs the servers that are not ours."""
    environment.needed()
    with observed(tmp_path) as watching:
        yield watching
