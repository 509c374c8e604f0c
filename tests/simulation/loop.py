"""An event loop without a clock and without threads of its own: time jumps to the next timer, and a seed chooses who runs next.

Work for threads runs on threads that take turns with the loop, one at a time, so nothing ever runs beside anything. What belongs
to a process that is dead never runs again: no handler, no `finally`, as when the power goes.

Rules:      1. one of loop and worker threads runs at a time  2. what is ready at the same moment runs in the order the seed gives
            3. a `SystemExit` of a process kills that process, not the loop
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import threading
from asyncio import events
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any


class Killed(BaseException):
    """The process is dead: raised where its code touches the world."""


class _AsksTheLoop(BaseException):
    """A function that runs in place cannot wait for the loop."""


@dataclass(eq=False)
class Process:
    """What dies together; handles of its context run only while it lives."""

    name: str
    alive: bool = True
    on_exit: Callable[[BaseException], None] = field(default=lambda _error: None)
    context: contextvars.Context = field(init=False)

    def __post_init__(self) -> None:
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def require_alive(self) -> None:
        """Raise `Killed` in what is left of a dead process."""
        if not self.alive:
            raise Killed(self.name)


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class _Worker:
    """A thread that runs one function at a time while the loop waits, or waits while the loop runs."""

    def __init__(self, back: threading.Semaphore) -> None:
        self._go = threading.Semaphore(0)
        self._back = back
        self._work: Callable[[], None] | None = None
        self.is_waiting = False
        threading.Thread(target=self._run, daemon=True, name="simulated").start()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._work is None:
                return
            self._work()
            self._back.release()

    def switch(self, work: Callable[[], None] | None = None) -> None:
        """From the loop: let the worker run until it has finished, or waits for the loop."""
        if not self.is_waiting:
            self._work = work
        self._go.release()
        self._back.acquire()

    def end(self) -> None:
        """Let an idle thread end."""
        self._work = None
        self._go.release()

    def wait(self) -> None:
        """From the worker: let the loop run until it switches here again."""
        self.is_waiting = True
        self._back.release()
        self._go.acquire()
        self.is_waiting = False


class _Numbered:
    """Hashed by number, not by address: sets of these have the same order in every process."""

    _numbers = itertools.count()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*arguments, **named)

    def __hash__(self) -> int:
        return self._number


class _Future(_Numbered, asyncio.futures._PyFuture):  # type: ignore[misc, name-defined]
    """A future in Python."""


class _Task(_Numbered, asyncio.tasks._PyTask):  # type: ignore[misc, name-defined]
    """A task in Python."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs until `run` is done; `seed_order` shuffles what is ready together."""

    def __init__(self, order: random.Random) -> None:
        super().__init__()
        self._now = 0.0
        self._order = order
        self._back = threading.Semaphore(0)
        self._idle: list[_Worker] = []
        self._current = threading.local()
        self.steps = 0
        _Numbered._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def _process_events(self, event_list: object) -> None:
        raise NotImplementedError

    def _write_to_self(self) -> None:
        """No thread runs beside the loop: there is nothing to wake."""

    def run(self, main: Coroutine[Any, Any, Any], *, steps_max: int) -> Any:
        """Run everything until `main` is done; raise `RuntimeError` if nothing is left to happen, or after `steps_max` steps."""
        threading_before = asyncio.run_coroutine_threadsafe
        asyncio.run_coroutine_threadsafe = self._from_worker  # type: ignore[assignment]
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step(steps_max)
            return task.result()
        finally:
            events._set_running_loop(None)
            asyncio.run_coroutine_threadsafe = threading_before
            for worker in self._idle:
                worker.end()

    def _step(self, steps_max: int) -> None:
        if not self._ready:
            while self._scheduled and self._scheduled[0]._cancelled:
                heapq.heappop(self._scheduled)._scheduled = False
            if not self._scheduled:
                raise RuntimeError("nothing is left to happen")
            self._now = max(self._now, self._scheduled[0]._when)
        while self._scheduled and self._scheduled[0]._when <= self._now:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)
        self.steps += 1
        if self.steps > steps_max:
            raise RuntimeError(f"not done after {steps_max} steps")
        if len(self._ready) > 1 and self._order.random() < 0.25:
            self._ready.rotate(-self._order.randrange(len(self._ready)))
        handle = self._ready.popleft()
        process = handle._context.get(PROCESS)
        if handle._cancelled or (process is not None and not process.alive):
            return
        try:
            handle._run()
        except Killed:
            pass
        except SystemExit as error:
            if process is None:
                raise
            process.on_exit(error)

    def create_future(self) -> Any:
        return _Future(loop=self)

    def create_task(self, coro: Any, **named: Any) -> Any:
        task = _Task(coro, loop=self, **named)
        task._log_destroy_pending = False
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a task of a dead process leaves behind is nobody's; other errors show where they are awaited."""

    def run_in_executor(self, _executor: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run the function a moment from now while the loop waits.

        It runs in place; only one that asks something of the loop is begun again on a worker thread, where it can wait.
        """
        future = self.create_future()

        def begin() -> None:
            context = contextvars.copy_context()
            self._current.worker = None
            try:
                self._work(None, context, future, function, arguments)
            except _AsksTheLoop:
                begin_on_worker()

        def begin_on_worker() -> None:
            worker = self._idle.pop() if self._idle else _Worker(self._back)
            context = contextvars.copy_context()
            worker.switch(lambda: self._work(worker, context, future, function, arguments))
            self._returned(worker)

        self.call_later(self._order.random() * 0.002, begin)
        return future

    def _returned(self, worker: _Worker) -> None:
        if not worker.is_waiting:
            self._idle.append(worker)

    def _work(self, worker: "_Worker | None", context: Any, future: Any, function: Callable[..., Any], arguments: Any) -> None:
        """On the worker thread, or in place."""
        self._current.worker = worker
        try:
            result = context.run(function, *arguments)
        except _AsksTheLoop:
            raise
        except BaseException as error:  # noqa: BLE001 - it is whoever awaits it that is told
            if isinstance(error, StopIteration):
                error = RuntimeError("StopIteration")
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def _from_worker(self, coroutine: Coroutine[Any, Any, Any], _loop: Any) -> Any:
        """`asyncio.run_coroutine_threadsafe` for a worker thread, whose `result` gives the turn to the loop."""
        if self._current.worker is None:
            coroutine.close()
            raise _AsksTheLoop
        return _Asked(self, self._current.worker, coroutine)

    def call_soon_threadsafe(self, callback: Any, *arguments: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *arguments, context=context)


@dataclass
class _Asked:
    loop: VirtualLoop
    worker: _Worker
    coroutine: Coroutine[Any, Any, Any]

    def result(self) -> Any:
        """Let the loop run the coroutine; return what it returned."""
        answer: list[Any] = []

        def begin() -> None:
            task = self.loop.create_task(self.coroutine)
            answer.append(task)
            task.add_done_callback(lambda _task: self.go_on())

        self.loop.call_soon(begin)
        self.worker.wait()
        return answer[0].result()

    def go_on(self) -> None:
        """From the loop: the worker has its turn."""
        self.worker.switch()
        self.loop._returned(self.worker)
