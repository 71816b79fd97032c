"""What each verdict says, for readers who have no manual at hand."""

from __future__ import annotations

MEANINGS = {
    "missing-visit": "A field, or the own heap type, is owned but never reported by a tp_traverse: no collection can "
    "free a cycle through it.",
    "over-visit": "A tp_traverse reports what its object does not own: the collector may free what is in use.",
    "static-reference": "A C variable still holds an object when the interpreter has ended.",
    "state-reference": "A field of an interpreter's, thread's or module's state still holds an object.",
    "native-reference": "A malloc block of C code still holds an object.",
    "stack-reference": "A running frame, or a word on a C stack, still holds an object.",
    "lost-reference": "A reference count is higher than all words of the process account for: a missing Py_DECREF.",
    "late-garbage": "What was released only after the interpreter's last collection: nothing collects it any more.",
    "untraversed-frame": "A suspended frame holds references that its owner's tp_traverse does not visit.",
    "resurrected": "A finalizer has brought garbage back.",
    "uncollectable": "A collection found garbage and could not free it.",
}

CONFIDENCES = {
    "proven": "The count is itemised with nothing left over, and the replayed collector frees all of it with the fix.",
    "likely": "Not itemised to the last reference, other words could own instead, or the holder was found by its "
    "address only.",
    "possible": "A guess from words that may be stale.",
}
