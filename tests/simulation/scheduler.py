"""Tasks that take turns: one runs at a time, and whose turn it is next is drawn by a seeded generator.

A task is a greenlet, so that product code runs in it as it is; it gives up its turn only inside `pause`, `sleep` and
`wait`, which the faulty ports call. So the same seed gives the same history, whatever the machine does.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

from tests.world import ManualClock


class Crash(BaseException):
    """Unwinds a task of a process that died. Not an Exception: no product code may live on after it."""


class Life:
    """One run of a process, from its start to its crash."""

    def __init__(self, name: str) -> None:
        self.name, self.dead = name, False


class Task:
    """What runs in turn. `life` is the process it belongs to, None for the world outside."""

    def __init__(self, name: str, life: Life | None, work: Callable[[], Any]) -> None:
        self.name, self.life = name, life
        self.work = work
        self.thread: greenlet | None = None
        self.wake = 0.0
        self.condition: Callable[[], bool] | None = None
        self.doomed = self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    @property
    def is_dying(self) -> bool:
        return self.doomed or (self.life is not None and self.life.dead)

    def is_ready(self, now: float) -> bool:
        return self.wake <= now or self.is_dying or (self.condition is not None and self.condition())

    def perform(self) -> None:
        try:
            if self.is_dying:
                raise Crash
            self.value = self.work()
        except BaseException as error:
            self.error = error.with_traceback(None) if isinstance(error, Crash) else error
        self.done = True


class Scheduler:
    """Runs tasks in turn on a clock of its own."""

    def __init__(self, random: Random, clock: ManualClock) -> None:
        self._random, self._clock = random, clock
        self._tasks: list[Task] = []
        self._current: Task | None = None
        self._hub = getcurrent()
        self.turns = 0

    @property
    def current(self) -> Task:
        assert self._current is not None
        return self._current

    def spawn(self, name: str, work: Callable[[], Any], life: Life | None = None) -> Task:
        task = Task(name, life, work)
        self._tasks.append(task)
        return task

    def run(self, until: Callable[[], bool]) -> None:
        """Let the tasks take turns until the condition holds."""
        while not until():
            task = self._next()
            self._current = task
            if task.thread is None:
                task.thread = greenlet(task.perform, self._hub)
            task.thread.switch()
            self._current = None
            if task.done:
                self._tasks.remove(task)

    def stop(self) -> None:
        """Unwind all tasks that are left."""
        for task in self._tasks:
            task.doomed = True
        self.run(lambda: not self._tasks)

    def pause(self) -> None:
        """Let others have a turn."""
        self.sleep(0.0)

    def sleep(self, seconds: float) -> None:
        self._wait(seconds, None)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Until the condition holds, at most so long; whether it does."""
        if not condition():
            self._wait(seconds, condition)
        return condition()

    def _wait(self, seconds: float, condition: Callable[[], bool] | None) -> None:
        task = self.current
        task.wake, task.condition = self._clock.time + seconds, condition
        self._hub.switch()
        if task.is_dying:
            raise Crash

    def _next(self) -> Task:
        self.turns += 1
        self._clock.time += 0.001 + self._random.random() * 0.01
        now = self._clock.time
        ready = [task for task in self._tasks if task.is_ready(now)]
        if not ready:
            assert self._tasks, "no task is left, and what was waited for has not come about"
            soonest = min(self._tasks, key=lambda task: task.wake)
            self._clock.time = max(now, soonest.wake)
            return soonest
        return ready[int(self._random.random() * len(ready))]
