"""Texts that any program may hold, made such that a record can, and a terminal."""

__all__ = ["encodable", "of_error", "printable", "printable_lines"]

_ERROR_SIZE = 1000

# What makes a terminal do something, or shows a text as another one: control characters, ends of lines, marks of
# direction, characters without width (but the joiners, which scripts need), lone surrogates, what is no character.
_ELSEWHERE = (
    "\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f"
)
_UNSAFE = f"[\x00-\x1f{_ELSEWHERE}]"
_UNSAFE_IN_LINES = f"[\x00-\x09\x0b-\x1f{_ELSEWHERE}]"


def encodable(text: str) -> str:
    """The same, with escapes for what UTF-8 cannot say (lone surrogates, as in names of files)."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The same as one line that does nothing to a terminal: for every name that somebody else has chosen.

    What is unsafe is there as an escape of JSON's, so that JSON stays what it was.

    >>> printable("a\x1b[2J\u202e")
    'a\\\\u001b[2J\\\\u202e'
    """
    return text if text.isprintable() else _substituted(_UNSAFE, text)


def printable_lines(text: str) -> str:
    """As `printable`, of several lines."""
    return _substituted(_UNSAFE_IN_LINES, text)


def _substituted(pattern: str, text: str) -> str:
    import re  # not at the top: errors and records need this module, and mostly not that one

    return re.sub(pattern, _escaped, text)


def _escaped(found) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def of_error(error: BaseException) -> str:
    """Name and text of an exception, the text up to a bound. Raises nothing, whatever the exception does."""
    name = type(error).__qualname__
    try:
        text = str(error)[:_ERROR_SIZE]
    except Exception:
        text = ""
    return encodable(f"{name}: {text}" if text else name)
