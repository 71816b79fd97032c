/* Planted: hold() wraps a reference in a capsule, which takes no part in collection; an object that keeps its own capsule
   is never freed. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static void
release(PyObject *capsule)
{
    Py_DECREF((PyObject *)PyCapsule_GetPointer(capsule, "capsule_owner.object"));
}

static PyObject *
hold(PyObject *module, PyObject *object)
{
    PyObject *capsule = PyCapsule_New(object, "capsule_owner.object", release);
    if (capsule != NULL) {
        Py_INCREF(object);
    }
    return capsule;
}

static PyMethodDef methods[] = {
    {"hold", hold, METH_O, NULL},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "capsule_owner",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_capsule_owner(void)
{
    return PyModuleDef_Init(&definition);
}
