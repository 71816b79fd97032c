/* Planted: keep() forgets a Py_DECREF, fetch() the new reference that a call has returned. hold() and look() are right. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *
hold(PyObject *module, PyObject *object)
{
    Py_INCREF(object);
    PyObject_Hash(module);
    Py_DECREF(object);
    Py_RETURN_NONE;
}

static PyObject *
keep(PyObject *module, PyObject *object)
{
    Py_INCREF(object); /* forgotten: Py_DECREF(object) */
    PyObject_Hash(module);
    Py_RETURN_NONE;
}

static PyObject *
look(PyObject *module, PyObject *object)
{
    PyObject *found = PyObject_GetAttrString(object, "held");
    Py_XDECREF(found);
    Py_RETURN_NONE;
}

static PyObject *
fetch(PyObject *module, PyObject *object)
{
    PyObject *found = PyObject_GetAttrString(object, "held"); /* forgotten: Py_DECREF(found) */
    if (found == NULL) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"hold", hold, METH_O, NULL},
    {"keep", keep, METH_O, NULL},
    {"look", look, METH_O, NULL},
    {"fetch", fetch, METH_O, NULL},
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
    .m_name = "blamed",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_blamed(void)
{
    return PyModuleDef_Init(&definition);
}
