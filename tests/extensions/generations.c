/* Planted: each run of the exec function puts the module's function into a C static, and does not release the function of
   the module before. The story of _weakref (bpo-40050): an import that is repeated leaves one module per repetition. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *current;

static PyObject *
touch(PyObject *module, PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static PyMethodDef methods[] = {
    {"touch", touch, METH_O, NULL},
    {NULL},
};

static int
generations_exec(PyObject *module)
{
    current = PyObject_GetAttrString(module, "touch");
    return current == NULL ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, generations_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "generations",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_generations(void)
{
    return PyModuleDef_Init(&definition);
}
