"""Common Trace Format: event schemas, the metadata that describes a trace, written and parsed."""
