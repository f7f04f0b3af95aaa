"""Texts that come from anywhere, on their way to a terminal."""

import json
import sys
import unicodedata

import pytest

from ringbuf import RegionError, TraceError
from ringbuf.texts import printable, printable_lines

DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_nothing_that_acts_on_a_terminal_is_left():
    for code in range(sys.maxunicode + 1):
        one = chr(code)
        acts = unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(one) in DIRECTIONS
        if acts:
            assert printable(one).isprintable(), hex(code)
            assert printable_lines(one).isprintable() or one == "\n", hex(code)
        elif one.isprintable():
            assert printable(one) == one, hex(code)


def test_words_of_all_scripts_stay_as_they_are():
    for text in ("Grüße", "日本語　空白", "می\u200cخواهم", "👩\u200d🚀", "a\\b", ""):
        assert printable(text) == text


def test_lines_stay_lines():
    assert printable("a\nb\t") == "a\\u000ab\\u0009"
    assert printable_lines("a\nb\t\r\n") == "a\nb\\u0009\\u000d\n"


def test_json_stays_what_it_was():
    value = {"a\x9b\u202e": "\U000e0001\u2028", "b": "\x1b"}
    assert json.loads(printable(json.dumps(value, ensure_ascii=False))) == value


@pytest.mark.parametrize("kind", [RegionError, TraceError])
def test_errors_can_be_printed(kind):
    assert str(kind("no \x1b]0;title\x07 here\n")) == "no \\u001b]0;title\\u0007 here\\u000a"
