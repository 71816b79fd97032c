/* Planted: the cache of lookup() is a C static that nobody ever releases. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *cache;

static PyObject *
lookup(PyObject *module, PyObject *name)
{
    if (cache == NULL && (cache = PyDict_New()) == NULL) {
        return NULL;
    }
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

static PyMethodDef methods[] = {
    {"lookup", lookup, METH_O, NULL},
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
    .m_name = "static_cache",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_static_cache(void)
{
    return PyModuleDef_Init(&definition);
}
