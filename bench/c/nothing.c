/*
 * nothing.c - the least that CPython lets things cost, as a module: callbacks of sys.monitoring that do nothing, and
 * context managers that do nothing, or set a context variable twice.
 */
#include <Python.h>

static PyObject *variable;

struct manager {
	PyObject_HEAD
	PyObject *outer;
};

static PyObject *
callback(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	(void)self, (void)args, (void)n;
	Py_RETURN_NONE;
}

static PyObject *
enter_empty(PyObject *self, PyObject *nothing)
{
	(void)nothing;
	return Py_NewRef(self);
}

static PyObject *
enter_setter(PyObject *self, PyObject *nothing)
{
	PyObject *token;

	(void)nothing;
	if (PyContextVar_Get(variable, NULL, &((struct manager *)self)->outer) ||
	    !(token = PyContextVar_Set(variable, variable)))
		return NULL;
	Py_DECREF(token);
	return Py_NewRef(self);
}

static PyObject *
exit_setter(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	PyObject *token = PyContextVar_Set(variable, ((struct manager *)self)->outer);

	(void)args, (void)n;
	Py_CLEAR(((struct manager *)self)->outer);
	if (!token)
		return NULL;
	Py_DECREF(token);
	Py_RETURN_NONE;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef of_empty[] = {
	{"__enter__", enter_empty, METH_NOARGS, NULL},
	{"__exit__", FAST(callback), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};
static PyMethodDef of_setter[] = {
	{"__enter__", enter_setter, METH_NOARGS, NULL},
	{"__exit__", FAST(exit_setter), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};
static PyMethodDef of_module[] = {
	{"begin", FAST(callback), METH_FASTCALL, NULL},
	{"end", FAST(callback), METH_FASTCALL, NULL},
	{NULL, NULL, 0, NULL},
};

static PyTypeObject Empty = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "nothing.Empty",
	.tp_basicsize = sizeof(struct manager),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_methods = of_empty,
};
static PyTypeObject Setter = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "nothing.Setter",
	.tp_basicsize = sizeof(struct manager),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_methods = of_setter,
};

/* Made by a call with any arguments, as spans are. */
static PyObject *
make(PyObject *type, PyObject *const *args, size_t n, PyObject *names)
{
	struct manager *made = PyObject_New(struct manager, (PyTypeObject *)type);

	(void)args, (void)n, (void)names;
	if (made)
		made->outer = NULL;
	return (PyObject *)made;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "nothing", NULL, -1, of_module, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC __attribute__((visibility("default")))
PyInit_nothing(void)
{
	PyObject *module;

	Empty.tp_vectorcall = Setter.tp_vectorcall = make;
	variable = PyContextVar_New("nothing", Py_None);
	if (!variable || PyType_Ready(&Empty) || PyType_Ready(&Setter) || !(module = PyModule_Create(&definition)))
		return NULL;
	if (PyModule_AddObject(module, "Empty", Py_NewRef((PyObject *)&Empty)) ||
	    PyModule_AddObject(module, "Setter", Py_NewRef((PyObject *)&Setter)))
		return NULL;
	return module;
}
