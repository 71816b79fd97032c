/* Planted: two functions keep a cache in a static of their own, both called `cache`; nobody ever releases them. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *
first(PyObject *module, PyObject *name)
{
    static PyObject *cache;
    if (cache == NULL && (cache = PyDict_New()) == NULL) {
        return NULL;
    }
    if (PyDict_SetItem(cache, name, name) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
second(PyObject *module, PyObject *name)
{
    if (PyUnicode_Check(name)) {
        static PyObject *cache; /* in a block of its own */
        if (cache == NULL && (cache = PyList_New(0)) == NULL) {
            return NULL;
        }
        if (PyList_Append(cache, name) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"first", first, METH_O, NULL},
    {"second", second, METH_O, NULL},
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
    .m_name = "function_static",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_function_static(void)
{
    return PyModuleDef_Init(&definition);
}
