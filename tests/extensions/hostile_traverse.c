/* Planted: tp_traverse functions that no emulator or none in full can run: for `refdbg visits` only. The collector must
   be off before an object of these types is made. Each object holds one other, `held`. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *held;
} hostile_object;

static volatile long traversals;
static volatile char elsewhere[3 * 4096];

static int
honest_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((hostile_object *)op)->held);
    return 0;
}

/* Half of its visits, then no end. */
static int
looping_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    for (volatile int forever = 1; forever;) {
    }
    return 0;
}

/* Visits without end. */
static int
endless_traverse(PyObject *op, visitproc visit, void *arg)
{
    for (volatile int forever = 1; forever;) {
        Py_VISIT(Py_TYPE(op));
    }
    return 0;
}

static int
crashing_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return *(volatile int *)0;
}

static int
jumping_traverse(PyObject *op, visitproc visit, void *arg)
{
    int (*volatile nowhere)(void) = (int (*)(void))0x1230;
    return nowhere() + 1;
}

/* Counts its calls: what it visits is known. */
static int
counting_traverse(PyObject *op, visitproc visit, void *arg)
{
    traversals++;
    return honest_traverse(op, visit, arg);
}

static int
scribbling_traverse(PyObject *op, visitproc visit, void *arg)
{
    elsewhere[0] = elsewhere[4096] = elsewhere[2 * 4096] = 1;
    return honest_traverse(op, visit, arg);
}

static int
avx_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    __asm__ volatile("vaddps %%xmm1, %%xmm2, %%xmm0" ::: "xmm0");
    Py_VISIT(((hostile_object *)op)->held);
    return 0;
}

/* An SSE instruction first: it is run with vector instructions allowed, and must still not run the AVX one. */
static int
sse_avx_traverse(PyObject *op, visitproc visit, void *arg)
{
    __asm__ volatile("xorps %%xmm1, %%xmm1" ::: "xmm1");
    return avx_traverse(op, visit, arg);
}

static int
sse_traverse(PyObject *op, visitproc visit, void *arg)
{
    __asm__ volatile("xorps %%xmm1, %%xmm1" ::: "xmm1");
    return honest_traverse(op, visit, arg);
}

/* VEX-coded too, and understood by the emulator: andn. */
static int
bmi_traverse(PyObject *op, visitproc visit, void *arg)
{
    __asm__ volatile("xorps %%xmm1, %%xmm1\n\tandn %%rax, %%rax, %%rcx" ::: "xmm1", "rcx", "cc");
    return honest_traverse(op, visit, arg);
}

static int
junk_traverse(PyObject *op, visitproc visit, void *arg)
{
    int result = visit((PyObject *)0xdeadbeef1, arg);
    return result ? result : honest_traverse(op, visit, arg);
}

static int
hostile_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyObject *held;
    if (!PyArg_ParseTuple(args, "O", &held)) {
        return -1;
    }
    Py_INCREF(held);
    ((hostile_object *)op)->held = held;
    return 0;
}

static int
hostile_clear(PyObject *op)
{
    Py_CLEAR(((hostile_object *)op)->held);
    return 0;
}

static void
hostile_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    hostile_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static const struct {
    const char *name;
    traverseproc traverse;
} kinds[] = {
    {"Honest", honest_traverse},
    {"Looping", looping_traverse},
    {"Endless", endless_traverse},
    {"Crashing", crashing_traverse},
    {"Jumping", jumping_traverse},
    {"Counting", counting_traverse},
    {"Scribbling", scribbling_traverse},
    {"Avx", avx_traverse},
    {"SseAvx", sse_avx_traverse},
    {"Sse", sse_traverse},
    {"Bmi", bmi_traverse},
    {"Junk", junk_traverse},
};

static char names[sizeof(kinds) / sizeof(kinds[0])][64]; /* a type of 3.9 refers to its name */

static int
hostile_exec(PyObject *module)
{
    for (size_t n = 0; n < Py_ARRAY_LENGTH(kinds); n++) {
        PyOS_snprintf(names[n], sizeof(names[n]), "%s.%s", PyModule_GetName(module), kinds[n].name);
        PyType_Slot slots[] = {
            {Py_tp_init, hostile_init},
            {Py_tp_traverse, kinds[n].traverse},
            {Py_tp_clear, hostile_clear},
            {Py_tp_dealloc, hostile_dealloc},
            {0, NULL},
        };
        PyType_Spec spec = {
            .name = names[n],
            .basicsize = sizeof(hostile_object),
            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
            .slots = slots,
        };
        PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
        if (type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            Py_XDECREF(type);
            return -1;
        }
        Py_DECREF(type);
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, hostile_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hostile_traverse",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_hostile_traverse(void)
{
    return PyModuleDef_Init(&definition);
}
