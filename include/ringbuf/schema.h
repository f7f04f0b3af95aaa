/*
 * ringbuf/schema.h - event declarations, in the region but outside the ring.
 *
 * An event is its name and its field text ("order:u64,path:str"; grammar in
 * docs/formats.md). Declarations are appended, never changed; an event's id is
 * its place in the order. The same name and text give the same id, in every
 * process. A reader needs nothing else, and an overwriting ring loses none.
 */
#ifndef RINGBUF_SCHEMA_H
#define RINGBUF_SCHEMA_H

#include "channel.h"

struct ringbuf_schema_entry {
	uint32_t size; /* of this entry, a multiple of 8 */
	uint32_t id;
	uint32_t name_size, contexts_size, fields_size; /* bytes of the texts that follow, no NULs */
	uint32_t reserved;
};

/* One declaration; the texts are not NUL-terminated. */
struct ringbuf_schema {
	uint32_t id;
	const char *name, *contexts, *fields;
	uint32_t name_size, contexts_size, fields_size;
};

/*
 * ringbuf_next_schema - the declaration at *off, and *off moved past it.
 * Start with *off = 0. Returns 0 at the end, or where the area makes no sense.
 * Ordering: O12. Callers: anybody.
 */
RINGBUF_FUNC int
ringbuf_next_schema(const struct ringbuf_channel *ch, uint64_t *off, struct ringbuf_schema *out)
{
	/* O12 acquire: the entries below `used` are complete. Pairs with ringbuf_append_schema. */
	uint64_t used = ringbuf_load(&ch->control->schema_used, RINGBUF_ACQUIRE), texts;
	struct ringbuf_schema_entry e;
	const uint8_t *at;

	if (used > ch->schema_size || *off > used || used - *off < sizeof(e))
		return 0;
	at = ch->base + ch->schema_off + *off;
	memcpy(&e, at, sizeof(e)); /* once: what is checked is what is used */
	texts = (uint64_t)e.name_size + e.contexts_size + e.fields_size;
	if (e.size > used - *off || e.size % 8 || texts + sizeof(e) > e.size)
		return 0;
	out->id = e.id;
	out->name = (const char *)at + sizeof(e);
	out->name_size = e.name_size;
	out->contexts = out->name + e.name_size;
	out->contexts_size = e.contexts_size;
	out->fields = out->contexts + e.contexts_size;
	out->fields_size = e.fields_size;
	*off += e.size;
	return 1;
}

RINGBUF_FUNC int
ringbuf_schema_equals(const struct ringbuf_schema *a, const struct ringbuf_schema *b)
{
	return a->name_size == b->name_size && a->contexts_size == b->contexts_size &&
	       a->fields_size == b->fields_size && !memcmp(a->name, b->name, a->name_size) &&
	       !memcmp(a->contexts, b->contexts, a->contexts_size) &&
	       !memcmp(a->fields, b->fields, a->fields_size);
}

/* Under the schema lock. A death before the last store leaves no trace. */
RINGBUF_FUNC int
ringbuf_append_schema(const struct ringbuf_channel *ch, const struct ringbuf_schema *s)
{
	uint64_t used = ringbuf_load(&ch->control->schema_used, RINGBUF_RELAXED); /* locked */
	struct ringbuf_schema_entry e;
	uint8_t *at;

	memset(&e, 0, sizeof(e));
	e.size = (uint32_t)ringbuf_align_up(
		sizeof(e) + (uint64_t)s->name_size + s->contexts_size + s->fields_size, 8);
	e.id = s->id;
	e.name_size = s->name_size;
	e.contexts_size = s->contexts_size;
	e.fields_size = s->fields_size;
	if (used > ch->schema_size || e.size > ch->schema_size - used)
		return -ENOSPC;
	at = ch->base + ch->schema_off + used;
	memcpy(at, &e, sizeof(e));
	memcpy(at + sizeof(e), s->name, s->name_size);
	memcpy(at + sizeof(e) + s->name_size, s->contexts, s->contexts_size);
	memcpy(at + sizeof(e) + s->name_size + s->contexts_size, s->fields, s->fields_size);
	RINGBUF_TESTPOINT(schema_written);
	/* O12 release: the entry. Pairs with ringbuf_next_schema. */
	ringbuf_store(&ch->control->schema_used, used + e.size, RINGBUF_RELEASE);
	return 0;
}

/*
 * ringbuf_declare_event_after - as ringbuf_declare_event, for one who knows the first declarations: that it is
 * none of those before `off`, which are `id` in number. Both 0: it knows none.
 */
RINGBUF_FUNC int64_t
ringbuf_declare_event_after(struct ringbuf_channel *ch, uint64_t off, uint32_t id, const char *name,
			    const char *contexts, const char *fields)
{
	struct ringbuf_schema wanted, have;
	int64_t ret;

	memset(&wanted, 0, sizeof(wanted));
	if (!*name || strlen(name) > 65535 || strlen(contexts) > 65535 || strlen(fields) > 65535)
		return -EINVAL;
	wanted.id = id;
	wanted.name = name;
	wanted.name_size = (uint32_t)strlen(name);
	wanted.contexts = contexts;
	wanted.contexts_size = (uint32_t)strlen(contexts);
	wanted.fields = fields;
	wanted.fields_size = (uint32_t)strlen(fields);

	ret = ringbuf_robust_lock(&ch->control->schema_lock, 1);
	if (ret)
		return ret;
	while (ringbuf_next_schema(ch, &off, &have)) {
		if (ringbuf_schema_equals(&wanted, &have)) {
			ringbuf_robust_unlock(&ch->control->schema_lock);
			return have.id;
		}
		wanted.id++;
	}
	ret = ringbuf_append_schema(ch, &wanted);
	ringbuf_robust_unlock(&ch->control->schema_lock);
	return ret ? ret : (int64_t)wanted.id;
}

/*
 * ringbuf_declare_event - the id of an event, declared now if it was not yet.
 * Texts: name, event-level contexts ("" for none), fields.
 * Callers:  any thread; takes a lock that survives its owner's death.
 * Returns:  the id, >= 0; -ENOSPC the schema area is full; -EINVAL empty name
 *           or a text over 64 KiB; -EBUSY somebody has held the lock for five seconds; -errno.
 */
RINGBUF_FUNC int64_t
ringbuf_declare_event(struct ringbuf_channel *ch, const char *name, const char *contexts,
		      const char *fields)
{
	return ringbuf_declare_event_after(ch, 0, 0, name, contexts, fields);
}

#endif /* RINGBUF_SCHEMA_H */
