"""The event ``log``: docs/formats.md, "Spans, calls, log records"."""

__all__ = ["LOG_FIELDS"]

LOG_FIELDS = {
    "level": "i32{NOTSET=0,DEBUG=10,INFO=20,WARNING=30,ERROR=40,CRITICAL=50}",
    "logger": "str",
    "message": "str",
    "file": "str",
    "line": "u32",
    "function": "str",
    "exception": "str",
}
