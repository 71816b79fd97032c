"""What the commands share: made on first use at a stop, dropped when the process has run."""

from __future__ import annotations

import weakref

from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.target import Session, Target


class Context:
    """One session's state between commands."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._build: Build | None = None
        self._stop: Stop | None = None
        self.state: dict[str, object] = {}  # what a command keeps for the next one, under the command's name

    _contexts: weakref.WeakKeyDictionary[Session, Context] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, session: Session) -> Context:
        """The session's context, made on first use."""
        context = cls._contexts.get(session)
        if context is None:
            context = cls._contexts[session] = cls(session)
        return context

    def refresh(self) -> None:
        """Forget what was read: the process may have run since."""
        self._stop = None
        if self._build is not None:
            self._build.target.memory.forget()

    def unreadable(self) -> list[str]:
        """A note for each library that cannot be read, when a command has looked at the process."""
        return self._stop.runtime.target.images().unreadable if self._stop is not None else []

    def build(self, target: Target | None = None) -> Build:
        """The loaded CPython. Raises NoProcess, NotPython."""
        target = target or self.session.target()
        if self._build is None or self._build.origin is not target:
            target.memory.forget()  # it may have run on since it was refused
            self._build = Build(target)
        return self._build

    @property
    def stop(self) -> Stop:
        """The process as it is now. Raises NoProcess, NotPython."""
        build = self.build()
        if self._stop is None or self._stop.runtime.build is not build:
            self._stop = Stop(build)
        return self._stop
