/*
 * ringbuf/context.h - contexts: fields that every record of a channel carries.
 *
 * The channel says which, as field text (docs/formats.md). What is constant for
 * a thread is encoded once, when it registers, into a block that each record
 * then copies: size and content agree because they are one thing. A context
 * that C code cannot know (the asyncio task, a user's own) is 0 or "" in it;
 * a Python producer brings its own block instead.
 */
#ifndef RINGBUF_CONTEXT_H
#define RINGBUF_CONTEXT_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout.h"

#define RINGBUF_CONTEXT_BLOCK_MAX 4096

/* Writes at most `left` bytes and returns how many the value takes. */
RINGBUF_FUNC size_t
ringbuf_put_context(uint8_t *at, size_t left, const void *value, size_t size)
{
	if (size <= left)
		memcpy(at, value, size);
	return size;
}

RINGBUF_FUNC size_t
ringbuf_put_procname(uint8_t *at, size_t left)
{
	char name[32] = "";
	FILE *f = fopen("/proc/self/comm", "re");

	if (f) {
		if (!fgets(name, sizeof(name), f))
			name[0] = 0;
		fclose(f);
	}
	name[strcspn(name, "\n")] = 0;
	return ringbuf_put_context(at, left, name, strlen(name) + 1);
}

/* Bytes of one element of a type that starts like `type`; 0: str. */
RINGBUF_FUNC size_t
ringbuf_element_size(const char *type)
{
	if (!strncmp(type, "str", 3))
		return 0;
	if (!strncmp(type, "bool", 4))
		return 1;
	if (!strncmp(type, "bytes", 5))
		return 1;
	return strtoul(type + 1, NULL, 10) / 8; /* u8 .. f64 */
}

/* 0, "" or nothing, for a context whose value is not known here. */
RINGBUF_FUNC size_t
ringbuf_put_default(uint8_t *at, size_t left, const char *type)
{
	const char *bracket = strpbrk(type, "[{,");
	size_t size = ringbuf_element_size(type), n = 1;

	if (!size)
		size = 1; /* the NUL */
	else if (!strncmp(type, "bytes", 5))
		size = 4; /* the count */
	else if (bracket && !strncmp(bracket, "[]", 2))
		size = 4;
	else if (bracket && *bracket == '[')
		n = strtoul(bracket + 1, NULL, 10);
	/* the text may be anybody's: nothing overflows */
	if (size > RINGBUF_CONTEXT_BLOCK_MAX || n > RINGBUF_CONTEXT_BLOCK_MAX)
		return RINGBUF_CONTEXT_BLOCK_MAX + 1;
	size *= n;
	if (size <= left)
		memset(at, 0, size);
	return size;
}

RINGBUF_FUNC size_t
ringbuf_put_named_context(uint8_t *at, size_t left, const char *field, const char *type)
{
	int32_t pid = (int32_t)getpid(), tid = (int32_t)syscall(SYS_gettid);

	if (!strncmp(field, "vpid:i32", 8))
		return ringbuf_put_context(at, left, &pid, 4);
	if (!strncmp(field, "vtid:i32", 8))
		return ringbuf_put_context(at, left, &tid, 4);
	if (!strncmp(field, "procname:str", 12))
		return ringbuf_put_procname(at, left);
	return ringbuf_put_default(at, left, type);
}

/*
 * ringbuf_encode_contexts - the calling thread's block for `contexts`.
 * Returns its size; if that exceeds `size`, the block is incomplete.
 */
RINGBUF_FUNC size_t
ringbuf_encode_contexts(const char *contexts, uint8_t *block, size_t size)
{
	size_t used = 0;

	while (*contexts && used <= size) {
		const char *type = strchr(contexts, ':');
		size_t left = size - used;
		int depth = 0;

		if (!type)
			break;
		used += ringbuf_put_named_context(block + used, left, contexts, type + 1);
		for (; *contexts && (depth || *contexts != ','); contexts++)
			depth += (*contexts == '{') - (*contexts == '}');
		contexts += *contexts == ',';
	}
	return used;
}

#endif /* RINGBUF_CONTEXT_H */
