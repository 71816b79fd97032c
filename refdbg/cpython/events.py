"""The C functions whose entry or return means something to refdbg, by role, newest name first."""

from __future__ import annotations

from collections.abc import Iterable

COLLECTION = ("gc_collect_main", "collect")  # 3.10+, 3.9
# In this order, once a collection; the first two once more for what finalizers may have brought back.
EXAMINING = ("deduce_unreachable_heap", "deduce_unreachable", "update_refs")  # free-threaded, 3.9+, 3.8
SUBTRACTED = ("move_unreachable",)  # free-threaded: none, each object is marked by a function call of its own
DEDUCED = ("move_legacy_finalizers", "clear_weakrefs")  # free-threaded: the second one
FINALIZERS = ("finalize_garbage",)
CLEARING = ("delete_garbage",)
FIRST = ("_PyRuntime_Initialize",)  # before any object is made; may be called again
RUN_MAIN = ("Py_RunMain",)  # initialised, and nothing of the program has run
NEW_INTERPRETER = ("new_interpreter", "_Py_NewInterpreter", "Py_NewInterpreter")
IMMORTALIZED = ("_PyGC_ImmortalizeDeferredObjects",)  # free-threaded, 3.13: when the first thread is made
OTHER_THREADS = ("_PyThreadState_RemoveExcept", "_PyThreadState_DeleteExcept")  # 3.13+, until 3.12
INTERPRETER_CLEAR = ("finalize_interp_clear", "interpreter_clear", "PyInterpreterState_Clear")
GC_FINI = ("_PyGC_Fini",)
TRACES_FREED = ("_PyTraceMalloc_Stop", "tracemalloc_stop")  # 3.12+, until 3.11: tracemalloc's tables go
INTERNED_CLEARED = ("_PyUnicode_ClearInterned",)  # 3.12+
INTERPRETER_DELETE = ("PyInterpreterState_Delete",)
PRINT_TOTAL = ("_PyDebug_PrintTotalRefs",)
GET_TOTAL = "sys_gettotalrefcount"  # sys.gettotalrefcount(), of builds that count references
# Called last by Py_FinalizeEx, when the interpreter is gone and nothing more is released.
THE_END = ("call_ll_exitfuncs", "_PyRuntime_Finalize")

# Who asked for a collection: the first of these on the C stack below the collector.
_REASONS = (
    (("gc_collect_impl", "gc_collect"), "gc.collect()"),
    (("gc_collect_generations", "collect_generations", "_Py_RunGC", "_PyObject_GC_Link", "gc_alloc"), "allocation"),
    (("finalize_modules", "_PyImport_Cleanup"), "module cleanup"),
    (("interpreter_clear", "PyInterpreterState_Clear", "_PyInterpreterState_Clear"), "interpreter clear"),
    (("finalize_interp_clear",), "finalize_interp_clear"),
    (("Py_FinalizeEx", "_Py_Finalize"), "Py_FinalizeEx"),
    (("Py_EndInterpreter",), "Py_EndInterpreter"),
)


def reason(functions: Iterable[str]) -> str:
    """Why the collector runs, from the C functions on the stack, innermost first; asks for no more than it needs.

    The caller's name when it is none of the known ones: C code that called PyGC_Collect itself.
    """
    seen: list[str] = []
    for function in functions:
        if seen:
            for names, text in _REASONS:
                if function in names:
                    return text
        seen.append(function)
    for index, function in enumerate(seen):
        if function in ("PyGC_Collect", "_PyGC_CollectIfEnabled", "_PyGC_CollectNoFail"):
            return f"{function}() called by {seen[index + 1]}" if index + 1 < len(seen) else f"{function}()"
    return seen[1] if len(seen) > 1 else "unknown"
