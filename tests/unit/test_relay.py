"""The relay: the first commit is sent at once, those that follow while it pauses together, and nothing is left."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from polyshare import bootstrap
from polyshare.bootstrap import Relay, pace
from polyshare.catalogue import outbox

PATIENCE = 20.0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


class Sent:
    """In place of the outbox: counts what is due, and how it was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due, self.looks, self.rounds = 0, 0, list[int]()
        self.changed = threading.Condition()
        self.fails = 0
        monkeypatch.setattr(outbox, "deliver", self._deliver)

    def commit(self, relay: Relay) -> None:
        with self.changed:
            self.due += 1
        relay.wake()

    def until(self, count: int) -> None:
        """So many were sent, and it was seen that there are no more."""
        with self.changed:
            done = self.changed.wait_for(lambda: sum(self.rounds) >= count and self.looks > len(self.rounds), PATIENCE)
            assert done, self.rounds

    def _deliver(self, ports: object) -> int:
        with self.changed:
            if self.fails:
                self.fails -= 1
                self.changed.notify_all()
                raise RuntimeError("the database went away")
            taken, self.due = self.due, 0
            self.looks += 1
            if taken:
                self.rounds.append(taken)
            self.changed.notify_all()
            return taken


def relay() -> Relay:
    made = Relay()
    made.ports = object()  # type: ignore[assignment]
    return made


def test_what_follows_the_first_commit_is_sent_together(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []

    def slowly(came: int) -> float:
        pauses.append(came)
        return PATIENCE

    monkeypatch.setattr(bootstrap, "pace", slowly)
    ours = relay()
    sent.commit(ours)
    sent.until(1)
    for _ in range(50):
        sent.commit(ours)
    ours.close()  # which waits for no pause
    assert sent.rounds == [1, 50]
    assert 1 in pauses, "it goes by how many came"


def test_rounds_that_fail_end_no_thread(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "pace", lambda came: 0.0)
    ours = relay()
    for _ in range(Relay._THREADS + 1):  # more than there are threads to lose
        sent.fails = 1
        sent.commit(ours)
        with sent.changed:
            assert sent.changed.wait_for(lambda: not sent.fails, PATIENCE)
    sent.commit(ours)
    sent.until(Relay._THREADS + 2)
    ours.close()


def test_more_at_once_are_taken_the_more_come() -> None:
    paces: list[Any] = [pace(came) for came in (0, 1, 20, 1000, 10**6)]
    assert paces == sorted(paces)
    assert paces[0] > 0
    assert paces[-1] <= 1, "an asset is anchored within 3 seconds, its record after those before it"
