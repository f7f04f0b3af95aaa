"""Each memory order in the headers says why it is there, and docs/memory-ordering.md says it once more.

Comments about orders drift: the code changes, the comment and the table stay. So the tags (O1, O2, ...) in the
comments are compared with the orders in the code beside them, and with the table.
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEADERS = sorted(ROOT.glob("include/ringbuf/*.h"))
TABLE = (ROOT / "docs/memory-ordering.md").read_text()

TAG = re.compile(r"\bO[1-9][0-9]?\b")
ORDER = re.compile(r"\bRINGBUF_(RELAXED|ACQUIRE|RELEASE|ACQ_REL|SEQ_CST)\b")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
FUNCTION = re.compile(r"^(?:RINGBUF_(?:INLINE|FUNC|SLOW)\b.*\n?.*?|static .*\n)\b(ringbuf_\w+)\(", re.M)
REASON = re.compile(r"relaxed|\bown\b|statistic", re.I)
NEAR = 8  # lines above an order in which its comment begins


class Use:
    """One order in the code: where it stands, what it is an argument of, and what the comments beside it say."""

    def __init__(self, header, code, text, match):
        self.order = match[1]
        self.line = code.count("\n", 0, match.start()) + 1
        self.where = f"{header}:{self.line}"
        self.function = None
        call = _opening(code, match.start())
        self.operation = re.search(r"ringbuf_(\w+)\s*\Z", code[:call])[1]
        end = min((at for at in (code.find(";", match.end()), code.find("{", match.end())) if at >= 0))
        first = code.count("\n", 0, call) + 1
        last = code.count("\n", 0, end) + 1
        lines = text.splitlines()
        beside = "\n".join(lines[max(0, first - 1 - NEAR) : last])
        # The window may begin inside a comment.
        if "*/" in beside and ("/*" not in beside or beside.find("*/") < beside.find("/*")):
            beside = "/*" + beside
        self.comments = "\n".join(COMMENT.findall(beside))
        self.tags = set(TAG.findall(self.comments))

    @property
    def sides(self):
        if self.order in ("ACQ_REL", "SEQ_CST") and self.operation not in ("load", "store"):
            return {"release", "acquire"}
        return {"acquire"} if self.operation == "load" or self.order == "ACQUIRE" else {"release"}


def _opening(code, at):
    """Index of the parenthesis that the text at `at` is inside of."""
    depth = 0
    while depth >= 0:
        at -= 1
        depth += (code[at] == ")") - (code[at] == "(")
    return at


def _without_comments(text):
    return COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _uses(path):
    text = path.read_text()
    code = _without_comments(text)
    for match in ORDER.finditer(code):
        line = code[code.rfind("\n", 0, match.start()) + 1 : match.start()]
        if "#define" not in line and not code[: match.start()].rstrip().endswith("\\"):
            yield Use(path.name, code, text, match)


def _functions(path):
    """Name -> text, with the comment before it."""
    text = path.read_text()
    found = {}
    for match in FUNCTION.finditer(text):
        if text.find(";", match.end()) < text.find("{", match.end()):
            continue  # declared here, defined elsewhere
        end = text.find("\n}", match.end())
        begin = match.start()
        before = text[:begin].rstrip()
        if before.endswith("*/"):
            begin = before.rfind("/*")
        found[match[1]] = (begin, end, text[begin:end])
    return found


def _all_uses(path):
    text = path.read_text()
    for use in _uses(path):
        for name, (begin, end, _) in _functions(path).items():
            if text.count("\n", 0, begin) < use.line <= text.count("\n", 0, end) + 1:
                use.function = name
        yield use


USES = [use for path in HEADERS if path.name != "atomic.h" for use in _all_uses(path)]
FUNCTIONS = {name: parts for path in HEADERS for name, parts in _functions(path).items()}
ROWS = {}
for _line in TABLE.splitlines():
    if _line.startswith("| O"):
        _cells = [cell.strip() for cell in _line.strip("| ").split(" | ")]
        ROWS[_cells[0]] = _cells


def test_the_parser_sees_the_headers():
    assert len(USES) > 100
    assert {"load", "store", "add", "cas"} <= {use.operation for use in USES}
    assert "ringbuf_reserve_fast" in FUNCTIONS and "ringbuf_deliver" in FUNCTIONS


def test_every_order_stronger_than_relaxed_has_a_tag():
    bare = [f"{use.where} {use.operation} {use.order}" for use in USES if use.order != "RELAXED" and not use.tags]
    assert not bare, bare


def test_every_tag_has_both_sides():
    sides = defaultdict(set)
    for use in USES:
        if use.order != "RELAXED":
            for tag in use.tags:
                sides[tag] |= use.sides
    assert {tag: seen for tag, seen in sides.items() if seen != {"release", "acquire"}} == {}


def test_every_tag_has_a_row_and_every_row_a_tag():
    comments = [comment for path in HEADERS for comment in COMMENT.findall(path.read_text())]
    assert set(ROWS) == {tag for comment in comments for tag in TAG.findall(comment)}
    used = {tag for use in USES if use.order != "RELAXED" for tag in use.tags}
    assert set(ROWS) == used


@pytest.mark.parametrize("tag", sorted(ROWS, key=lambda tag: int(tag[1:])))
def test_functions_in_the_table_carry_the_tag(tag):
    """Columns: tag, word, release side, acquire side, what it carries, ..."""
    for side_name, side in (("release", ROWS[tag][2]), ("acquire", ROWS[tag][3])):
        names = re.findall(r"`(ringbuf_\w+)`", side)
        assert names, f"{tag}: no function is named in {side!r}"
        for name in names:
            assert name in FUNCTIONS, f"{tag}: there is no function {name}"
            text = "\n".join(COMMENT.findall(FUNCTIONS[name][2]))
            assert tag in TAG.findall(text), f"{name} does not mention {tag}"
            sides = set().union(*(use.sides for use in USES if use.function == name and use.order != "RELAXED"))
            assert side_name in sides, f"{name} has no {side_name} for {tag}"


def test_every_function_that_releases_or_acquires_is_in_the_table():
    for path in HEADERS:
        for name, (_, _, text) in _functions(path).items():
            code = _without_comments(text)
            if path.name == "atomic.h" or not any(order != "RELAXED" for order in ORDER.findall(code)):
                continue
            tags = set(TAG.findall("\n".join(COMMENT.findall(text)))) & set(ROWS)
            assert any(f"`{name}`" in ROWS[tag][2] + ROWS[tag][3] for tag in tags), f"{name} is in none of {tags}"


def test_every_relaxed_order_has_a_reason():
    """Beside it, in its function, or in the comment before the function."""
    bare = []
    for path in HEADERS:
        if path.name == "atomic.h":
            continue
        whole = path.read_text()
        spans = [
            (text, whole.count("\n", 0, begin) + 1, whole.count("\n", 0, end) + 1)
            for begin, end, text in _functions(path).values()
        ]
        for use in _uses(path):
            if use.order != "RELAXED":
                continue
            around = [text for text, first, last in spans if first <= use.line <= last]
            comments = use.comments + "\n".join(COMMENT.findall("\n".join(around)))
            if not (REASON.search(comments) or TAG.search(comments)):
                bare.append(use.where)
    assert not bare, bare
