"""Threads in all sorts of frames. Writes the truth about them as JSON to the file named first, then calls ascii()."""

import gc
import json
import sys
import threading
import traceback

TRUTH = sys.argv[1]
DEPTH = int(sys.argv[2]) if len(sys.argv) > 2 else 500
ready = threading.Semaphore(0)
go_on = threading.Event()
trouble = []


def plain(value):
    """Whether the value's repr is the same from inside and outside: no addresses, bounded."""
    return isinstance(value, (int, float, str, bytes, type(None))) and len(repr(value)) < 60


def describe(frame):
    """The stack of a frame, innermost first, as Python itself shows it."""
    shown = []
    entries = list(reversed(traceback.extract_stack(frame)))
    while frame is not None:
        code = frame.f_code
        entry = entries[len(shown)]
        values = dict(frame.f_locals)
        shown.append({
            "function": getattr(code, "co_qualname", code.co_name),
            "file": code.co_filename,
            "line": frame.f_lineno,
            "traceback": [entry.filename, entry.lineno, entry.name],
            "code": id(code),
            "optimized": bool(code.co_flags & 1),
            "arguments": list(code.co_varnames[:number_of_arguments(code)]),
            "names": sorted(values),
            "addresses": {name: id(value) for name, value in values.items()},
            "reprs": {name: repr(value) for name, value in values.items() if plain(value)},
        })
        frame = frame.f_back
    return shown


def number_of_arguments(code):
    return code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)


def wait():
    ready.release()
    go_on.wait()


def recurse(n, text="é€𝄞"):
    if n == 0:
        wait()
    else:
        recurse(n - 1)


def spread(first, second, third):
    wait()
    return first + second + third


def call_over_lines():
    value = spread(
        1,
        second=(
            2
        ),
        third=max(
            3,
            4),
    )
    return value


def numbers(limit):
    unset = None
    del unset
    for number in range(limit):
        if number == 3:
            wait()
        yield number


def delegate():
    result = yield from numbers(
        5
    )
    return result


def generators():
    total = 0
    for item in delegate():
        total += item


def comprehension(factor):
    def product(a, b):
        if a == 2:
            wait()
        return a * b * factor

    return [
        product(one, two)
        for one in range(3)
        for two in [7]
        if two
    ]


def class_body():
    outer = "free variable"

    class Body:
        attribute = 1
        borrowed = outer

        def method(self):
            return __class__

        class Inner:
            deeper = (
                wait()
            )


def class_comprehension():
    class Numbers:
        before = "set"
        found = [
            (wait() if number == 2 else number)
            for number in range(3)
        ]


def closures(argument):
    counter = 0
    late = "set"

    def middle(own):
        nonlocal counter
        counter += 1

        def innermost():
            local = (own, argument)[0]
            wait()
            return counter, late, local

        return innermost()

    return middle(b"own")


def lambdas():
    return (lambda x, *, y=2: (
        wait()))(x=1)


class Context:
    def __enter__(self):
        wait()

    def __exit__(self, *ignored):
        pass

    @property
    def attribute(self): return wait()

    def __del__(self):
        wait()

    def __lt__(self, other):
        wait()
        return True


def with_statement():
    with \
            Context():
        pass


def attribute_of():
    thing = Context()
    return [
        thing
        .attribute
    ]


def finalizer():
    thing = Context()
    del \
        thing


def compare():
    a, b = Context(), Context()
    return sorted([
        a,
        b,
    ])


def handler():
    try:
        raise ValueError(
            "one"
        )
    except ValueError as error:
        message = str(error)
        try:
            pass
        finally:
            wait()
        return message


def long_lines():
    x = 0






























































































































    x += 1; spread(x, (x
        + 1), 3)


def many_variables(*args, option=None, **kwargs):
    a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = 1.5
    wait()
    return a1, a2, a3, a4, a5, a6, a7, a8


def coroutines():
    async def inner(depth):
        if depth:
            return await inner(depth - 1)
        wait()

    coroutine = inner(3)
    try:
        coroutine.send(None)
    except StopIteration:
        pass


def executed():
    names = {"__name__": "made", "wait": wait}
    exec(compile("x = 1\n\n\ndef f():\n    y = x\n    return [\n     wait()]\nf(\n)\n", "<made up>", "exec"), names)


def traced():
    def trace(frame, event, argument):
        return trace

    sys.settrace(trace)
    inside_trace(1)
    sys.settrace(None)


def inside_trace(value):
    doubled = value * 2
    wait()
    return doubled


def collected():
    gc.collect()
    wait()


SCENES = [
    lambda: recurse(DEPTH), call_over_lines, generators, lambda: comprehension(10), class_body, class_comprehension,
    lambda: closures("a"), lambdas, with_statement, attribute_of, finalizer, compare, handler, long_lines,
    lambda: many_variables(1, 2, key="word"), coroutines, executed, traced, collected,
]


def run(scene):
    try:
        scene()
    except BaseException as error:
        trouble.append(repr(error))


def last_call(values):
    """What the stopped thread itself does: its truth is that of its callers, its own lines follow."""
    truth = {}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            truth[ident] = describe(frame)
    truth[threading.get_ident()] = describe(sys._getframe().f_back)
    native = {thread.ident: thread.native_id for thread in threading.enumerate()}
    with open(TRUTH, "w") as file:
        file.write(json.dumps({"threads": truth, "native": native, "current": threading.get_ident()}))
    return ascii(
        values
    )


def main():
    sys.setrecursionlimit(max(1000, DEPTH * 2))
    threading.stack_size(64 << 20)
    threads = []
    for scene in SCENES:
        thread = threading.Thread(target=run, args=(scene,), daemon=True)
        thread.start()
        threads.append(thread)
        ready.acquire()
    done = [
        last_call(value) for value in ["the end"]
    ]
    go_on.set()
    for thread in threads:
        thread.join()
    return done


if __name__ == "__main__":
    main()
    if trouble:
        sys.exit("\n".join(trouble))
