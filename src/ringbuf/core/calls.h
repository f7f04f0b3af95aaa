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

/* 0 if none was set. */
static inline uint64_t
ringbuf_code_word(PyObject *code)
{
	void *word = NULL;

	if (RINGBUF_CODE_GET(code, ringbuf_code_index, &word)) {
		PyErr_Clear();
		return 0;
	}
	return (uint64_t)(uintptr_t)word;
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

#endif /* RINGBUF_CALLS_H */
