/*
 * encode.h - Python arguments to an event's field bytes.
 *
 * Two passes. Measuring checks every argument and may run Python code, raise,
 * or take memory; it leaves plain values and pointers. Then space is reserved,
 * and writing only copies: it cannot fail, so no record is ever half-written.
 * Needs the GIL (or the caller's hold on the arguments) throughout.
 *
 * Format of each field: docs/formats.md. Host byte order, packed.
 */
#ifndef RINGBUF_ENCODE_H
#define RINGBUF_ENCODE_H

#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030b0000
#include <longintrepr.h>
#endif

#include <ringbuf/files.h>

#include "life.h"

enum ringbuf_kind {
	RINGBUF_KIND_UINT,
	RINGBUF_KIND_INT,
	RINGBUF_KIND_FLOAT,
	RINGBUF_KIND_BOOL,
	RINGBUF_KIND_STR,
	RINGBUF_KIND_BYTES,
};

/* How a field stands in a record. */
enum ringbuf_form {
	RINGBUF_FORM_8, /* numbers and bools of so many bytes */
	RINGBUF_FORM_4,
	RINGBUF_FORM_2,
	RINGBUF_FORM_1,
	RINGBUF_FORM_STR,
	RINGBUF_FORM_MANY, /* bytes, sequences, arrays */
};

struct ringbuf_field {
	uint8_t kind;         /* of one element */
	uint8_t form;
	uint8_t size;         /* bytes of one element, numbers and bools */
	uint8_t is_many;      /* sequence or array */
	uint32_t length;      /* array: its number of elements; 0: sequence, with a count before it */
	uint64_t max;         /* integers: the largest */
	PyObject *name;       /* str, borrowed from the event's tuple of names */
	PyObject *enum_class; /* or NULL, borrowed likewise */
};

/* One measured argument. */
struct ringbuf_value {
	uint64_t bits;      /* a scalar, as it will stand in the record */
	const char *data;   /* anything longer */
	Py_ssize_t size;    /* bytes it takes in the record, count or NUL included */
	Py_ssize_t len;     /* str: UTF-8 bytes; bytes: bytes; many: elements */
	uint8_t has_nul, has_view, has_memory;
	Py_buffer view;     /* valid if has_view */
};

static int
ringbuf_type_error(const struct ringbuf_field *f, const char *wanted, PyObject *arg)
{
	if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError))
		PyErr_Format(PyExc_TypeError, "field '%U': %s is required, not %.100s", f->name, wanted,
			     Py_TYPE(arg)->tp_name);
	return -1;
}

static int
ringbuf_range_error(const struct ringbuf_field *f, PyObject *arg)
{
	PyErr_Format(PyExc_OverflowError, "field '%U': %R is out of range for %c%d", f->name, arg,
		     f->kind == RINGBUF_KIND_UINT ? 'u' : f->kind == RINGBUF_KIND_INT ? 'i'
										      : 'f',
		     f->size * 8);
	return -1;
}

/* The text of a UnicodeEncodeError is made of its parts: the field is named in the last one. */
static void
ringbuf_name_field_of_text(const struct ringbuf_field *f, PyObject *error)
{
	PyObject *reason = PyUnicodeEncodeError_GetReason(error);
	PyObject *named = reason ? PyUnicode_FromFormat("%U, in field '%U'", reason, f->name) : NULL;
	const char *chars = named ? PyUnicode_AsUTF8(named) : NULL;

	if (!chars || PyUnicodeEncodeError_SetReason(error, chars))
		PyErr_Clear();
	Py_XDECREF(reason);
	Py_XDECREF(named);
}

/* An exception that Python raised for an argument, and not the argument's own code: say which field it was. */
static void
ringbuf_name_field(const struct ringbuf_field *f)
{
	PyObject *type, *error, *traceback, *text, *begin;

	PyErr_Fetch(&type, &error, &traceback);
	if (!traceback && type == PyExc_UnicodeEncodeError) {
		PyErr_NormalizeException(&type, &error, &traceback);
		if (type == PyExc_UnicodeEncodeError)
			ringbuf_name_field_of_text(f, error);
		PyErr_Restore(type, error, traceback);
		return;
	}
	if (traceback || (type != PyExc_ValueError && type != PyExc_TypeError && type != PyExc_OverflowError &&
			  type != PyExc_BufferError)) {
		PyErr_Restore(type, error, traceback);
		return;
	}
	text = error ? PyObject_Str(error) : NULL;
	begin = PyUnicode_FromFormat("field '%U'", f->name);
	if (!text || !begin || PyUnicode_Tailmatch(text, begin, 0, PY_SSIZE_T_MAX, -1)) {
		PyErr_Clear();
		PyErr_Restore(type, error, traceback);
	} else {
		PyErr_Format(type, "field '%U': %U", f->name, text);
		Py_XDECREF(type);
		Py_XDECREF(error);
	}
	Py_XDECREF(text);
	Py_XDECREF(begin);
}

static int
ringbuf_measure_uint(const struct ringbuf_field *f, PyObject *number, uint64_t *bits)
{
	unsigned long long v = PyLong_AsUnsignedLongLong(number);

	if (v == (unsigned long long)-1 && PyErr_Occurred()) {
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return -1;
		PyErr_Clear();
		return ringbuf_range_error(f, number);
	}
	if (f->size < 8 && v >> (f->size * 8))
		return ringbuf_range_error(f, number);
	*bits = v;
	return 0;
}

static int
ringbuf_measure_sint(const struct ringbuf_field *f, PyObject *number, uint64_t *bits)
{
	int overflow, shift = 64 - f->size * 8;
	long long v = PyLong_AsLongLongAndOverflow(number, &overflow);

	if (v == -1 && !overflow && PyErr_Occurred())
		return -1;
	if (overflow || (long long)((unsigned long long)v << shift) >> shift != v)
		return ringbuf_range_error(f, number);
	*bits = (uint64_t)v;
	return 0;
}

static int
ringbuf_measure_long(const struct ringbuf_field *f, PyObject *number, uint64_t *bits)
{
	return f->kind == RINGBUF_KIND_UINT ? ringbuf_measure_uint(f, number, bits)
					    : ringbuf_measure_sint(f, number, bits);
}

/* Not an int object: an enum member, or something with __index__ (a NumPy integer). */
static int
ringbuf_measure_index(const struct ringbuf_field *f, PyObject *arg, uint64_t *bits)
{
	PyObject *number;
	int ret;

	if (f->enum_class && Py_TYPE(arg) == (PyTypeObject *)f->enum_class)
		number = PyObject_GetAttrString(arg, "value");
	else
		number = PyNumber_Index(arg);
	if (!number)
		return ringbuf_type_error(f, f->enum_class ? "a member or an int" : "an int", arg);
	ret = ringbuf_measure_long(f, number, bits);
	Py_DECREF(number);
	return ret;
}

/* Is it infinite, or (a long double, say) only too large for a float? */
static int
ringbuf_is_infinite(PyObject *arg, double v)
{
	PyObject *infinity = PyFloat_FromDouble(v);
	int ret = infinity ? PyObject_RichCompareBool(arg, infinity, Py_EQ) : -1;

	Py_XDECREF(infinity);
	return ret == 1;
}

static int
ringbuf_measure_float(const struct ringbuf_field *f, PyObject *arg, uint64_t *bits)
{
	double v = PyFloat_CheckExact(arg) ? PyFloat_AS_DOUBLE(arg) : PyFloat_AsDouble(arg);

	if (v == -1.0 && PyErr_Occurred())
		return PyErr_ExceptionMatches(PyExc_TypeError) ? ringbuf_type_error(f, "a float", arg) : -1;
	if (isinf(v) && !PyFloat_Check(arg) && !ringbuf_is_infinite(arg, v))
		return PyErr_Occurred() ? -1 : ringbuf_range_error(f, arg);
	if (f->size == 4) {
		float narrow = (float)v;
		uint32_t half;

		if (isinf(narrow) && !isinf(v))
			return ringbuf_range_error(f, arg);
		memcpy(&half, &narrow, 4);
		*bits = half;
	} else {
		memcpy(bits, &v, 8);
	}
	return 0;
}

static int
ringbuf_is_numpy_bool(PyObject *arg)
{
	const char *name = Py_TYPE(arg)->tp_name;

	return !strcmp(name, "numpy.bool_") || !strcmp(name, "numpy.bool");
}

static int
ringbuf_measure_bool(const struct ringbuf_field *f, PyObject *arg, uint64_t *bits)
{
	if (!PyBool_Check(arg) && !ringbuf_is_numpy_bool(arg))
		return ringbuf_type_error(f, "a bool", arg);
	*bits = (uint64_t)(PyObject_IsTrue(arg) == 1);
	return 0;
}

/* Read a non-negative int of one digit (before 3.12: or two), which most are, where it stands.
 * Returns 0 if it is another. */
static inline int
ringbuf_small_uint(PyObject *number, uint64_t *bits)
{
#if PY_VERSION_HEX >= 0x030c0000
	const PyLongObject *v = (const PyLongObject *)number;

	if (!PyUnstable_Long_IsCompact(v) || PyUnstable_Long_CompactValue(v) < 0)
		return 0;
	*bits = (uint64_t)PyUnstable_Long_CompactValue(v);
	return 1;
#else
	const digit *d = ((const PyLongObject *)number)->ob_digit;

	switch (Py_SIZE(number)) {
	case 0: *bits = 0; return 1;
	case 1: *bits = d[0]; return 1;
	case 2: *bits = d[0] | (uint64_t)d[1] << PyLong_SHIFT; return 1;
	default: return 0;
	}
#endif
}

static int
ringbuf_measure_scalar_slow(const struct ringbuf_field *f, PyObject *arg, uint64_t *bits)
{
	switch (f->kind) {
	case RINGBUF_KIND_UINT:
	case RINGBUF_KIND_INT:
		return PyLong_Check(arg) ? ringbuf_measure_long(f, arg, bits)
					 : ringbuf_measure_index(f, arg, bits);
	case RINGBUF_KIND_FLOAT:
		return ringbuf_measure_float(f, arg, bits);
	default:
		return ringbuf_measure_bool(f, arg, bits);
	}
}

/* What most arguments are, without a call. Returns 0 if it is none of these. */
RINGBUF_INLINE int
ringbuf_measure_usual(const struct ringbuf_field *f, PyObject *arg, uint64_t *bits)
{
	if (f->kind <= RINGBUF_KIND_INT)
		return PyLong_Check(arg) && ringbuf_small_uint(arg, bits) && *bits <= f->max;
	if (f->kind == RINGBUF_KIND_FLOAT && f->size == 8 && PyFloat_CheckExact(arg)) {
		double v = PyFloat_AS_DOUBLE(arg);

		memcpy(bits, &v, 8);
		return 1;
	}
	return 0;
}

static inline int
ringbuf_measure_scalar(const struct ringbuf_field *f, PyObject *arg, uint64_t *bits)
{
	return ringbuf_measure_usual(f, arg, bits) ? 0 : ringbuf_measure_scalar_slow(f, arg, bits);
}

#define RINGBUF_SHORT 16 /* bytes that two overlapping words hold: no call for strings up to this */

/* Copy up to RINGBUF_SHORT bytes. */
static inline void
ringbuf_copy_short(uint8_t *at, const char *s, size_t len)
{
	if (len >= 8) {
		uint64_t first, last;

		memcpy(&first, s, 8);
		memcpy(&last, s + len - 8, 8);
		memcpy(at, &first, 8);
		memcpy(at + len - 8, &last, 8);
	} else if (len >= 4) {
		uint32_t first, last;

		memcpy(&first, s, 4);
		memcpy(&last, s + len - 4, 4);
		memcpy(at, &first, 4);
		memcpy(at + len - 4, &last, 4);
	} else if (len) {
		at[0] = (uint8_t)s[0];
		at[len / 2] = (uint8_t)s[len / 2];
		at[len - 1] = (uint8_t)s[len - 1];
	}
}

static inline int
ringbuf_has_nul(const char *s, size_t len)
{
	uint64_t words[2] = {UINT64_MAX, UINT64_MAX};
	const uint64_t ones = UINT64_C(0x0101010101010101);

	if (len > RINGBUF_SHORT)
		return memchr(s, 0, len) != NULL;
	ringbuf_copy_short((uint8_t *)words, s, len);
	return (((words[0] - ones) & ~words[0]) | ((words[1] - ones) & ~words[1])) & ones << 7 ? 1 : 0;
}

/* U+0000 would end the string early: it is written as C0 80, as Java and JNI do. */
static Py_ssize_t
ringbuf_count_nul(const char *s, Py_ssize_t len)
{
	Py_ssize_t n = 0;

	for (Py_ssize_t i = 0; i < len; i++)
		n += !s[i];
	return n;
}

static inline int
ringbuf_measure_str(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	if (!PyUnicode_Check(arg))
		return ringbuf_type_error(f, "a str", arg);
	if (PyUnicode_IS_COMPACT_ASCII(arg)) {
		v->data = (const char *)PyUnicode_DATA(arg);
		v->len = PyUnicode_GET_LENGTH(arg);
	} else {
		v->data = PyUnicode_AsUTF8AndSize(arg, &v->len);
		if (!v->data)
			return -1; /* UnicodeEncodeError: a lone surrogate */
	}
	v->has_nul = (uint8_t)ringbuf_has_nul(v->data, (size_t)v->len);
	v->size = v->len + 1;
	if (v->has_nul)
		v->size += ringbuf_count_nul(v->data, v->len);
	return 0;
}

/* Are the bytes of a buffer of this format what its elements are, not pointers or characters that stand for them? */
static int
ringbuf_is_of_numbers(const char *format)
{
	int in_name = 0;

	for (; format && *format; format++) {
		if (*format == ':') /* around a field's name */
			in_name = !in_name;
		else if (!in_name && strchr("OPXZzwuUMm&", *format))
			return 0;
	}
	return 1;
}

/* NumPy gives the memory of these out as if it were bytes, or values that are masked as if they were there. */
static int
ringbuf_is_disguised(PyObject *arg)
{
	const char *name = Py_TYPE(arg)->tp_name;

	return !strcmp(name, "numpy.datetime64") || !strcmp(name, "numpy.timedelta64") ||
	       !strcmp(name, "MaskedArray");
}

static int
ringbuf_measure_bytes(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	if (PyBytes_CheckExact(arg)) {
		v->data = PyBytes_AS_STRING(arg);
		v->len = PyBytes_GET_SIZE(arg);
	} else {
		if (ringbuf_is_disguised(arg) ||
		    PyObject_GetBuffer(arg, &v->view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT))
			return ringbuf_type_error(f, "a bytes-like object", arg);
		v->has_view = 1;
		if (!ringbuf_is_of_numbers(v->view.format))
			return ringbuf_type_error(f, "a bytes-like object", arg);
		v->data = (const char *)v->view.buf;
		v->len = v->view.len;
	}
	if (v->len > (Py_ssize_t)UINT32_MAX) {
		PyErr_Format(PyExc_OverflowError, "field '%U': more than 4 GiB", f->name);
		return -1;
	}
	v->size = 4 + v->len;
	return 0;
}

/* Do the buffer's elements stand in memory as they will in the record? */
static int
ringbuf_same_elements(const struct ringbuf_field *f, const Py_buffer *view)
{
	const char *format = view->format ? view->format : "B";

	if (*format == '@' || *format == '=' || *format == '<') /* host order: see ctf.h */
		format++;
	if (view->ndim != 1 || view->itemsize != f->size || !format[0] || format[1])
		return 0;
	switch (f->kind) {
	case RINGBUF_KIND_UINT: return strchr("BHILQN", *format) != NULL;
	case RINGBUF_KIND_INT: return strchr("bhilqn", *format) != NULL;
	case RINGBUF_KIND_FLOAT: return strchr("fd", *format) != NULL;
	default: return *format == '?';
	}
}

static int
ringbuf_check_count(const struct ringbuf_field *f, struct ringbuf_value *v)
{
	if (f->length && v->len != (Py_ssize_t)f->length) {
		PyErr_Format(PyExc_ValueError, "field '%U': %u elements are required, not %zd", f->name,
			     f->length, v->len);
		return -1;
	}
	if (v->len > (Py_ssize_t)UINT32_MAX) {
		PyErr_Format(PyExc_OverflowError, "field '%U': more than 2**32 - 1 elements", f->name);
		return -1;
	}
	v->size = v->len * f->size + (f->length ? 0 : 4);
	return 0;
}

/* Any sequence of numbers: convert one by one into memory of our own. */
static int
ringbuf_measure_items(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	PyObject *fast;
	char *out = NULL;
	int ret = -1, failed;

	if (PyUnicode_Check(arg) || !(fast = PySequence_Fast(arg, "")))
		return ringbuf_type_error(f, "a sequence or an array", arg);
	v->len = PySequence_Fast_GET_SIZE(fast);
	if (ringbuf_check_count(f, v))
		goto done;
	out = (char *)PyMem_Malloc(v->len ? (size_t)v->len * f->size : 1);
	if (!out) {
		PyErr_NoMemory();
		goto done;
	}
	v->data = out;
	v->has_memory = 1;
	for (Py_ssize_t i = 0; i < v->len; i++) {
		uint64_t bits = 0;
		PyObject *item;

		item = ringbuf_item_of(fast, i);
		if (!item) { /* an item's __index__ shrank the list, or another thread */
			PyErr_Format(PyExc_RuntimeError, "field '%U': changed size while recorded", f->name);
			goto done;
		}
		failed = ringbuf_measure_scalar(f, item, &bits);
		Py_DECREF(item);
		if (failed)
			goto done;
		memcpy(out + i * f->size, &bits, f->size);
	}
	ret = 0;
done:
	Py_DECREF(fast);
	return ret;
}

static int
ringbuf_measure_many(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	if (ringbuf_is_disguised(arg))
		return ringbuf_type_error(f, "a sequence or an array", arg);
	if (PyObject_CheckBuffer(arg) &&
	    PyObject_GetBuffer(arg, &v->view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) == 0) {
		if (ringbuf_same_elements(f, &v->view)) {
			v->has_view = 1;
			v->data = (const char *)v->view.buf;
			v->len = v->view.len / f->size;
			return ringbuf_check_count(f, v);
		}
		PyBuffer_Release(&v->view);
	}
	if (PyErr_Occurred() && PyMemoryView_Check(arg) && PyErr_ExceptionMatches(PyExc_ValueError))
		return -1; /* released: as a sequence, some versions of Python take it for an empty one */
	PyErr_Clear();
	return ringbuf_measure_items(f, arg, v);
}

static int
ringbuf_measure_long_form(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	if (f->is_many)
		return ringbuf_measure_many(f, arg, v);
	return ringbuf_measure_bytes(f, arg, v);
}

/* Check one argument. Returns 0, or -1 with an exception. */
static inline int
ringbuf_measure(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	v->has_view = v->has_memory = 0;
	if (f->form < RINGBUF_FORM_STR) {
		v->size = f->size;
		return ringbuf_measure_scalar(f, arg, &v->bits);
	}
	if (f->form == RINGBUF_FORM_STR)
		return ringbuf_measure_str(f, arg, v);
	return ringbuf_measure_long_form(f, arg, v);
}

/* As ringbuf_measure; what is raised says which field it was. */
static inline int
ringbuf_measure_named(const struct ringbuf_field *f, PyObject *arg, struct ringbuf_value *v)
{
	if (ringbuf_measure(f, arg, v) == 0)
		return 0;
	ringbuf_name_field(f);
	return -1;
}

/* Give back what measuring took. */
static inline void
ringbuf_value_release(struct ringbuf_value *v)
{
	if (v->has_view)
		PyBuffer_Release(&v->view);
	if (v->has_memory)
		PyMem_Free((void *)v->data);
}

static void
ringbuf_write_str_with_nul(uint8_t *at, const struct ringbuf_value *v)
{
	for (Py_ssize_t i = 0; i < v->len; i++) {
		if (v->data[i]) {
			*at++ = (uint8_t)v->data[i];
		} else {
			*at++ = 0xc0;
			*at++ = 0x80;
		}
	}
	*at = 0;
}

static void
ringbuf_write_many(const struct ringbuf_field *f, const struct ringbuf_value *v, uint8_t *at)
{
	if (!f->length) {
		uint32_t count = (uint32_t)v->len;

		memcpy(at, &count, 4);
		at += 4;
	}
	memcpy(at, v->data, (size_t)v->len * (f->is_many ? f->size : 1));
}

static inline void
ringbuf_write_str(const struct ringbuf_value *v, uint8_t *at)
{
	if (v->has_nul) {
		ringbuf_write_str_with_nul(at, v);
		return;
	}
	if (v->len <= RINGBUF_SHORT)
		ringbuf_copy_short(at, v->data, (size_t)v->len);
	else
		memcpy(at, v->data, (size_t)v->len);
	at[v->len] = 0;
}

/* Of a form before RINGBUF_FORM_STR. */
RINGBUF_INLINE void
ringbuf_write_number(const struct ringbuf_field *f, const struct ringbuf_value *v, uint8_t *at)
{
	switch (f->form) {
	case RINGBUF_FORM_8: memcpy(at, &v->bits, 8); break;
	case RINGBUF_FORM_4: memcpy(at, &v->bits, 4); break;
	case RINGBUF_FORM_2: memcpy(at, &v->bits, 2); break;
	default: *at = (uint8_t)v->bits;
	}
}

/* Write one measured argument; v->size bytes. Cannot fail. */
static inline void
ringbuf_write_value(const struct ringbuf_field *f, const struct ringbuf_value *v, uint8_t *at)
{
	if (f->form < RINGBUF_FORM_STR)
		ringbuf_write_number(f, v, at);
	else if (f->form == RINGBUF_FORM_STR)
		ringbuf_write_str(v, at);
	else
		ringbuf_write_many(f, v, at);
}

/* The smallest thing a field can hold: 0, "" or nothing; for a context without a value. */
static inline void
ringbuf_default_value(const struct ringbuf_field *f, struct ringbuf_value *v)
{
	static const char zeros[8];

	memset(v, 0, sizeof(*v));
	v->data = zeros;
	if (f->is_many) {
		v->size = f->length ? (Py_ssize_t)f->length * f->size : 4;
		if (f->length) { /* an array has its length, whatever happens */
			v->data = (const char *)PyMem_Calloc(f->length, f->size);
			v->len = v->data ? (Py_ssize_t)f->length : 0;
			v->has_memory = v->data != NULL;
		}
	} else if (f->kind == RINGBUF_KIND_STR) {
		v->size = 1;
	} else {
		v->size = f->kind == RINGBUF_KIND_BYTES ? 4 : f->size;
	}
}

/* Give back what measuring the first n values took. */
static void
ringbuf_values_release(struct ringbuf_value *values, Py_ssize_t n)
{
	for (Py_ssize_t i = 0; i < n; i++)
		ringbuf_value_release(&values[i]);
}

/* The same while an exception is on its way: releasing a buffer may run Python code. */
static void
ringbuf_values_abandon(struct ringbuf_value *values, Py_ssize_t n)
{
	PyObject *type, *error, *traceback;

	PyErr_Fetch(&type, &error, &traceback);
	ringbuf_values_release(values, n);
	PyErr_Restore(type, error, traceback);
}

/* Measure n arguments. Returns their total size, or -1 with an exception and nothing held;
 * *holds says whether there is something to release. */
static inline Py_ssize_t
ringbuf_measure_values(const struct ringbuf_field *fields, Py_ssize_t n, PyObject *const *args,
		       struct ringbuf_value *values, int *holds)
{
	Py_ssize_t total = 0;

	*holds = 0;
	for (Py_ssize_t i = 0; i < n; i++) {
		if (RINGBUF_UNLIKELY(ringbuf_measure(&fields[i], args[i], &values[i]))) {
			ringbuf_name_field(&fields[i]);
			ringbuf_values_abandon(values, i + 1);
			return -1;
		}
		*holds |= values[i].has_view | values[i].has_memory;
		total += values[i].size;
	}
	return total;
}

static inline void
ringbuf_write_values(const struct ringbuf_field *fields, Py_ssize_t n, const struct ringbuf_value *values,
		     uint8_t *at)
{
	for (Py_ssize_t i = 0; i < n; i++) {
		ringbuf_write_value(&fields[i], &values[i], at);
		at += values[i].size;
	}
}

#define RINGBUF_FEW_FIELDS 16 /* their values live on the stack */

/*
 * The path of most records: nothing between arguments and ring but measuring
 * can call back. `closed` becomes true when the channel is closed, which
 * measuring may do. The record begins with `n_start` bytes that are as they will stand in it.
 * Returns: 1 recorded, 0 lost, -1 with an exception, -2: the channel is closed.
 */
RINGBUF_INLINE int
ringbuf_record_after(struct ringbuf_channel *ch, const int *closed, uint32_t event_id, const void *start,
		     Py_ssize_t n_start, const struct ringbuf_field *fields, Py_ssize_t n, PyObject *const *args)
{
	struct ringbuf_value values[RINGBUF_FEW_FIELDS];
	struct ringbuf_reservation r = {.event_id = event_id};
	int holds = 0, ret = -2, is_number = n == 1 && fields->form < RINGBUF_FORM_STR;
	Py_ssize_t total;

	if (is_number && RINGBUF_LIKELY(ringbuf_measure_usual(fields, args[0], &values->bits)))
		total = fields->size; /* without a call: what most events are */
	else
		total = ringbuf_measure_values(fields, n, args, values, &holds);
	if (RINGBUF_UNLIKELY(total < 0))
		return -1;
	if (RINGBUF_LIKELY(!ringbuf_flag(closed))) {
		r.payload_size = (uint64_t)(n_start + total);
		ret = ringbuf_reserve(ch, &r) == 0;
		if (RINGBUF_LIKELY(ret)) {
			if (n_start)
				memcpy(r.payload, start, (size_t)n_start);
			if (is_number)
				ringbuf_write_number(fields, values, r.payload + n_start);
			else
				ringbuf_write_values(fields, n, values, r.payload + n_start);
			ringbuf_commit(ch, &r);
		}
	}
	if (RINGBUF_UNLIKELY(holds))
		ringbuf_values_release(values, n);
	return ret;
}

RINGBUF_INLINE int
ringbuf_record_args(struct ringbuf_channel *ch, const int *closed, uint32_t event_id,
		    const struct ringbuf_field *fields, Py_ssize_t n, PyObject *const *args)
{
	return ringbuf_record_after(ch, closed, event_id, NULL, 0, fields, n, args);
}

/* A run of bytes that stand in a row of an array as they will in the record. */
struct ringbuf_run {
	size_t off, size;
};

static inline void
ringbuf_write_row(const struct ringbuf_run *runs, Py_ssize_t n, const char *row, uint8_t *at)
{
	for (Py_ssize_t i = 0; i < n; i++) {
		if (runs[i].size <= RINGBUF_SHORT)
			ringbuf_copy_short(at, row + runs[i].off, runs[i].size);
		else
			memcpy(at, row + runs[i].off, runs[i].size);
		at += runs[i].size;
	}
}

#define RINGBUF_ROWS_BYTES 4096 /* claimed at once, at most: who dies over them tears them all */
#define RINGBUF_ROW_HEADER 24   /* bytes, at most, with padding */

/* How many rows are claimed at once. */
static inline Py_ssize_t
ringbuf_rows_at_once(struct ringbuf_channel *ch, const struct ringbuf_reservation *r)
{
	const struct ringbuf_producer *self = ringbuf_this_producer(ch);
	uint64_t context = r->context ? r->context_size : self ? self->context_size
							       : 0;
	uint64_t room = ringbuf_bounded(RINGBUF_ROWS_BYTES, ringbuf_subbuf_size(&ch->geometry) / 16);
	uint64_t each = r->payload_size + context + RINGBUF_ROW_HEADER;

	return ch->client || each > room ? 1 : (Py_ssize_t)(room / each);
}

/* Record some rows as one claim. Returns as ringbuf_reserve; -EAGAIN: there is no room for so many. */
static inline int
ringbuf_record_at_once(struct ringbuf_channel *ch, const struct ringbuf_reservation *like,
		       const struct ringbuf_run *runs, Py_ssize_t n, const char *row, Py_ssize_t stride,
		       Py_ssize_t n_rows)
{
	struct ringbuf_reservation r = *like;
	int ret;

	r.n_more = (uint16_t)(n_rows - 1);
	if (n_rows > 1)
		r.flags |= RINGBUF_NONBLOCK;
	ret = ringbuf_reserve(ch, &r);
	if (RINGBUF_UNLIKELY(ret))
		return ret;
	ringbuf_write_row(runs, n, row, r.payload);
	while (--n_rows) {
		row += stride;
		ringbuf_next_record(ch, &r);
		ringbuf_write_row(runs, n, row, r.payload);
	}
	ringbuf_commit(ch, &r);
	return 0;
}

/* Record `n_rows` rows, `stride` bytes apart. Returns how many were; the others are lost and
 * counted. `r` says event, payload size and context. Runs without the GIL. */
static inline Py_ssize_t
ringbuf_record_rows(struct ringbuf_channel *ch, const struct ringbuf_reservation *r,
		    const struct ringbuf_run *runs, Py_ssize_t n, const char *row, Py_ssize_t stride,
		    Py_ssize_t n_rows)
{
	Py_ssize_t recorded = 0, at_once = n_rows > 1 ? ringbuf_rows_at_once(ch, r) : 1;

	while (n_rows) {
		Py_ssize_t some = n_rows < at_once ? n_rows : at_once;
		int ret = ringbuf_record_at_once(ch, r, runs, n, row, stride, some);

		if (ret == -EAGAIN && some > 1) {
			some = 1;
			ret = ringbuf_record_at_once(ch, r, runs, n, row, stride, some);
		}
		recorded += ret ? 0 : some;
		n_rows -= some;
		row += some * stride;
	}
	return recorded;
}

/* Methods of a type of Cython's that are called as they are, with nothing of Cython's around them. The first of
 * `methods` without a name ends them. */
static int
ringbuf_add_methods(PyObject *object, PyMethodDef *methods)
{
	PyTypeObject *type = (PyTypeObject *)object;

	for (; methods->ml_name; methods++) {
		PyObject *method = PyDescr_NewMethod(type, methods);

		if (!method || PyDict_SetItemString(type->tp_dict, methods->ml_name, method)) {
			Py_XDECREF(method);
			return -1;
		}
		Py_DECREF(method);
	}
	PyType_Modified(type);
	return 0;
}

/* Make instances of the type `object` callable through the vectorcallfunc at `offset`. */
static void
ringbuf_enable_vectorcall(PyObject *object, Py_ssize_t offset)
{
	PyTypeObject *type = (PyTypeObject *)object;

	type->tp_vectorcall_offset = offset;
	type->tp_call = PyVectorcall_Call;
	type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
	PyType_Modified(type);
}

#endif /* RINGBUF_ENCODE_H */
