/*
 * life.h - how long a Channel's mapping is there.
 *
 * One word, for there may be no GIL: how many uses there are (readers, reservations, views,
 * calls on their way), and whether the channel is closed. A closed one gets no new uses but
 * from those that it has; whoever ends the last of them unmaps it.
 *
 * The path of most records is no use, and shares no word with other threads. A thread that
 * has recorded into the channel is registered with it (producer.h); until that thread itself
 * ends the registration, the mapping stays. So only its first record is a use.
 */
#ifndef RINGBUF_LIFE_H
#define RINGBUF_LIFE_H

#include <Python.h>
#include <ringbuf/producer.h>

#ifdef Py_GIL_DISABLED
#define RINGBUF_NO_GIL 1
#else
#define RINGBUF_NO_GIL 0
#endif

#define RINGBUF_LIFE_CLOSED UINT64_C(1) /* alone: the end */
#define RINGBUF_LIFE_USE UINT64_C(2)

struct ringbuf_life {
	ringbuf_atomic_u64 word;
};

/* Nobody else has it yet. */
static inline void
ringbuf_life_set(struct ringbuf_life *life, int closed)
{
	/* relaxed: whoever gets the object gets it by something that orders it */
	ringbuf_store(&life->word, closed ? RINGBUF_LIFE_CLOSED : 0, RINGBUF_RELAXED);
}

/* One more use; with `has_one`, for who has one already. Returns 0 if the channel is closed. */
static inline int
ringbuf_life_enter(struct ringbuf_life *life, int has_one)
{
	uint64_t word = ringbuf_load(&life->word, RINGBUF_RELAXED); /* the swap checks it */

	do {
		if (word & RINGBUF_LIFE_CLOSED && (!has_one || word == RINGBUF_LIFE_CLOSED))
			return 0;
		/* relaxed both: what the use does comes before its leave, whose order counts */
	} while (!ringbuf_cas(&life->word, &word, word + RINGBUF_LIFE_USE, RINGBUF_RELAXED, RINGBUF_RELAXED));
	return 1;
}

/* The end of a use. Returns 1 to one caller, once: unmap. */
static inline int
ringbuf_life_leave(struct ringbuf_life *life)
{
	/* release: what this use did comes before the unmapping. acquire: what the others did, too.
	 * Pairs with itself, and with ringbuf_life_close. */
	return ringbuf_add(&life->word, -RINGBUF_LIFE_USE, RINGBUF_ACQ_REL) == (RINGBUF_LIFE_USE | RINGBUF_LIFE_CLOSED);
}

/* Returns 1 as ringbuf_life_leave; 0 too if it was closed already. */
static inline int
ringbuf_life_close(struct ringbuf_life *life)
{
	/* acquire: as in ringbuf_life_leave, with which it pairs. release: for whoever leaves last */
	return ringbuf_or(&life->word, RINGBUF_LIFE_CLOSED, RINGBUF_ACQ_REL) == 0;
}

/*
 * May the calling thread record without a use, if the channel is open? That it is open is to be asked afterwards,
 * with nothing in between that could end the registration: code of Python's.
 */
static inline int
ringbuf_is_known_here(const struct ringbuf_channel *ch)
{
#ifdef Py_GIL_DISABLED
	return ringbuf_known_producer(ch) != NULL;
#else
	(void)ch;
	return 1; /* it has the GIL, without which nobody closes */
#endif
}

/* A flag that one thread sets and others look at, with no other word behind it. */
static inline void
ringbuf_flag_set(int *flag, int value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELAXED); /* relaxed: see above */
}

static inline int
ringbuf_flag(const int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED); /* relaxed: see above */
}

/* A number that some threads find out, all the same one. */
static inline int64_t
ringbuf_number(const int64_t *number)
{
	return __atomic_load_n(number, __ATOMIC_RELAXED); /* relaxed: there is nothing behind it */
}

static inline void
ringbuf_number_set(int64_t *number, int64_t value)
{
	__atomic_store_n(number, value, __ATOMIC_RELAXED); /* relaxed: see above */
}

/*
 * An object that many threads call, and few make: its reference count is for none of them to write, as far as
 * this version of Python has a way to say so.
 */
static inline void
ringbuf_share(PyObject *object)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030e0000
	PyUnstable_Object_EnableDeferredRefcount(object);
#else
	(void)object;
#endif
}

/* A new reference to an item of what PySequence_Fast gave, which may be a list that others change; NULL: it is shorter. */
static inline PyObject *
ringbuf_item_of(PyObject *fast, Py_ssize_t i)
{
#ifdef Py_GIL_DISABLED
	if (PyList_Check(fast)) {
		PyObject *item = PyList_GetItemRef(fast, i);

		if (!item)
			PyErr_Clear(); /* IndexError */
		return item;
	}
#endif
	return i < PySequence_Fast_GET_SIZE(fast) ? Py_NewRef(PySequence_Fast_GET_ITEM(fast, i)) : NULL;
}

#endif /* RINGBUF_LIFE_H */
