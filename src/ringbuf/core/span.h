/*
 * span.h - what spans need of C: ids, the record of an end, and whether a context's value is its own.
 */
#ifndef RINGBUF_SPAN_H
#define RINGBUF_SPAN_H

#include <Python.h>

#include "encode.h"

static uint64_t ringbuf_last_span_id;

static inline uint64_t
ringbuf_next_span_id(void)
{
	/* relaxed: a number that nobody else gets, no more. Pairs with itself, and with the store. */
	return __atomic_add_fetch(&ringbuf_last_span_id, 1, __ATOMIC_RELAXED);
}

/* Count on from here. By the first thread of the process alone: at import, and in a forked child. */
static void
ringbuf_begin_span_ids(uint64_t last)
{
	__atomic_store_n(&ringbuf_last_span_id, last, __ATOMIC_RELAXED); /* pairs with ringbuf_next_span_id */
}

/* The end of a span that no exception has left: its id, and an empty str. Returns as ringbuf_record_after. */
static inline int
ringbuf_record_span_end(struct ringbuf_channel *ch, const int *closed, uint32_t event_id, uint64_t id)
{
	uint8_t end[sizeof(id) + 1] = {0};

	memcpy(end, &id, sizeof(id));
	return ringbuf_record_after(ch, closed, event_id, end, sizeof(end), NULL, 0, NULL);
}

/*
 * Is a value of a context variable to be found by the current context alone?
 *
 * A context is a map that is never changed: to set a variable makes another one, of which all but some nodes are
 * those of the old one, and a copy of a context takes its map. So whoever else can find the value holds one more
 * reference to it, or to a node before it. Where each has but one, the value may be changed in place: that says what
 * setting the variable would say, for a quarter of its cost. What no longer counts references as this does, or makes
 * contexts otherwise, fails ringbuf_test_contexts, and variables are set.
 */
static int ringbuf_contexts_tell; /* written at import alone */

/* A node of a map that nobody else has: look further. A value of that name is no harm, as `wanted` counts its own. */
static int
ringbuf_visit_map(PyObject *object, void *wanted)
{
	const char *name;

	if (object == (PyObject *)wanted)
		return 1;
	name = Py_TYPE(object)->tp_name;
	if (Py_REFCNT(object) != 1 || name[0] != 'h' || name[1] != 'a' || name[2] != 'm' || name[3] != 't')
		return 0;
	return Py_TYPE(object)->tp_traverse(object, ringbuf_visit_map, wanted);
}

/* `references`: that the caller knows of, to the value. */
static inline int
ringbuf_is_alone_in(PyObject *context, PyObject *value, Py_ssize_t references)
{
	return context && Py_REFCNT(value) == references + 1 &&
	       Py_TYPE(context)->tp_traverse(context, ringbuf_visit_map, value) == 1;
}

static inline int
ringbuf_is_alone_here(PyObject *value, Py_ssize_t references)
{
	return ringbuf_contexts_tell && ringbuf_is_alone_in(PyThreadState_Get()->context, value, references);
}

/* Do copies of contexts show as this takes it? Returns 1 or 0, or -1 with an exception. */
static int
ringbuf_try_contexts(PyObject *context, PyObject *variable, PyObject *value)
{
	PyObject *other = PyContextVar_New("ringbuf_other", NULL), *token = NULL, *copy = NULL;
	int ret = -1;

	if (!other || !(token = PyContextVar_Set(variable, value)))
		goto done;
	Py_CLEAR(token);
	ret = ringbuf_is_alone_in(context, value, 1);
	copy = PyContext_Copy(context);
	if (!copy)
		ret = -1;
	if (ret <= 0)
		goto done;
	ret = !ringbuf_is_alone_in(context, value, 1);
	/* a copy that has gone on has another map, with the value in it */
	if (ret && PyContext_Enter(copy) == 0) {
		token = PyContextVar_Set(other, Py_None);
		ret = PyContext_Exit(copy) || !token ? -1 : !ringbuf_is_alone_in(context, value, 1);
	}
	Py_CLEAR(copy);
	Py_CLEAR(token); /* has the copy, too */
	if (ret > 0)
		ret = ringbuf_is_alone_in(context, value, 1);
done:
	Py_XDECREF(copy);
	Py_XDECREF(token);
	Py_XDECREF(other);
	return PyErr_Occurred() ? -1 : ret;
}

static int
ringbuf_test_contexts(PyObject *variable)
{
#ifndef Py_GIL_DISABLED /* there others may copy a context at any time */
	PyObject *context = PyContext_New(), *value = PyList_New(0);
	int ret = -1;

	if (context && value && PyContext_Enter(context) == 0) {
		ret = ringbuf_try_contexts(context, variable, value);
		if (PyContext_Exit(context))
			ret = -1;
	}
	Py_XDECREF(value);
	Py_XDECREF(context);
	ringbuf_contexts_tell = ret > 0;
	return ret < 0 ? -1 : 0;
#else
	(void)variable;
	return 0;
#endif
}

/* Instances of the type stand in a class for a method: `object.name()` makes no bound method first. */
static void
ringbuf_be_methods(PyObject *object)
{
	((PyTypeObject *)object)->tp_flags |= Py_TPFLAGS_METHOD_DESCRIPTOR;
	PyType_Modified((PyTypeObject *)object);
}

#endif /* RINGBUF_SPAN_H */
