"""Reading the configuration again while the agent runs.

A signal or an HTTP thread only asks; the loop does it between two looks, so nothing changes under
a look. What cannot change at run time waits for the next start, and a file with mistakes changes
nothing: the agent never ends because of a reload.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotAnsweredError
from queue import Empty, SimpleQueue

from pinchpoint.config.load import Loaded
from pinchpoint.config.model import SETTINGS, Config
from pinchpoint.config.setting import value_of, with_values
from pinchpoint.errors import ConfigError

ANSWER_SECONDS_MAX = 10.0
"""How long an HTTP client waits for the loop, which looks four times a second."""

Outcome = str | None
"""None when it went well, else the reason, one line for each mistake."""


class Reloads:
    """Requests to reload, and how the last one went.

    Args:
        config: what the agent was started with.
        read: reads all sources again, raises ConfigError; None if there is no file.
        say: takes one line for the operator.
    """

    def __init__(
        self, config: Config, read: Callable[[], Loaded] | None, say: Callable[[str], None]
    ) -> None:
        self.successful = True
        self.success_wall_seconds = time.time()
        self._config = config
        self._read = read
        self._say = say
        self._asked: SimpleQueue[Future[Outcome]] = SimpleQueue()

    def ask(self) -> Future[Outcome]:
        """Ask for a reload; from any thread, or a signal handler."""
        answer: Future[Outcome] = Future()
        self._asked.put(answer)
        return answer

    def ask_and_wait(self) -> Outcome:
        """Ask for a reload and wait for its outcome, up to a limit."""
        try:
            return self.ask().result(ANSWER_SECONDS_MAX)
        except NotAnsweredError:
            return (
                f"not reloaded within {ANSWER_SECONDS_MAX:.0f} s, it will be: "
                "pinchpoint_config_last_reload_successful tells how it went"
            )

    def run(self, apply: Callable[[Config], None]) -> None:
        """Reload if that was asked for, once for all who have asked.

        Args:
            apply: takes a configuration in which only what may change at run time has changed.
        """
        waiting = list(self._taken())
        if waiting:
            outcome = self._reload(apply)
            for answer in waiting:
                answer.set_result(outcome)

    def close(self) -> None:
        """Nobody waits for a loop that has ended."""
        for answer in self._taken():
            answer.set_result("the agent is stopping")

    def _taken(self) -> Iterator[Future[Outcome]]:
        while True:
            try:
                yield self._asked.get_nowait()
            except Empty:
                return

    def _reload(self, apply: Callable[[Config], None]) -> Outcome:
        if self._read is None:
            reason = "nothing to reload: the agent was started without --config.file"
            self._say(reason)
            return reason
        try:
            wanted = self._read().config
            changes = {key: value_of(wanted, key) for key in _differing(self._config, wanted)}
            config = with_values(self._config, changes)
            apply(config)
        except ConfigError as error:
            return self._failed(str(error))
        except Exception as error:
            return self._failed(f"{type(error).__name__}: {error}; please report this")
        self._say(_told(self._config, wanted))
        self._config = config
        self.successful = True
        self.success_wall_seconds = time.time()
        return None

    def _failed(self, reason: str) -> str:
        self.successful = False
        self._say("the configuration is not reloaded, what held before holds on:")
        for line in reason.splitlines():
            self._say(line)
        return reason


def _differing(config: Config, wanted: Config, *, reloadable: bool = True) -> list[str]:
    """The keys whose values differ, of those that a reload applies or of those it does not."""
    return [
        setting.key
        for setting in SETTINGS
        if setting.reloadable is reloadable
        and value_of(config, setting.key) != value_of(wanted, setting.key)
    ]


def _told(config: Config, wanted: Config) -> str:
    changed = ", ".join(_differing(config, wanted)) or "nothing has changed"
    waiting = _differing(config, wanted, reloadable=False)
    rest = f"; {', '.join(waiting)}: in force after a restart" if waiting else ""
    return f"the configuration is reloaded: {changed}{rest}"
