/* Planted: subscribe() keeps the callback in a C++ object of a static vector, and nobody ever unsubscribes. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>
#include <vector>

namespace {

class Listener {
public:
    explicit Listener(PyObject *callback) : callback_(callback) { Py_INCREF(callback_); }
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;
    virtual ~Listener() {} // when the static vector goes, the interpreter is gone: too late to release anything
    virtual PyObject *call() const { return PyObject_CallObject(callback_, nullptr); }

private:
    PyObject *callback_;
};

std::vector<std::unique_ptr<Listener>> listeners;

PyObject *subscribe(PyObject *, PyObject *callback)
{
    listeners.push_back(std::make_unique<Listener>(callback));
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"subscribe", subscribe, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "cpp_owner", nullptr, 0, methods, slots, nullptr, nullptr, nullptr,
};

} // namespace

PyMODINIT_FUNC
PyInit_cpp_owner(void)
{
    return PyModuleDef_Init(&definition);
}
