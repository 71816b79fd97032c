/* Planted: parse() forgets a reference to its unfinished list when a word is not a number. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *
parse(PyObject *module, PyObject *text)
{
    PyObject *words = PyUnicode_Split(text, NULL, -1);
    if (words == NULL) {
        return NULL;
    }
    PyObject *numbers = PyList_New(0);
    for (Py_ssize_t i = 0; numbers != NULL && i < PyList_GET_SIZE(words); i++) {
        PyObject *number = PyLong_FromUnicodeObject(PyList_GET_ITEM(words, i), 10);
        if (number == NULL) {
            Py_DECREF(words);
            return NULL; /* without Py_DECREF(numbers) */
        }
        if (PyList_Append(numbers, number) < 0) {
            Py_CLEAR(numbers);
        }
        Py_DECREF(number);
    }
    Py_DECREF(words);
    return numbers;
}

static PyMethodDef methods[] = {
    {"parse", parse, METH_O, NULL},
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
    .m_name = "error_path",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_error_path(void)
{
    return PyModuleDef_Init(&definition);
}
