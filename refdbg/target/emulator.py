"""Running a function of a stopped process for each of many objects, in an emulated CPU. Knows no Python object."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

from refdbg.dependencies import unicorn
from refdbg.target import Target
from refdbg.target.copied import CopiedMemory
from refdbg.target.cpu import GIB, Cpu, EmulationError, Problem
from refdbg.target.ifunc import Variants
from refdbg.target.memory import PAGE

__all__ = ["EmulationError", "Emulator", "Visits"]

_STACK = 1 << 20
_ROOM = 8 << 20  # objects at once
_MOST_VISITS = 32 << 20  # at once
_FEWEST_BYTES = 1 << 20
_PAGES_WRITTEN = 64  # by a call that is let write
_OUT_OF_REACH = 1 << 20
_GIVE_UP = 3  # so many calls of a function that do not end are enough
_ROUNDS = 4  # an object is tried again with SSE, and with libc's older functions
_MANY = 100  # when so many objects stop, the rest is run with SSE at once
_INSPECTED = 100

# The loop that calls a function for each object of an array, and the function that each call is given as its
# callback (System V ABI). Registers that C code preserves hold the loop's state:
#   rbx: the current entry of the array of objects, which the function's result replaces     r12: its end
#   r13: the control block below                        r14: where the number of the object's first visit is noted
#   r15: the address of `visit`
# Control block: +0 next free word of the visits, +8 their limit, +16 set when they are full, +24 the current
# entry (a function that is stopped halfway has not restored rbx), +32 where visit number 0 would stand.
_VISIT_OFFSET, _LOOP_OFFSET, _END_OFFSET, _GIVEN_UP_OFFSET = 0x00, 0x30, 0x75, 0x80
_CODE = (
    bytes.fromhex(
        # visit(object = rdi, control = rsi)
        "488b06"  # mov rax, [rsi]
        "483b4608"  # cmp rax, [rsi+8]
        "730d"  # jae full
        "488938"  # mov [rax], rdi
        "4883c008"  # add rax, 8
        "488906"  # mov [rsi], rax
        "31c0"  # xor eax, eax
        "c3"  # ret
        "48c7461001000000"  # full: mov qword [rsi+16], 1
        "b801000000"  # mov eax, 1
        "c3"  # ret
    ).ljust(_LOOP_OFFSET, b"\x90")
    + bytes.fromhex(
        "4c39e3"  # loop: cmp rbx, r12
        "7340"  # jae end
        "49895d18"  # mov [r13+24], rbx
        "498b4500"  # mov rax, [r13]
        "492b4520"  # sub rax, [r13+32]
        "48c1e803"  # shr rax, 3
        "498906"  # mov [r14], rax
        "488b3b"  # mov rdi, [rbx]
        "488b8700000000"  # mov rax, [rdi + type_offset]
        "488b8000000000"  # mov rax, [rax + slot_offset]
        "4c89fe"  # mov rsi, r15
        "4c89ea"  # mov rdx, r13
        "ffd0"  # call rax
        "49837d1000"  # cmp qword [r13+16], 0
        "750d"  # jne end
        "488903"  # mov [rbx], rax
        "4883c308"  # add rbx, 8
        "4983c608"  # add r14, 8
        "ebbb"  # jmp loop
        "90"  # end: nop
    ).ljust(_GIVEN_UP_OFFSET - _LOOP_OFFSET, b"\xf4")  # hlt
    + bytes.fromhex("0f0b")  # ud2: stands for a function that has been given up
)
_TYPE_PATCH = _CODE.index(bytes.fromhex("488b8700000000")) + 3
_SLOT_PATCH = _CODE.index(bytes.fromhex("488b8000000000")) + 3


@dataclass(frozen=True)
class Visits:
    """What the calls visited: those of object n stand at [starts[n], starts[n + 1]) of *targets*.

    *failures*: why a call did not end, by row of the object; such an object has no visits.
    """

    starts: array[int]
    targets: array[int]
    failures: dict[int, str]


@dataclass(frozen=True)
class _Pass:
    starts: array[int]
    targets: array[int]
    results: array[int]
    problems: dict[int, Problem]


class Emulator:
    """Calls functions of one stopped process."""

    def __init__(self, target: Target, copy: CopiedMemory | None = None) -> None:
        """*copy*: see Cpu. Raises EmulationError, MissingDependency."""
        self._cpu = Cpu(target, copy)
        self._variants = Variants(self._cpu, self._call)
        self._slots = (-1, -1)
        self._endless: Counter[int] = Counter()  # by function
        self._beside = ThreadPoolExecutor(1)  # unicorn lets other Python code run meanwhile
        self._closed = False
        base = self._cpu.base
        self._end = base + _END_OFFSET
        self._control_at = base + 0x10000
        self._stack_top = base + 0x100000 + _STACK - 4096
        self._objects_at, self._firsts_at, self._visited_at = (base + n * GIB for n in (1, 2, 3))
        self._code = self._cpu.map_buffer(base, PAGE, unicorn.UC_PROT_ALL)
        self._code[: len(_CODE)] = _CODE
        self._visit = base + _VISIT_OFFSET
        self._control = self._cpu.map_buffer(self._control_at, PAGE).cast("Q")
        self._cpu.map_buffer(base + 0x100000, _STACK)
        self._objects = self._cpu.map_buffer(self._objects_at, 8 * _ROOM)
        self._firsts = self._cpu.map_buffer(self._firsts_at, 8 * _ROOM)
        self._visited = self._cpu.map_buffer(self._visited_at, 8 * _MOST_VISITS)
        # What an object refers to is written down somewhere: more visits than words of memory are an endless loop.
        self._limit = self._visited_at + min(8 * _MOST_VISITS, max(self.copied & -8, _FEWEST_BYTES))

    def close(self) -> None:
        """Give the copy of the memory back. Nothing can be called any more; what has begun ends soon."""
        self._closed = True
        self._beside.shutdown()
        self._cpu.close()
        del self._variants

    @property
    def copied(self) -> int:
        """The bytes of the process's memory that were copied."""
        return self._cpu.copied

    def visits(self, objects: Sequence[int], type_offset: int, slot_offset: int) -> Visits:
        """Calls ``object->type->slot(object, visit, arg)`` for each object and collects what is visited.

        *type_offset*: of the type word in an object; *slot_offset*: of the function's slot in a type. Every
        object must have one.
        """
        return self.begin(objects, type_offset, slot_offset)()

    def begin(self, objects: Sequence[int], type_offset: int, slot_offset: int) -> Callable[[], Visits]:
        """The same beside what the caller does next: what this returns waits for the visits and returns them.

        Nothing else may be asked of the emulator meanwhile.
        """
        self._choose(type_offset, slot_offset)
        first = self._beside.submit(self._pass, objects)

        def visits() -> Visits:
            found = self._cured(objects, first.result())
            return Visits(found.starts, found.targets, self._explained(found))

        return visits

    def results(self, objects: Sequence[int], type_offset: int, slot_offset: int) -> tuple[array[int], dict[int, str]]:
        """The same calls' results, and why a call did not end by row (its result means nothing)."""
        self._choose(type_offset, slot_offset)
        found = self._cured(objects, self._pass(objects))
        return found.results, self._explained(found)

    def lowers(self, function: int, argument: int, words: Sequence[int]) -> bool | None:
        """Whether the C function lowers one of the counts in 32 bits at *words* (addresses); None when its call does
        not end before that.

        The call may write where it likes: each page is as it was afterwards.
        """
        pages = list({word & -PAGE for word in words})
        for _ in range(_PAGES_WRITTEN):
            with self._cpu.vectors(), self._cpu.inspected(), ExitStack() as written:
                for page in pages:
                    written.enter_context(self._cpu.writable(page))
                # High ones: else what it frees would be written, too.
                high = [self._count(word) + _OUT_OF_REACH & 0xFFFF_FFFF for word in words]
                for word, count in zip(words, high):
                    self._cpu.poke(word, struct.pack("<I", count))
                problem = self._cpu.attempt(function, argument, stack=self._stack_top - 8, end=self._end)
                if any(self._count(word) < count for word, count in zip(words, high)):
                    return True
            if problem is None:
                return False
            if problem.kind == "write" and problem.wanted & -PAGE not in pages:
                pages.append(problem.wanted & -PAGE)
            elif not (problem.kind == "vector" and self._is_curable(problem)):
                return None
        return None

    def _count(self, word: int) -> int:
        return self._cpu.word(word) & 0xFFFF_FFFF

    def _explained(self, found: _Pass) -> dict[int, str]:
        return {row: self._cpu.explain(problem) for row, problem in sorted(found.problems.items())}

    def _call(self, function: int, *arguments: int) -> int:
        return self._cpu.call(function, *arguments, stack=self._stack_top - 8, end=self._end)

    # Everything once, then what failed for an instruction again.

    def _choose(self, type_offset: int, slot_offset: int) -> None:
        if self._slots != (type_offset, slot_offset):
            self._slots = type_offset, slot_offset
            struct.pack_into("<i", self._code, _TYPE_PATCH, type_offset)
            struct.pack_into("<i", self._code, _SLOT_PATCH, slot_offset)
            self._cpu.code_changed()

    def _cured(self, objects: Sequence[int], found: _Pass) -> _Pass:
        tried: dict[int, Problem] = {}
        for _ in range(_ROUNDS):
            again = [
                row for row, problem in sorted(found.problems.items())
                if tried.get(row) != problem and self._is_curable(problem)
            ]
            if not again:
                break
            tried.update((row, found.problems[row]) for row in again)
            with self._cpu.vectors():
                found = _spliced(found, again, self._pass([objects[row] for row in again], strict=False))
        return found

    def _is_curable(self, problem: Problem) -> bool:
        if problem.kind == "instruction":
            return True
        return problem.kind == "vector" and self._variants.replaced(problem.place)

    def _pass(self, objects: Sequence[int], strict: bool = True) -> _Pass:
        found = _Pass(array("Q"), array("Q"), array("Q"), {})
        done = 0
        inspect = not strict  # the first objects show most of the code
        while done < len(objects) and not self._closed:
            batch = array("Q", objects[done : done + (_INSPECTED if inspect else _ROOM)])
            self._objects[: 8 * len(batch)] = memoryview(batch).cast("B")
            self._control[4] = self._visited_at - 8 * len(found.targets)
            self._next_visit(self._visited_at)
            problems: dict[int, Problem] = {}
            with self._cpu.inspected() if inspect else nullcontext():
                count = self._batch(len(batch), problems, strict, patient=not inspect)
            inspect = False
            found.starts.frombytes(self._firsts[: 8 * count])
            found.targets.frombytes(self._visited[: self._control[0] - self._visited_at])
            found.results.frombytes(self._objects[: 8 * count])
            found.problems.update((done + row, problem) for row, problem in problems.items())
            done += count
        found.starts.append(len(found.targets))
        return found

    def _batch(self, count: int, problems: dict[int, Problem], strict: bool, patient: bool) -> int:
        # Returns how many rows are done. The rest is left for the next batch when the visits' buffer is full, or when
        # a call takes long and we are not patient.
        row = 0
        while row < count:
            row, problem = self._loop(row, count, patient)
            if problem is None:
                break
            if problem.kind in ("write", "unknown"):
                problem = self._again(row, problem)
            if problem is not None and (problem.kind == "late" or (problem.kind == "full" and row)):
                self._rewind(row)
                break
            if problem is not None:
                problems[row] = self._judged(row, problem)
                self._rewind(row)
                if strict and problem.kind in ("instruction", "vector") and len(problems) > _MANY:
                    return self._postpone(row + 1, count, problems)
            row += 1
        return row

    def _again(self, row: int, problem: Problem) -> Problem | None:
        # What is left of the problem when the object is tried with more effort.
        self._rewind(row)
        if problem.kind == "write":
            with self._cpu.writable(problem.wanted):
                return self._loop(row, row + 1)[1]
        with self._cpu.inspected():
            again = self._loop(row, row + 1, patient=False)[1]
        if again is not None and again.kind == "late":
            self._rewind(row)
            again = self._loop(row, row + 1)[1]
        if again is not None and again.kind == "unknown":
            return replace(again, kind="endless", text="no end")
        return again

    def _postpone(self, row: int, count: int, problems: dict[int, Problem]) -> int:
        # Each call that stops takes 0.1 ms: leave the rest to those who try again.
        first = (self._control[0] - self._control[4]) // 8
        self._firsts[8 * row : 8 * count] = struct.pack("<Q", first) * (count - row)
        problems.update((rest, Problem("instruction", "not run yet")) for rest in range(row, count))
        return count

    def _judged(self, row: int, problem: Problem) -> Problem:
        # Gives a function up that often does not end: each time takes seconds.
        if problem.place == self._cpu.base + _GIVEN_UP_OFFSET:
            return Problem("endless", f"no end in {_GIVE_UP} calls for other objects")
        if problem.kind == "full":
            problem = replace(problem, kind="endless", text="more visits than memory has words")
        if problem.kind == "endless":
            type_offset, slot_offset = self._slots
            slot = self._cpu.word(self._object(row) + type_offset) + slot_offset
            function = self._cpu.word(slot)
            self._endless[function] += 1
            if self._endless[function] >= _GIVE_UP:
                self._cpu.poke(slot, struct.pack("<Q", self._cpu.base + _GIVEN_UP_OFFSET))
            if problem.place == self._end:
                return replace(problem, place=function)
        return problem

    def _loop(self, row: int, end: int, patient: bool = True) -> tuple[int, Problem | None]:
        # Returns the row that was not finished and why; (end, None) when all were.
        u = unicorn
        self._cpu.set_registers([
            (u.UC_X86_REG_RBX, self._objects_at + 8 * row),
            (u.UC_X86_REG_R12, self._objects_at + 8 * end),
            (u.UC_X86_REG_R13, self._control_at),
            (u.UC_X86_REG_R14, self._firsts_at + 8 * row),
            (u.UC_X86_REG_R15, self._visit),
            (u.UC_X86_REG_RSP, self._stack_top),
        ])  # fmt: skip
        self._control[3] = self._objects_at + 8 * row
        place = self._cpu.base + _LOOP_OFFSET
        while True:
            before = self._control[0], self._control[3]
            place, problem = self._cpu.run(place, self._end)
            row = (self._control[3] - self._objects_at) // 8
            if problem is not None:
                return row, problem
            if self._control[2]:
                return row, Problem("full", "", place)
            if place == self._end:
                return end, None
            if not patient or self._closed:
                return row, Problem("late", "", place)
            if before == (self._control[0], self._control[3]):  # the time was up, and nothing was visited meanwhile
                return row, Problem("endless", "no end", place)

    def _object(self, row: int) -> int:
        return int.from_bytes(self._objects[8 * row : 8 * row + 8], "little")

    def _rewind(self, row: int) -> None:
        # Drops the visits of the row and of those behind it.
        first = int.from_bytes(self._firsts[8 * row : 8 * row + 8], "little")
        self._next_visit(8 * first + self._control[4])

    def _next_visit(self, address: int) -> None:
        self._control[0], self._control[1], self._control[2] = address, self._limit, 0


def _spliced(first: _Pass, rows: Sequence[int], second: _Pass) -> _Pass:
    # *first* with *second*'s findings for *rows*, of which it has no visits.
    starts, targets = array("Q"), array("Q")
    last = 0
    for index, row in enumerate(rows):
        starts.extend(_shifted(first.starts[last : row + 1], len(targets) - first.starts[last]))
        targets.extend(first.targets[first.starts[last] : first.starts[row]])
        targets.extend(second.targets[second.starts[index] : second.starts[index + 1]])
        last = row + 1
    starts.extend(_shifted(first.starts[last:], len(targets) - first.starts[last]))
    targets.extend(first.targets[first.starts[last] :])
    results = first.results[:]
    problems = dict(first.problems)
    for index, row in enumerate(rows):
        results[row] = second.results[index]
        del problems[row]
        if index in second.problems:
            problems[row] = second.problems[index]
    return _Pass(starts, targets, results, problems)


def _shifted(numbers: array[int], by: int) -> array[int]:
    return array("Q", map(by.__add__, numbers)) if by else numbers
