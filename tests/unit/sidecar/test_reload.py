"""Reloads are asked for anywhere, happen in the loop, and never end it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pinchpoint.adapters.target import AdapterTarget
from pinchpoint.config.load import Loaded, load
from pinchpoint.config.model import Config
from pinchpoint.sidecar.reload import Reloads
from tests.support.waiting import LIMIT_SECONDS, until

SERVER = "adapters: [{kind: vllm, url: http://127.0.0.1:8000/metrics}]\n"
TARGET = AdapterTarget("vllm", "http://127.0.0.1:8000/metrics")


class Agent:
    """What an agent does about its configuration, without the rest."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.said: list[str] = []
        self.applied: list[Config] = []
        self.reads = 0
        self.reloads = Reloads(
            self.read().config if path else Config(), self.read if path else None, self.said.append
        )

    def read(self) -> Loaded:
        """As the agent reads its configuration."""
        self.reads += 1
        return load(self.path, {"PINCHPOINT_LIMITS_MODELS": "7"}, {})

    def reload(self, text: str) -> str | None:
        """Write the file, ask, and let the loop run: the outcome."""
        assert self.path is not None
        self.path.write_text(text)
        answer = self.reloads.ask()
        self.look()
        return answer.result(0)

    def look(self) -> None:
        """A turn of the loop."""
        self.reloads.run(self.applied.append)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """Started with an empty file."""
    path = tmp_path / "pinchpoint.yaml"
    path.write_text("")
    return Agent(path)


def test_what_may_change_is_applied_and_said(agent: Agent) -> None:
    before = agent.reloads.success_wall_seconds
    assert agent.reload(SERVER) is None
    (config,) = agent.applied
    assert config.adapters == (TARGET,)
    assert config.limits.models == 7
    assert agent.said == ["the configuration is reloaded: adapters"]
    assert agent.reloads.successful
    assert agent.reloads.success_wall_seconds != before


def test_what_may_not_change_waits_and_is_said_until_a_restart(agent: Agent) -> None:
    text = SERVER + "limits: {methods: 3}\nweb: {listen_address: ':1'}\n"
    waits = "; web.listen_address, limits.methods: in force after a restart"
    assert agent.reload(text) is None
    assert agent.reload(text) is None
    assert agent.said == [
        f"the configuration is reloaded: adapters{waits}",
        f"the configuration is reloaded: nothing has changed{waits}",
    ]
    for config in agent.applied:
        assert config.limits == Config().limits.__class__(models=7)
        assert config.web == Config().web
    assert agent.reloads.successful


def test_a_file_with_mistakes_changes_nothing(agent: Agent) -> None:
    assert agent.reload(SERVER) is None
    success = agent.reloads.success_wall_seconds
    reason = agent.reload("adapters: []\nlimits: {methods: many, modles: 3}\n")
    assert reason is not None
    mistakes = reason.splitlines()
    assert len(mistakes) == 2
    assert agent.said[1:] == [
        "the configuration is not reloaded, what held before holds on:",
        *mistakes,
    ]
    assert len(agent.applied) == 1
    assert not agent.reloads.successful
    assert agent.reloads.success_wall_seconds == success


def test_a_mended_file_is_reloaded(agent: Agent) -> None:
    assert agent.reload("adapters: 3") is not None
    assert agent.reload(SERVER) is None
    assert agent.reloads.successful
    assert [config.adapters for config in agent.applied] == [(TARGET,)]


def test_a_file_that_is_gone_changes_nothing(agent: Agent) -> None:
    assert agent.path is not None
    agent.path.unlink()
    answer = agent.reloads.ask()
    agent.look()
    assert "cannot be read" in str(answer.result(0))
    assert agent.applied == []


def test_what_cannot_be_applied_is_told_and_tried_again(agent: Agent) -> None:
    def refuse(_config: Config) -> None:
        raise RuntimeError("no more threads")

    assert agent.path is not None
    agent.path.write_text(SERVER)
    answer = agent.reloads.ask()
    agent.reloads.run(refuse)
    assert answer.result(0) == "RuntimeError: no more threads; please report this"
    assert not agent.reloads.successful
    assert agent.reload(SERVER) is None
    assert agent.said[-1] == "the configuration is reloaded: adapters"


def test_nothing_is_read_unless_it_was_asked_for(agent: Agent) -> None:
    agent.look()
    assert agent.reads == 1
    assert agent.said == []


def test_all_who_ask_between_two_looks_get_one_reload(agent: Agent) -> None:
    answers = [agent.reloads.ask() for _ in range(5)]
    agent.look()
    assert [answer.result(0) for answer in answers] == [None] * 5
    assert agent.reads == 2


def test_without_a_file_there_is_nothing_to_reload() -> None:
    agent = Agent(None)
    success = agent.reloads.success_wall_seconds
    answer = agent.reloads.ask()
    agent.look()
    reason = "nothing to reload: the agent was started without --config.file"
    assert answer.result(0) == reason
    assert agent.said == [reason]
    assert agent.applied == []
    assert agent.reloads.success_wall_seconds == success


def waiting(reloads: Reloads) -> tuple[threading.Thread, list[str | None]]:
    """A thread that asks and waits, and where its outcome goes."""
    outcomes: list[str | None] = []
    thread = threading.Thread(target=lambda: outcomes.append(reloads.ask_and_wait()))
    thread.start()
    return thread, outcomes


@pytest.mark.parametrize(
    ("turn", "outcome"),
    [(Agent.look, None), (lambda agent: agent.reloads.close(), "the agent is stopping")],
    ids=["reloaded", "stopping"],
)
def test_a_thread_waits_for_the_loop(
    agent: Agent, turn: Callable[[Agent], None], outcome: str | None
) -> None:
    thread, outcomes = waiting(agent.reloads)

    def answered() -> bool:
        turn(agent)
        return bool(outcomes)

    assert until(answered)
    thread.join(LIMIT_SECONDS)
    assert outcomes == [outcome]


def test_a_loop_that_does_not_answer_is_not_waited_for(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinchpoint.sidecar.reload.ANSWER_SECONDS_MAX", 0.0)
    assert "not reloaded within 0 s, it will be" in str(agent.reloads.ask_and_wait())
    agent.look()
    assert agent.reads == 2
