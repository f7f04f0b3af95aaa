"""Texts that any program may hold, made such that a record can."""

__all__ = ["encodable", "of_error"]

_ERROR_SIZE = 1000


def encodable(text: str) -> str:
    """The same, with escapes for what UTF-8 cannot say (lone surrogates, as in names of files)."""
    return text.encode("utf-8", "backslashreplace").decode()


def of_error(error: BaseException) -> str:
    """Name and text of an exception, the text up to a bound. Raises nothing, whatever the exception does."""
    name = type(error).__qualname__
    try:
        text = str(error)[:_ERROR_SIZE]
    except Exception:
        text = ""
    return encodable(f"{name}: {text}" if text else name)
