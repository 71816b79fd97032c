/* The control: what each of the other modules does wrong is right here. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

typedef struct {
    PyObject *cache;
    PyObject *listeners;
} module_state;

/* Pair: two references, both visited, and the type. */

typedef struct {
    PyObject_HEAD
    PyObject *first;
    PyObject *second;
} pair_object;

static int
pair_traverse(PyObject *op, visitproc visit, void *arg)
{
    pair_object *self = (pair_object *)op;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->first);
    Py_VISIT(self->second);
    return 0;
}

static int
pair_clear(PyObject *op)
{
    pair_object *self = (pair_object *)op;
    Py_CLEAR(self->first);
    Py_CLEAR(self->second);
    return 0;
}

static void
pair_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    pair_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef pair_members[] = {
    {"first", T_OBJECT, offsetof(pair_object, first), 0, NULL},
    {"second", T_OBJECT, offsetof(pair_object, second), 0, NULL},
    {NULL},
};

static PyType_Slot pair_slots[] = {
    {Py_tp_traverse, pair_traverse},
    {Py_tp_clear, pair_clear},
    {Py_tp_dealloc, pair_dealloc},
    {Py_tp_members, pair_members},
    {0, NULL},
};

static PyType_Spec pair_spec = {
    .name = "control.Pair",
    .basicsize = sizeof(pair_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = pair_slots,
};

/* Watcher(watched): a pointer that owns nothing, and that nobody visits; its user keeps the object alive. */

typedef struct {
    PyObject_HEAD
    PyObject *watched; /* borrowed */
    PyObject *note;
} watcher_object;

static int
watcher_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return PyArg_ParseTuple(args, "O", &((watcher_object *)op)->watched) ? 0 : -1;
}

static int
watcher_traverse(PyObject *op, visitproc visit, void *arg)
{
    watcher_object *self = (watcher_object *)op;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->note);
    return 0;
}

static int
watcher_clear(PyObject *op)
{
    Py_CLEAR(((watcher_object *)op)->note);
    return 0;
}

static void
watcher_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    watcher_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef watcher_members[] = {
    {"note", T_OBJECT, offsetof(watcher_object, note), 0, NULL},
    {NULL},
};

static PyType_Slot watcher_slots[] = {
    {Py_tp_init, watcher_init},
    {Py_tp_traverse, watcher_traverse},
    {Py_tp_clear, watcher_clear},
    {Py_tp_dealloc, watcher_dealloc},
    {Py_tp_members, watcher_members},
    {0, NULL},
};

static PyType_Spec watcher_spec = {
    .name = "control.Watcher",
    .basicsize = sizeof(watcher_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = watcher_slots,
};

/* Subscription(callback): the reference is in a struct of its own, which goes with the object. */

struct listener {
    PyObject *callback;
    long calls;
};

typedef struct {
    PyObject_HEAD
    struct listener *listener;
} subscription_object;

static int
subscription_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    subscription_object *self = (subscription_object *)op;
    PyObject *callback;
    if (!PyArg_ParseTuple(args, "O", &callback)) {
        return -1;
    }
    if (self->listener == NULL) {
        self->listener = calloc(1, sizeof(struct listener));
        if (self->listener == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    Py_INCREF(callback);
    Py_XSETREF(self->listener->callback, callback);
    return 0;
}

static int
subscription_traverse(PyObject *op, visitproc visit, void *arg)
{
    subscription_object *self = (subscription_object *)op;
    Py_VISIT(Py_TYPE(self));
    if (self->listener != NULL) {
        Py_VISIT(self->listener->callback);
    }
    return 0;
}

static int
subscription_clear(PyObject *op)
{
    subscription_object *self = (subscription_object *)op;
    if (self->listener != NULL) {
        Py_CLEAR(self->listener->callback);
    }
    return 0;
}

static void
subscription_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    subscription_clear(op);
    free(((subscription_object *)op)->listener);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot subscription_slots[] = {
    {Py_tp_init, subscription_init},
    {Py_tp_traverse, subscription_traverse},
    {Py_tp_clear, subscription_clear},
    {Py_tp_dealloc, subscription_dealloc},
    {0, NULL},
};

static PyType_Spec subscription_spec = {
    .name = "control.Subscription",
    .basicsize = sizeof(subscription_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = subscription_slots,
};

/* Functions. */

static PyObject *
parse(PyObject *module, PyObject *text)
{
    PyObject *words = PyUnicode_Split(text, NULL, -1);
    if (words == NULL) {
        return NULL;
    }
    PyObject *numbers = PyList_New(0);
    for (Py_ssize_t i = 0; numbers != NULL && i < PyList_GET_SIZE(words); i++) {
        PyObject *number = PyLong_FromUnicodeObject(PyList_GET_ITEM(words, i), 10);
        if (number == NULL || PyList_Append(numbers, number) < 0) {
            Py_CLEAR(numbers);
        }
        Py_XDECREF(number);
    }
    Py_DECREF(words);
    return numbers;
}

static PyObject *
lookup(PyObject *module, PyObject *name)
{
    PyObject *cache = ((module_state *)PyModule_GetState(module))->cache;
    PyObject *entry = PyDict_GetItemWithError(cache, name); /* borrowed */
    if (entry != NULL) {
        Py_INCREF(entry);
        return entry;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    entry = PyTuple_Pack(1, name);
    if (entry != NULL && PyDict_SetItem(cache, name, entry) < 0) {
        Py_CLEAR(entry);
    }
    return entry;
}

static PyObject *
hold(PyObject *module, PyObject *object) /* in a container that the collector can look into */
{
    return Py_BuildValue("[O]", object);
}

static PyObject *
subscribe(PyObject *module, PyObject *callback)
{
    if (PyList_Append(((module_state *)PyModule_GetState(module))->listeners, callback) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
touch(PyObject *module, PyObject *object)
{
    Py_INCREF(object);
    return object;
}

/* The module. */

static int
control_exec(PyObject *module)
{
    PyType_Spec *specs[] = {&pair_spec, &watcher_spec, &subscription_spec};
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            Py_XDECREF(type);
            return -1;
        }
        Py_DECREF(type);
    }
    module_state *state = PyModule_GetState(module);
    state->cache = PyDict_New();
    state->listeners = PyList_New(0);
    return state->cache == NULL || state->listeners == NULL ? -1 : 0;
}

static int
control_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->cache);
    Py_VISIT(state->listeners);
    return 0;
}

static int
control_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->cache);
    Py_CLEAR(state->listeners);
    return 0;
}

static void
control_free(void *module)
{
    control_clear(module);
}

static PyMethodDef methods[] = {
    {"parse", parse, METH_O, NULL},
    {"lookup", lookup, METH_O, NULL},
    {"hold", hold, METH_O, NULL},
    {"subscribe", subscribe, METH_O, NULL},
    {"touch", touch, METH_O, NULL},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, control_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "control",
    .m_size = sizeof(module_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = control_traverse,
    .m_clear = control_clear,
    .m_free = control_free,
};

PyMODINIT_FUNC
PyInit_control(void)
{
    return PyModuleDef_Init(&definition);
}
