/* Planted: tp_traverse of Record forgets one of two references in an array of structs, `slots[1].owner`. Beside it the
   struct holds the address of an object in every other way: borrowed, as void *, in a union, as a number, as text. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#if PY_VERSION_HEX < 0x030A0000
static PyObject *
Py_NewRef(PyObject *object)
{
    Py_INCREF(object);
    return object;
}
#endif

typedef struct {
    Py_hash_t hash; /* equals the address of the owner */
    PyObject *owner;
} slot;

typedef struct {
    PyObject_HEAD
    PyObject *borrowed; /* of what `member` holds */
    PyObject *member; /* owned, and a member of the type by another name */
    slot slots[2];
    union {
        void *pointer;
        PyListObject *list;
    } either;
    PyFrameObject *frame; /* a struct that the public headers do not define since 3.11 */
    void *hidden; /* owned */
    char *text;
} record_object;

typedef struct {
    PyObject_HEAD
    PyObject *content;
} bare_object;

typedef struct {
    PyTypeObject *record;
    Py_ssize_t number; /* the address of an object */
    PyObject *names[2];
} module_state;

static int
record_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    record_object *self = (record_object *)op;
    PyObject *first, *second, *list, *hidden, *other;
    if (!PyArg_ParseTuple(args, "OOO!OO", &first, &second, &PyList_Type, &list, &hidden, &other)) {
        return -1;
    }
    self->borrowed = self->member = Py_NewRef(other);
    self->slots[0].owner = Py_NewRef(first);
    self->slots[0].hash = (Py_hash_t)first;
    self->slots[1].owner = Py_NewRef(second);
    self->slots[1].hash = (Py_hash_t)second;
    self->either.pointer = Py_NewRef(list);
    self->hidden = Py_NewRef(hidden);
    self->text = (char *)hidden;
    self->frame = (PyFrameObject *)Py_NewRef((PyObject *)PyEval_GetFrame());
    return 0;
}

static int
record_traverse(PyObject *op, visitproc visit, void *arg)
{
    PyTypeObject *type = Py_TYPE(op);
    record_object *self = (record_object *)op;
    Py_VISIT(type);
    Py_VISIT(self->member);
    Py_VISIT(self->slots[0].owner);
    Py_VISIT(self->either.list);
    Py_VISIT((PyObject *)self->frame);
    Py_VISIT((PyObject *)self->hidden);
    return 0;
}

static void
record_dealloc(PyObject *op)
{
    record_object *self = (record_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(self->member);
    Py_CLEAR(self->slots[0].owner);
    Py_CLEAR(self->slots[1].owner);
    Py_CLEAR(self->either.list);
    Py_CLEAR(self->frame);
    Py_XDECREF((PyObject *)self->hidden);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef record_members[] = {
    {"alias", T_OBJECT, offsetof(record_object, member), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot record_slots[] = {
    {Py_tp_init, record_init},
    {Py_tp_traverse, record_traverse},
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_members, record_members},
    {0, NULL},
};

static PyType_Spec record_spec = {
    .name = "fields.Record",
    .basicsize = sizeof(record_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = record_slots,
};

/* No function of this type names its struct. */

static int
bare_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    if (!PyArg_ParseTuple(args, "O", &((bare_object *)op)->content)) {
        return -1;
    }
    Py_INCREF(((bare_object *)op)->content);
    return 0;
}

static void
bare_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_CLEAR(((bare_object *)op)->content);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot bare_slots[] = {
    {Py_tp_init, bare_init},
    {Py_tp_dealloc, bare_dealloc},
    {0, NULL},
};

static PyType_Spec bare_spec = {
    .name = "fields.Bare",
    .basicsize = sizeof(bare_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = bare_slots,
};

static int
exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->record = (PyTypeObject *)PyType_FromModuleAndSpec(module, &record_spec, NULL);
    PyObject *bare = PyType_FromSpec(&bare_spec);
    if (state->record == NULL || bare == NULL) {
        return -1;
    }
    state->number = (Py_ssize_t)bare;
    state->names[1] = PyList_New(0);
    if (PyModule_AddObject(module, "Record", Py_NewRef((PyObject *)state->record)) < 0) {
        return -1;
    }
    return PyModule_AddObject(module, "Bare", bare);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    if (state) {
        Py_VISIT(state->record);
        Py_VISIT(state->names[1]);
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    if (state) {
        Py_CLEAR(state->record);
        Py_CLEAR(state->names[1]);
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fields",
    .m_size = sizeof(module_state),
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit_fields(void)
{
    return PyModuleDef_Init(&definition);
}
