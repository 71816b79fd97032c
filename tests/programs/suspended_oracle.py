"""Tasks, coroutines and generators in all sorts of suspension. Writes the truth about them as JSON to the file named
first, then calls ascii()."""

import asyncio
import collections
import dis
import gc
import inspect
import json
import sys
import types

TRUTH = sys.argv[1]
GENERATORS = types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType
BETWEEN = "coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable", "FutureIter"
KINDS = {"generator": "generator", "coroutine": "coroutine", "async_generator": "async generator"}
STATES = {"CREATED": "not started", "SUSPENDED": "suspended"}
kept = []


def address(value):
    return int(object.__repr__(value).rpartition(" at ")[2].rstrip(">"), 16)


def part(generator, name):
    """gi_frame, cr_frame, ag_frame and the like."""
    return next(getattr(generator, f"{prefix}_{name}") for prefix in ("gi", "cr", "ag")
                if hasattr(generator, f"{prefix}_{name}"))


def awaited(generator):
    return part(generator, "yieldfrom" if hasattr(generator, "gi_frame") else "await")


def behind(value):
    while type(value).__name__ in BETWEEN:
        inner = [each for each in gc.get_referents(value)
                 if isinstance(each, (*GENERATORS, asyncio.Future)) or type(each).__name__ in BETWEEN]
        value, = inner
    return value


def chain(generator):
    """The frames, innermost first, what the last one waits for, and which generators these are."""
    frames, members = [], []
    value = generator
    while isinstance(value, GENERATORS):
        frame, code = part(value, "frame"), part(value, "code")
        plain = {name: repr(each) for name, each in frame.f_locals.items() if isinstance(each, (int, str, type(None)))}
        frames.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno, plain])
        members.append(address(value))
        inner = awaited(value)
        value = behind(inner) if inner is not None else None
    return frames[::-1], address(value) if value is not None else 0, members


def state(generator):
    if part(generator, "running"):
        return "running"
    if isinstance(generator, types.AsyncGeneratorType):
        if hasattr(inspect, "getasyncgenstate"):
            return STATES[inspect.getasyncgenstate(generator)[5:]]
        last = generator.ag_frame.f_lasti
        begun = last >= 0 and dis.opname[generator.ag_code.co_code[last]] != "RETURN_GENERATOR"
        return "suspended" if begun else "not started"
    if isinstance(generator, types.CoroutineType):
        return STATES[inspect.getcoroutinestate(generator)[5:]]
    return STATES[inspect.getgeneratorstate(generator)[4:]]


async def leaf(future):
    await future


async def returning(future, number):
    async with Context():
        return await leaf(future)


class Context:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *ignored):
        pass


class Entering:
    async def __aenter__(self):
        await kept[0]

    async def __aexit__(self, *ignored):
        pass


async def entering(future):
    async with Entering() as context, \
            Context():
        pass


async def numbers(future):
    yield 1
    await leaf(future)
    yield 2


async def loop_over(future):
    async for number in numbers(future):
        text = "number %d" % number


async def comprehended(future):
    return [number async for number in numbers(future)
            if number]


class Awaitable:
    def __init__(self, future):
        self.future = future

    def __await__(self):
        return leaf(self.future).__await__()


class Generated:
    def __init__(self, future):
        self.future = future

    def __await__(self):
        yield from self.future


async def by_wrapper(future):
    await Awaitable(future)


async def by_generator(future):
    await Generated(future)


@types.coroutine
def legacy(future):
    yield from future


async def by_legacy(future):
    await legacy(future)


async def gathering(future):
    await asyncio.gather(leaf(future), loop_over(future))


async def shielded(future):
    await asyncio.wait_for(asyncio.shield(future), 1000)


async def of_task(task):
    await task


async def sending(future):
    generator = numbers(future)
    await generator.__anext__()
    await generator.asend("sent")


async def throwing(future):
    async def catching():
        try:
            yield 1
        except ValueError:
            await leaf(future)
            yield 2

    generator = catching()
    await generator.__anext__()
    await generator.athrow(ValueError("thrown"))


async def by_anext(future):
    generator = numbers(future)
    await anext(generator, None)
    await anext(generator, None)


async def without_variables():
    await leaf(kept[0])


async def deep(future, depth):
    if depth:
        return await deep(future, depth - 1)
    await future


async def finishing():
    try:
        await asyncio.sleep(1000)
    finally:
        await kept[0]


def delegating(limit):
    total = 0
    yield from inner(limit)
    total += 1


def inner(limit):
    for number in range(limit):
        for other in [number]:
            yield number, \
                other


def not_delegating():
    # The object on the top of its stack is a generator, and it does not delegate to it.
    for value in inner(3):
        yield value


def arguments(first, *rest, key="word", **others):
    def closure():
        return first, key

    local = 1
    yield local


async def finished():
    pass


class Custom(asyncio.Task):
    pass


class Pure(asyncio.tasks._PyTask):
    pass


async def main():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    kept.append(future)
    tasks = {
        "returning": returning(future, 2), "loop": loop_over(future), "comprehended": comprehended(future),
        "wrapper": by_wrapper(future), "generator": by_generator(future), "legacy": by_legacy(future),
        "gathering": gathering(future), "shielded": shielded(future), "sending": sending(future),
        "throwing": throwing(future), "deep": deep(future, 300), "entering": entering(future), "é 𝄞\n": leaf(future),
        "sleeping": asyncio.sleep(1000), "plain": without_variables(),
    }
    if sys.version_info >= (3, 10):
        tasks["anext"] = by_anext(future)
    tasks = [loop.create_task(coroutine, name=name) for name, coroutine in tasks.items()]
    tasks.append(loop.create_task(of_task(tasks[0])))  # without a name
    tasks.append(Custom(leaf(future), name="custom"))
    tasks.append(Pure(leaf(future), name="pure"))
    tasks.append(loop.create_task(finishing(), name="cancelled"))
    done = loop.create_task(finished(), name="done")
    for _ in range(6):
        await asyncio.sleep(0)
    tasks[-1].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert done.done()
    woken = loop.create_future()
    to_run = loop.create_task(leaf(woken), name="ready")
    await asyncio.sleep(0)
    woken.set_result(None)
    ready = loop.create_task(leaf(future), name="not started")
    generators = [delegating(3), inner(2), not_delegating(), arguments(1, 2, other=3), numbers(future), leaf(future)]
    for generator in generators[:1] + generators[2:4]:
        next(generator)
    used_up = inner(0)
    list(used_up)
    cycle = collections.deque([generators, ready, to_run, used_up])
    kept.append(cycle)
    tell()



def tell():
    everything = [each for each in gc.get_objects() if isinstance(each, GENERATORS) and part(each, "frame") is not None]
    tasks = {}
    members = set()
    # From 3.14 on all_tasks() forgets those of a Python class.
    for task in asyncio.all_tasks() | {each for each in gc.get_objects() if type(each) is Pure and not each.done()}:
        coroutine = task.get_coro()
        frames, end, inside = chain(coroutine)
        members.update(inside)
        running = part(coroutine, "running")
        top = task.get_stack()
        assert running or top[0].f_lineno == frames[-1][2], (task, top)
        waiter = task._fut_waiter
        now = "running" if running else state(coroutine)
        if now == "suspended" and (waiter is None or waiter.done()):
            now = "ready"
        tasks[task.get_name()] = {
            "address": address(task), "frames": [] if running else frames, "end": 0 if running else end, "state": now,
        }
    alone = {}
    for generator in everything:
        if address(generator) not in members:
            frames, end, inside = chain(generator)
            alone[address(generator)] = {
                "kind": KINDS[type(generator).__name__], "frames": frames, "end": end, "state": state(generator),
            }
            members.update(inside[1:])
    for member in members:
        alone.pop(member, None)
    alone = {each: told for each, told in alone.items() if told["state"] != "running"}
    with open(TRUTH, "w") as file:
        file.write(json.dumps({"tasks": tasks, "alone": alone}))
    del everything
    ascii("here")


if __name__ == "__main__":
    asyncio.run(main())
