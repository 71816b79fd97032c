"""What suspended frames use without counting, and the next collection frees: free-threaded builds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

from refdbg.commands.decision import Decision, decide
from refdbg.cpython import describe
from refdbg.cpython.deferred import deferred_words
from refdbg.cpython.greenlets import Greenlets, frame_visitor
from refdbg.cpython.owned import Owned
from refdbg.cpython.stop import Stop
from refdbg.cpython.untracked import collected
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.records import Finding
from refdbg.target.mangled import plain_name
from refdbg.verdicts.untraversed_frame import Used, freed_in_use


def freed_while_in_use(stop: Stop, interpreter: int, limit: int) -> list[Finding]:
    """Each type whose suspended frames use what a collection at this stop would free, as a finding of at most *limit*
    objects. Raises EmulationError, MissingDependency.

    Such a frame refers to it without counting, and no traverse function reports the frame's references: the collector,
    which sees only the frames that threads run, cannot know of them.
    """
    if not stop.runtime.traits.free_threaded or not stop.suspended.stacks:
        return []
    greenlets = Greenlets(stop.runtime)
    frames: dict[int, int] = {}  # whose each is
    for owner, stack in stop.suspended.stacks.items():
        with suppress(MemoryFault):
            frames.update((frame, owner) for frame in greenlets.owned_frames(stack))
    words = deferred_words(stop.runtime, frames)
    if not words:
        return []
    decision = decide(stop, collected(stop, stop.tracked()))
    garbage = {decision.objects.addresses[row] for row in decision.replay.unreachable}
    used: defaultdict[str, list[tuple[int, Used]]] = defaultdict(list)
    traverses: dict[str, str] = {}
    for owner, each in _used(stop, decision, frames, {p: t for p, t in words.items() if t in garbage}):
        type_ = stop.texts.type_of(owner)
        name = stop.texts.type_name(type_.address)
        base = stop.types[stop.texts.kinds.of(type_.address).base]
        symbol = stop.runtime.target.symbol_at(base.traverse) if base.traverse else None
        traverses[name] = plain_name(symbol.name) if symbol else "its tp_traverse"
        used[name].append((owner, each))
    means = frame_visitor(stop.runtime)
    return [
        freed_in_use(
            name, traverses[name], [each for _, each in found], len({owner for owner, _ in found}),
            describe.row(stop, found[0][0]), interpreter, means, not decision.undecided, limit,
        )
        for name, found in used.items()
    ]


def _used(
    stop: Stop, decision: Decision, frames: dict[int, int], words: dict[int, int]
) -> Iterator[tuple[int, Used]]:
    # The owner of the stack, and what of it refers to what: by their places, in the order of the frames.
    owned = Owned(stop.texts)
    for frame, owner in frames.items():
        row = decision.row_of.get(owner)
        visited = {decision.objects.addresses[target] for target in decision.visits.of(row)} if row is not None else {}
        try:
            references = [
                each for each in owned.frame_words(frame, deferred=True)
                if each.target == words.get(each.place) and each.target not in visited
            ]
            found = stop.frames.walk_from(frame, 1).frames
        except (DecodeError, LayoutNotFound, MemoryFault):
            continue
        for each in references if found and found[0].address == frame else ():
            where = found[0]
            yield owner, Used(each.label, where.function, where.file, where.line, describe.row(stop, each.target))
