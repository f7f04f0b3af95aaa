/*
 * calls.h - what CPython calls differently from version to version.
 *
 * A code object carries a word of ours: no table, no hashing of code, and it
 * goes when the code goes.
 */
#ifndef RINGBUF_CALLS_H
#define RINGBUF_CALLS_H

#include <Python.h>
#include <frameobject.h>
#include <stdint.h>
#include <string.h>

#include <ringbuf/files.h>

#include "life.h"

#if PY_VERSION_HEX < 0x030c0000
#define RINGBUF_CODE_INDEX _PyEval_RequestCodeExtraIndex
#define RINGBUF_CODE_GET _PyCode_GetExtra
#define RINGBUF_CODE_SET _PyCode_SetExtra
#else
#define RINGBUF_CODE_INDEX PyUnstable_Eval_RequestCodeExtraIndex
#define RINGBUF_CODE_GET PyUnstable_Code_GetExtra
#define RINGBUF_CODE_SET PyUnstable_Code_SetExtra
#endif

/* The task in whose step this thread is: the frame of its outermost coroutine that is recorded. */
struct ringbuf_step {
	void *frame;
	uint64_t strand;
};
static _Thread_local struct ringbuf_step ringbuf_step_here;

/* Whose `follow_greenlets` this thread has followed. */
static _Thread_local uint32_t ringbuf_followed_here;

#define RINGBUF_FRAME_CODE(frame) ((PyObject *)PyFrame_GetCode(frame))

static Py_ssize_t ringbuf_code_index = -1;

/* Returns 0, or -1 if as many others have asked for a word as there are. */
static int
ringbuf_code_init(void)
{
	if (ringbuf_code_index < 0)
		ringbuf_code_index = RINGBUF_CODE_INDEX(NULL);
	return ringbuf_code_index < 0 ? -1 : 0;
}

/* Where all interpreters of a kind keep what PyUnstable_Code_SetExtra sets, since 3.6. */
#if PY_VERSION_HEX < 0x030e0000 && !defined(Py_GIL_DISABLED)
#define RINGBUF_CODE_EXTRAS_ARE_KNOWN 1
struct ringbuf_code_extras {
	Py_ssize_t size;
	void *words[];
};
#endif

/* 0 if none was set. */
static inline uint64_t
ringbuf_code_word(PyObject *code)
{
	void *word = NULL;
#ifdef RINGBUF_CODE_EXTRAS_ARE_KNOWN
	const struct ringbuf_code_extras *extras =
		(const struct ringbuf_code_extras *)((PyCodeObject *)code)->co_extra;

	if (RINGBUF_LIKELY(extras && extras->size > ringbuf_code_index))
		word = extras->words[ringbuf_code_index];
	return (uint64_t)(uintptr_t)word;
#else

	if (RINGBUF_CODE_GET(code, ringbuf_code_index, &word)) {
		PyErr_Clear();
		return 0;
	}
	return (uint64_t)(uintptr_t)word;
#endif
}

static inline int
ringbuf_code_is_coroutine(PyObject *code)
{
	return (((PyCodeObject *)code)->co_flags & (CO_COROUTINE | CO_ITERABLE_COROUTINE)) != 0;
}

static inline void
ringbuf_code_set_word(PyObject *code, uint64_t word)
{
	if (RINGBUF_CODE_SET(code, ringbuf_code_index, (void *)(uintptr_t)word))
		PyErr_Clear(); /* no memory: asked again next time */
}

/*
 * What a C function is known by: its place in the table of its module or type, or a type of C's itself, neither of
 * which goes. NULL: it is no such function, but one of Python's, a class of Python's, or an object.
 */
static void *
ringbuf_c_function(PyObject *called)
{
	if (PyCFunction_CheckExact(called))
		return ((PyCFunctionObject *)called)->m_ml;
	if (Py_IS_TYPE(called, &PyMethodDescr_Type))
		return ((PyMethodDescrObject *)called)->d_method;
	if (PyType_Check(called) && !(((PyTypeObject *)called)->tp_flags & Py_TPFLAGS_HEAPTYPE))
		return called;
	return NULL;
}

/* The type whose method this is, from an instance's type up. */
static const char *
ringbuf_owner_of_method(PyTypeObject *type, const PyMethodDef *method)
{
	for (PyTypeObject *at = type; at; at = at->tp_base)
		for (const PyMethodDef *one = at->tp_methods; one && one->ml_name; one++)
			if (one == method)
				return at->tp_name;
	return type->tp_name;
}

/* Its name, without running anybody's code. */
static PyObject *
ringbuf_c_function_name(PyObject *called)
{
	const PyMethodDef *method;
	PyObject *self, *module, *name;

	if (PyType_Check(called))
		return PyUnicode_FromString(((PyTypeObject *)called)->tp_name);
	if (Py_IS_TYPE(called, &PyMethodDescr_Type))
		return PyUnicode_FromFormat("%s.%s", ((PyDescrObject *)called)->d_type->tp_name,
					    ((PyMethodDescrObject *)called)->d_method->ml_name);
	method = ((PyCFunctionObject *)called)->m_ml;
	self = ((PyCFunctionObject *)called)->m_self;
	module = ((PyCFunctionObject *)called)->m_module;
	if (self && PyModule_CheckExact(self)) {
		module = PyModule_GetNameObject(self);
		name = module ? PyUnicode_FromFormat("%U.%s", module, method->ml_name) : NULL;
		Py_XDECREF(module);
		return name;
	}
	if (self && PyType_Check(self)) /* a class method, or a static one */
		return PyUnicode_FromFormat("%s.%s", ringbuf_owner_of_method((PyTypeObject *)self, method),
					    method->ml_name);
	if (self)
		return PyUnicode_FromFormat("%s.%s", ringbuf_owner_of_method(Py_TYPE(self), method), method->ml_name);
	if (module && PyUnicode_Check(module))
		return PyUnicode_FromFormat("%U.%s", module, method->ml_name);
	return PyUnicode_FromString(method->ml_name);
}

/* Those who record calls: what the path of most calls looks at. */
struct ringbuf_calls {
	struct ringbuf_channel *ch;
	const int *is_closed; /* the channel is, to its users */
	int is_on;
	int is_direct; /* a record runs no Python code, and does not wait; none is chosen by its duration or depth */
	int is_retold; /* what was told once may be gone: see `left` */
	uint32_t begin_id, end_id;
	int64_t left; /* calls until everything is told again; of all threads */
};

#define RINGBUF_CALLS_TAKEN 256 /* by a thread at a time, of `left` */
static _Thread_local int32_t ringbuf_calls_left_here;

/* The era of now (calls.pxi). Any thread may begin another; who reads the old one makes a record that is one of before. */
static uint32_t ringbuf_code_era;

static inline uint32_t
ringbuf_era(void)
{
	/* relaxed: nothing is published by it. Pairs with ringbuf_set_era. */
	return __atomic_load_n(&ringbuf_code_era, __ATOMIC_RELAXED);
}

static void
ringbuf_set_era(uint32_t era)
{
	__atomic_store_n(&ringbuf_code_era, era, __ATOMIC_RELAXED); /* pairs with ringbuf_era */
}

/* Is it time to tell everything again? Counted for each thread, so that threads share no line for a call. */
static int
ringbuf_calls_take(struct ringbuf_calls *calls, int64_t of_an_era)
{
	ringbuf_calls_left_here = RINGBUF_CALLS_TAKEN;
	/* relaxed: a count. Pairs with itself and the store. */
	if (__atomic_sub_fetch(&calls->left, RINGBUF_CALLS_TAKEN, __ATOMIC_RELAXED) > 0)
		return 0;
	__atomic_store_n(&calls->left, of_an_era, __ATOMIC_RELAXED);
	return 1;
}

static inline int
ringbuf_calls_is_plain(const struct ringbuf_calls *calls)
{
	return calls->is_direct && ringbuf_is_known_here(calls->ch) && ringbuf_flag(&calls->is_on) &&
	       !ringbuf_flag(calls->is_closed);
}

/* A begin or an end. Lost, it is counted. */
RINGBUF_INLINE void
ringbuf_calls_put(const struct ringbuf_calls *calls, uint32_t event_id, uint32_t number)
{
	struct ringbuf_reservation r = {.event_id = event_id, .payload_size = sizeof(number)};

	if (RINGBUF_LIKELY(ringbuf_reserve(calls->ch, &r) == 0)) {
		memcpy(r.payload, &number, sizeof(number));
		ringbuf_commit(calls->ch, &r);
	}
}

/* A begin that is told late: it was at that time, of the channel's clock. */
static inline void
ringbuf_calls_put_begun(const struct ringbuf_calls *calls, uint32_t number, uint64_t began)
{
	struct ringbuf_reservation r = {.event_id = calls->begin_id, .payload_size = sizeof(number) + sizeof(began)};

	if (RINGBUF_LIKELY(ringbuf_reserve(calls->ch, &r) == 0)) {
		memcpy(r.payload, &number, sizeof(number));
		memcpy(r.payload + sizeof(number), &began, sizeof(began));
		ringbuf_commit(calls->ch, &r);
	}
}

/*
 * The path of most calls, in one piece with the callback around it: of a code that was told in this era, into a channel
 * that takes records as they come (`refuses`: not just now). Returns 0, with nothing done, if it needs more than that.
 */
RINGBUF_INLINE int
ringbuf_calls_put_told(const struct ringbuf_calls *calls, uint32_t event_id, PyObject *const *args, Py_ssize_t n,
		       int refuses)
{
	uint64_t word;

	if (RINGBUF_UNLIKELY(n < 1 || !PyCode_Check(args[0])))
		return 0;
	word = ringbuf_code_word(args[0]);
	if (RINGBUF_UNLIKELY(word >> 32 != ringbuf_era() || !(uint32_t)word || refuses ||
			     !ringbuf_calls_is_plain(calls)))
		return 0;
	ringbuf_calls_put(calls, event_id, (uint32_t)word);
	return 1;
}

/* What a callback returns for a call: a new reference, of which one that is immortal needs no count. */
static inline PyObject *
ringbuf_none(void)
{
#if PY_VERSION_HEX < 0x030c0000
	Py_INCREF(Py_None);
#endif
	return Py_None;
}

/* A callback of sys.monitoring: no arguments are parsed. */
#define RINGBUF_CALLBACK(name, function) \
	((PyMethodDef){name, (PyCFunction)(function), METH_FASTCALL, NULL})

#endif /* RINGBUF_CALLS_H */
