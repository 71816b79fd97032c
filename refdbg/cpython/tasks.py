"""asyncio's tasks: names, states, coroutines, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from refdbg.cpython.generators import Generators
from refdbg.cpython.text import Texts
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.target.layout import StructLayout

_NATIVE, _PYTHON = "_asyncio.Task", "asyncio.tasks.Task"
_NATIVE_FUTURE, _PYTHON_FUTURE = "_asyncio.Future", "asyncio.futures.Future"
_PENDING, _PENDING_TEXT = 0, "PENDING"  # fut_state (Modules/_asynciomodule.c); asyncio.base_futures
_LARGEST = 1 << 10  # bytes of a task without debug info


@dataclass(frozen=True)
class Task:
    """A task that is not done. *address*, *coroutine*: ``PyObject *``; *waiter*: the future that it awaits, 0: none."""

    address: int
    name: str
    coroutine: int
    waiter: int


class Tasks:
    """Those of one stop, by address."""

    def __init__(self, texts: Texts, generators: Generators) -> None:
        self._texts = texts
        self._memory = texts.memory
        self._generators = generators
        self._kinds: dict[int, str] = {}
        self.guessed = False  # one was read without debug info

    def at(self, address: int, type_: int) -> Task | None:
        """The task at an address, None where there is none or it is done. Raises nothing.

        *type_*: its ``PyTypeObject *``.
        """
        if type_ not in self._kinds:
            names = [self._texts.type_name(each) for each in self._texts.types.mro(type_)]
            self._kinds[type_] = next((name for name in names if name in (_NATIVE, _PYTHON)), "")
        kind = self._kinds[type_]
        try:
            if kind == _PYTHON:
                return self._python(address, type_)
            if kind == _NATIVE:
                return self._native(address) if self._layout is not None else self._guess(address, type_)
        except (MemoryFault, DecodeError):
            pass  # being made, or damaged
        return None

    def name(self, address: int) -> str | None:
        """The name of the task at an address, None where there is no task that is not done. Raises nothing."""
        try:
            task = self.at(address, self._texts.type_of(address).address)
        except (MemoryFault, DecodeError):
            return None
        return task.name if task is not None else None

    def awaited(self, future: int) -> Iterator[str]:
        """The names of the tasks that a future is, or that it gathers. *future*: ``PyObject *``. Raises nothing."""
        own = self.name(future) if future else None
        if own is not None:
            yield own
            return
        try:
            type_ = self._texts.type_of(future)
            children = self._texts.instances.attribute(future, type_, "_children")  # asyncio.gather
            items = list(self._texts.containers.list_items(children)) if children else []
        except (MemoryFault, DecodeError):
            return
        yield from filter(None, map(self.name, (item.target for item in items)))

    def is_done(self, future: int) -> bool:
        """Whether a future is known to have a result, or to be cancelled. *future*: ``PyObject *``. Raises nothing."""
        texts = self._texts
        try:
            type_ = texts.type_of(future)
            names = [texts.type_name(each) for each in texts.types.mro(type_.address)]
            if _NATIVE_FUTURE in names:
                return texts.runtime.view(future, "FutureObj")["fut_state"] != _PENDING
            if _PYTHON_FUTURE in names:
                return texts.string(texts.instances.attribute(future, type_, "_state")) not in (_PENDING_TEXT, None)
        except (MemoryFault, DecodeError, LayoutNotFound):
            pass
        return False

    @cached_property
    def _layout(self) -> StructLayout | None:
        try:
            return self._texts.runtime.build.layout("TaskObj")
        except LayoutNotFound:
            return None

    def _native(self, address: int) -> Task | None:
        view = self._texts.runtime.view(address, "TaskObj")
        if view["task_state"] != _PENDING:
            return None
        return Task(address, self._named(view["task_name"]), view["task_coro"], view["task_fut_waiter"])

    def _guess(self, address: int, type_: int) -> Task | None:
        # Since 3.8 these three stand one after another: task_fut_waiter, task_coro, task_name.
        self.guessed = True
        size = min(self._texts.types[type_].basicsize, _LARGEST) // 8
        words = [self._memory.u64(address + 8 * row) for row in range(size)]
        for waiter, coroutine, name in zip(words, words[1:], words[2:]):
            found = self._generators.at(coroutine) if coroutine else None
            if found is not None:
                return Task(address, self._named(name), coroutine, waiter)
        return None

    def _python(self, address: int, type_: int) -> Task | None:
        texts = self._texts
        own = {
            name: texts.instances.attribute(address, texts.types[type_], name)
            for name in ("_state", "_name", "_coro", "_fut_waiter")
        }
        if texts.string(own["_state"]) not in (_PENDING_TEXT, None):
            return None
        waiter = own["_fut_waiter"]
        if waiter and texts.kinds.name(texts.type_of(waiter).address) == "None":
            waiter = 0
        return Task(address, self._named(own["_name"]), own["_coro"], waiter)

    def _named(self, address: int) -> str:
        # 3.12+ keeps the number of a task without a name, until someone asks for it.
        text = self._texts.string(address) if address else None
        if text is not None:
            return text
        kind = self._texts.kinds.name(self._texts.type_of(address).address) if address else ""
        return f"Task-{self._texts.repr(address)}" if kind == "int" else "?"
