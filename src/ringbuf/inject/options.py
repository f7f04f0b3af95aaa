"""What is to be recorded, as a text: for RINGBUF, and for requests to a process that runs. Imports nothing."""

from . import WORDS

__all__ = ["parse_words"]


def parse_words(words: "list[str]", more: "tuple[str, ...]" = ()) -> "dict[str, list[str]]":
    """{what: its arguments}, as `inject.parse` gives it, of words such as ``functions`` and ``include=shop``.

    Raises
    ------
    ValueError
        A word that is none of `inject.WORDS` or `more`, lacks its value, or has one that it does not take.
    """
    what: "dict[str, list[str]]" = {}
    for word in words:
        name, sign, value = word.partition("=")
        if name not in WORDS and name not in more:
            raise ValueError(f"{word!r} is none of {', '.join((*WORDS, *more))}")
        takes = WORDS.get(name, True)
        if takes is True and not value:
            raise ValueError(f"{name} needs a value: {name}=...")
        if takes is False and sign:
            raise ValueError(f"{name} takes no value, and has {value!r}")
        what.setdefault(name, []).extend([value] if value else [])
    return what
