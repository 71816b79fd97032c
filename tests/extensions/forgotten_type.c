/* Planted: tp_traverse of Pair forgets its own heap type; a module that keeps an instance of it is never collected. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *first;
    PyObject *second;
} pair_object;

static int
pair_traverse(PyObject *op, visitproc visit, void *arg)
{
    pair_object *self = (pair_object *)op;
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
    .name = "forgotten_type.Pair",
    .basicsize = sizeof(pair_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = pair_slots,
};

static int
forgotten_type_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &pair_spec, NULL);
    if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, forgotten_type_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "forgotten_type",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_forgotten_type(void)
{
    return PyModuleDef_Init(&definition);
}
