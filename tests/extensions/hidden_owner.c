/* Correct: objects whose tp_traverse reports references that stand in no aligned word of theirs.

Tagged: a pointer whose low bit is a flag. Packed: an unaligned member of a malloc'ed struct. Handle: an index into a C
array. Twice: one word, two references, both visited. Node: owns its child, which borrows a pointer to its parent.
`lose(object)` is the planted defect: it takes a reference that nobody gives back.
*/

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define FLAG ((uintptr_t)1)

typedef struct __attribute__((packed)) {
    char kind;
    PyObject *held;
} packed_struct;

static PyObject *slots_of_handles[64];
static long handles;

typedef struct {
    PyObject_HEAD
    uintptr_t place; /* a tagged pointer, a packed_struct *, an index */
} owner_object;

typedef struct {
    PyObject_HEAD
    PyObject *held;
} twice_object;

static PyObject *
tagged_held(owner_object *self)
{
    return (PyObject *)(self->place & ~FLAG);
}

static int
tagged_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(tagged_held((owner_object *)self));
    return 0;
}

static int
tagged_clear(PyObject *self)
{
    PyObject *held = tagged_held((owner_object *)self);
    ((owner_object *)self)->place = 0;
    Py_XDECREF(held);
    return 0;
}

static PyObject *
tagged_set(PyObject *self, PyObject *held)
{
    Py_INCREF(held);
    tagged_clear(self);
    ((owner_object *)self)->place = (uintptr_t)held | FLAG;
    Py_RETURN_NONE;
}

static int
packed_traverse(PyObject *self, visitproc visit, void *arg)
{
    packed_struct *packed = (packed_struct *)((owner_object *)self)->place;
    Py_VISIT(Py_TYPE(self));
    if (packed != NULL) {
        Py_VISIT(packed->held);
    }
    return 0;
}

static int
packed_clear(PyObject *self)
{
    packed_struct *packed = (packed_struct *)((owner_object *)self)->place;
    ((owner_object *)self)->place = 0;
    if (packed != NULL) {
        PyObject *held = packed->held;
        PyMem_RawFree(packed);
        Py_DECREF(held);
    }
    return 0;
}

static PyObject *
packed_set(PyObject *self, PyObject *held)
{
    packed_struct *packed = PyMem_RawMalloc(sizeof(packed_struct));
    if (packed == NULL) {
        return PyErr_NoMemory();
    }
    Py_INCREF(held);
    packed->held = held;
    packed_clear(self);
    ((owner_object *)self)->place = (uintptr_t)packed;
    Py_RETURN_NONE;
}

static int
handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(slots_of_handles[((owner_object *)self)->place]);
    return 0;
}

static int
handle_clear(PyObject *self)
{
    Py_CLEAR(slots_of_handles[((owner_object *)self)->place]);
    return 0;
}

static PyObject *
handle_set(PyObject *self, PyObject *held)
{
    if (handles == 63) {
        PyErr_SetString(PyExc_RuntimeError, "no more handles");
        return NULL;
    }
    Py_INCREF(held);
    handle_clear(self);
    ((owner_object *)self)->place = ++handles;
    slots_of_handles[handles] = held;
    Py_RETURN_NONE;
}

static int
twice_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((twice_object *)self)->held);
    Py_VISIT(((twice_object *)self)->held);
    return 0;
}

static int
twice_clear(PyObject *self)
{
    PyObject *held = ((twice_object *)self)->held;
    ((twice_object *)self)->held = NULL;
    Py_XDECREF(held);
    Py_XDECREF(held);
    return 0;
}

static PyObject *
twice_set(PyObject *self, PyObject *held)
{
    Py_INCREF(held);
    Py_INCREF(held);
    twice_clear(self);
    ((twice_object *)self)->held = held;
    Py_RETURN_NONE;
}

typedef struct {
    PyObject_HEAD
    PyObject *child;
    PyObject *parent; /* borrowed: the parent's dealloc clears it */
} node_object;

static int
node_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((node_object *)self)->child);
    return 0;
}

static int
node_clear(PyObject *self)
{
    node_object *child = (node_object *)((node_object *)self)->child;
    ((node_object *)self)->child = NULL;
    if (child != NULL) {
        child->parent = NULL;
        Py_DECREF(child);
    }
    return 0;
}

static PyObject *
node_set(PyObject *self, PyObject *child)
{
    if (Py_TYPE(child) != Py_TYPE(self) || ((node_object *)child)->parent != NULL) {
        PyErr_SetString(PyExc_TypeError, "not a Node without a parent");
        return NULL;
    }
    Py_INCREF(child);
    node_clear(self);
    ((node_object *)self)->child = child;
    ((node_object *)child)->parent = self;
    Py_RETURN_NONE;
}

#define TYPE(stem, title, struct_)                                                                                     \
    static void stem##_dealloc(PyObject *self)                                                                         \
    {                                                                                                                  \
        PyTypeObject *type = Py_TYPE(self);                                                                            \
        PyObject_GC_UnTrack(self);                                                                                     \
        stem##_clear(self);                                                                                            \
        type->tp_free(self);                                                                                           \
        Py_DECREF(type);                                                                                               \
    }                                                                                                                  \
    static PyMethodDef stem##_methods[] = {{"set", stem##_set, METH_O, NULL}, {NULL}};                                 \
    static PyType_Slot stem##_slots[] = {                                                                              \
        {Py_tp_traverse, stem##_traverse}, {Py_tp_clear, stem##_clear}, {Py_tp_dealloc, stem##_dealloc},               \
        {Py_tp_methods, stem##_methods}, {0, NULL},                                                                    \
    };                                                                                                                 \
    static PyType_Spec stem##_spec = {                                                                                 \
        .name = "hidden_owner." title,                                                                                 \
        .basicsize = sizeof(struct_),                                                                                  \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,                                                              \
        .slots = stem##_slots,                                                                                         \
    };

TYPE(tagged, "Tagged", owner_object)
TYPE(packed, "Packed", owner_object)
TYPE(handle, "Handle", owner_object)
TYPE(twice, "Twice", twice_object)
TYPE(node, "Node", node_object)

static PyObject *
lose(PyObject *module, PyObject *object)
{
    Py_INCREF(object);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"lose", lose, METH_O, NULL}, {NULL}};

static int
hidden_owner_exec(PyObject *module)
{
    PyType_Spec *specs[] = {&tagged_spec, &packed_spec, &handle_spec, &twice_spec, &node_spec};
    for (size_t number = 0; number < sizeof(specs) / sizeof(specs[0]); number++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[number], NULL);
        if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            Py_XDECREF(type);
            return -1;
        }
        Py_DECREF(type);
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, hidden_owner_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hidden_owner",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_hidden_owner(void)
{
    return PyModuleDef_Init(&definition);
}
