/* Planted: wait() makes a list that only a variable on its C stack holds, and never returns. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <unistd.h>

static PyObject *
wait_forever(PyObject *module, PyObject *ready)
{
    PyObject *volatile own = Py_BuildValue("[s]", "on a C stack");
    PyObject *result = own == NULL ? NULL : PyObject_CallNoArgs(ready);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_BEGIN_ALLOW_THREADS
    for (;;) {
        pause();
    }
    Py_END_ALLOW_THREADS
    Py_DECREF(own);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"wait", wait_forever, METH_O, NULL},
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
    .m_name = "stack_owner",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_stack_owner(void)
{
    return PyModuleDef_Init(&definition);
}
