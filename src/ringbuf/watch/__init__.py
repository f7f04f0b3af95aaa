"""Triggers: a snapshot when something happens. `Tracer.watch`, and RINGBUF_WATCH for programs as they are."""
