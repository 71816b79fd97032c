/* Planted: tp_traverse of Watcher visits `watched`, a field that owns nothing. When a watcher is garbage, the collector
   takes its visit for the only reference to the object, and clears an object that is in use. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

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
    Py_VISIT(self->watched);
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
    .name = "over_visit.Watcher",
    .basicsize = sizeof(watcher_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = watcher_slots,
};

static int
over_visit_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &watcher_spec, NULL);
    if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, over_visit_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "over_visit",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_over_visit(void)
{
    return PyModuleDef_Init(&definition);
}
