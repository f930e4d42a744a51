"""Starts processes and stands between them and the signals that are meant for them.

All signals that are passed on are blocked and taken one by one (`sigwaitinfo`): nothing is lost
between a process' start and the wait for it, and every signal says where it comes from. What the
terminal sends has reached the whole foreground group already.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PASSED_ON = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Those that end a process which does nothing about them, and are sent to mean that."""

_SIGNALS = PASSED_ON | {signal.SIGCHLD}
_FROM_KERNEL = 0x80
"""SI_KERNEL: of these signals, what the terminal sends on a key or when it goes away."""

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Children:
    """The children of this process. Makes and waits for all of them: there is one of these."""

    def __init__(self) -> None:
        # An inherited SIG_IGN would make the kernel throw exit codes away.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._ended: dict[int, int] = {}

    def spawn(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        file_actions: Sequence[tuple[Any, ...]] = (),
        *,
        own_session: bool = False,
    ) -> int:
        """Start a program, found on PATH, with our descriptors and the signals as we got them.

        Returns:
            Its process id.

        Raises:
            OSError: it cannot be started.
        """
        return os.posix_spawnp(
            arguments[0],
            list(arguments),
            environment,
            file_actions=file_actions,
            setsid=own_session,
            setsigmask=self._mask,
            setsigdef=_IGNORED_BY_PYTHON,
        )

    def wait(self, child: int, on_other: Callable[[int, int], None]) -> int:
        """Wait for the child's end, passing signals on.

        Args:
            child: its process id.
            on_other: told id and exit code of every other child that ends.

        Returns:
            The exit code; -N if signal N ended it.
        """
        while True:
            for ended, code in self._reap():
                if ended != child:
                    on_other(ended, code)
            if child in self._ended:
                return self._ended[child]
            info = signal.sigwaitinfo(_SIGNALS)
            if info.si_signo != signal.SIGCHLD and _is_for(child, info):
                os.kill(child, info.si_signo)

    def wait_until(self, child: int, deadline: float) -> int | None:
        """The child's exit code, or None if it still runs at `deadline` (time.monotonic)."""
        while child not in self._ended:
            self._reap()
            remaining = deadline - time.monotonic()
            if child in self._ended or remaining <= 0:
                break
            signal.sigtimedwait({signal.SIGCHLD}, remaining)
        return self._ended.get(child)

    def kill(self, child: int) -> None:
        """End a child that did not end by itself."""
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        self._ended[child] = os.waitstatus_to_exitcode(status)

    def _reap(self) -> list[tuple[int, int]]:
        """Every child that has ended; as init of a container, orphans too."""
        ended = []
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if child == 0:
                break
            ended.append((child, os.waitstatus_to_exitcode(status)))
        self._ended.update(ended)
        return ended


def ending_signal() -> int | None:
    """A signal that asks us to end and has not been taken yet."""
    pending = signal.sigpending() & ENDING
    return min(pending) if pending else None


def shell_code(code: int) -> int:
    """An exit code as a shell says it: 128 + N for signal N."""
    return 128 - code if code < 0 else code


def _is_for(child: int, info: signal.struct_siginfo) -> bool:
    """Whether the child has not got this signal already."""
    if info.si_code != _FROM_KERNEL or os.getpgid(child) != os.getpgrp():
        return True
    # A terminal that goes away tells the leader of its session alone.
    return info.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()
