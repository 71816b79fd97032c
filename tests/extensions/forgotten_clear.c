/* Planted: Pair has no tp_clear, and that of Box forgets the field `second`: the collector finds their cycles, and nothing
   frees them. */

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
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->first);
    Py_VISIT(self->second);
    return 0;
}

static int
box_clear(PyObject *op)
{
    Py_CLEAR(((pair_object *)op)->first);
    return 0;
}

static void
pair_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((pair_object *)op)->second);
    box_clear(op);
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
    {Py_tp_dealloc, pair_dealloc},
    {Py_tp_members, pair_members},
    {0, NULL},
};

static PyType_Slot box_slots[] = {
    {Py_tp_traverse, pair_traverse},
    {Py_tp_clear, box_clear},
    {Py_tp_dealloc, pair_dealloc},
    {Py_tp_members, pair_members},
    {0, NULL},
};

static int
add_type(PyObject *module, const char *name, PyType_Slot *slots)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(pair_object),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
        .slots = slots,
    };
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static int
forgotten_clear_exec(PyObject *module)
{
    if (add_type(module, "forgotten_clear.Pair", pair_slots) < 0) {
        return -1;
    }
    return add_type(module, "forgotten_clear.Box", box_slots);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, forgotten_clear_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "forgotten_clear",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_forgotten_clear(void)
{
    return PyModuleDef_Init(&definition);
}
