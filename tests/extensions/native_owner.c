/* Planted: a Subscription ends without releasing its malloc'ed struct, which owns a reference to the callback. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

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
    .name = "native_owner.Subscription",
    .basicsize = sizeof(subscription_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = subscription_slots,
};

static int
native_owner_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &subscription_spec, NULL);
    if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, native_owner_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "native_owner",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_native_owner(void)
{
    return PyModuleDef_Init(&definition);
}
