"""schema.py: field text and objects."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringbuf.ctf import schema
from ringbuf.ctf.schema import EventSchema, Field

NUMBERS = [*schema.INTEGERS, *schema.FLOATS]


def limits(base):
    bits, signed = schema.INTEGERS[base]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@st.composite
def fields(draw):
    kind = draw(st.sampled_from(["number", "many", "bool", "str", "bytes", "enum"]))
    name = draw(names)
    if kind == "enum":
        base = draw(st.sampled_from(list(schema.INTEGERS)))
        labels = draw(st.dictionaries(names, st.integers(*limits(base)), min_size=1, max_size=5))
        return Field(name, base, labels=tuple(labels.items()))
    if kind == "many":
        return Field(name, draw(st.sampled_from([*NUMBERS, "bool"])), length=draw(st.integers(0, 5)))
    if kind == "bytes":
        return Field(name, "bytes", align=2 ** draw(st.integers(0, 12)))
    return Field(name, draw(st.sampled_from(NUMBERS)) if kind == "number" else kind)


schemas = st.lists(fields(), max_size=8, unique_by=lambda field: field.name)


@given(schemas)
def test_text_and_fields_stand_for_each_other(fields):
    text = schema.to_text(fields)
    assert schema.parse(text) == tuple(fields)
    assert schema.canonical(text) == text


def test_every_type_has_the_expected_canonical_text():
    text = (
        "a:u8,b:i64,c:f32,d:f64,e:bool,f:str,g:bytes,h:bytes@64,i:u32[],j:f64[3],k:bool[],l:bool[2],"
        "m:u8{RED=0,GREEN=1},n:i16{LOW=-5}"
    )
    assert schema.canonical(text) == text


def test_spaces_and_an_alignment_of_one_disappear():
    spaced = " a : u8 ,b: u32 [ ] ,\tc:f64[ 3 ], d:bytes @ 1, e:u8{ X = 0 , Y = 1 } "
    assert schema.canonical(spaced) == "a:u8,b:u32[],c:f64[3],d:bytes,e:u8{X=0,Y=1}"


def test_no_text_means_no_fields():
    assert schema.parse("") == schema.parse("  ") == ()
    assert schema.to_text([]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "a", "a:", ":u8", "a:u8,", ",a:u8", "a:u8,,b:u8", "a:u7", "a:U8", "a:u8[0]", "a:u8[-1]", "a:u8[01]", "a:u8[x]",
        "a:u8[4294967296]", "a:u8[99999999999999999999]", "a:str[]", "a:bytes[]", "a:u8[][]", "a:u8@2", "a:bytes@3",
        "a:bytes@0", "a:bytes@8192", "a:bytes@08", "a:u8{}", "a:u8{X}", "a:u8{X=}", "a:u8{=1}", "a:u8{X=256}",
        "a:u8{X=-1}", "a:i8{X=128}", "a:u8{X=0x1}", "a:u8{X=01}", "a:u8{X=-0}", "a:u8{X=0,X=1}", "a:u8{X Y=0}",
        "a:u8{X=0}[]", "a:f32{X=0}",
        "a:str{X=0}", "a:u8,a:u16", "1a:u8", "a b:u8", "é:u8", "a:u8}", "a:u8{X=0", "a:u64{X=18446744073709551616}",
        "a:u64{X=" + "9" * 5000 + "}", "a:u8[" + "9" * 5000 + "]", "a-b:u8", "a:u8{X={1}}",
    ],
)  # fmt: skip
def test_text_outside_the_grammar_is_refused(text):
    with pytest.raises(ValueError):
        schema.parse(text)


def test_the_message_names_the_field():
    with pytest.raises(ValueError, match="'speed'.*'fast' is not a type"):
        schema.parse("id:u8,speed:fast")


@pytest.mark.parametrize("name", ["class", "struct", "int", "event", "_", "__x", "align", "uint8_t", "None"])
def test_keywords_of_any_language_are_names(name):
    assert schema.parse(f"{name}:u8")[0].name == name


class Colour(enum.Enum):
    RED = 0
    GREEN = 1
    CRIMSON = 0  # an alias


class Level(enum.IntEnum):
    LOW = -1
    HIGH = 200


class Mode(enum.IntFlag):
    NONE = 0
    READ = 1
    WRITE = 2
    BOTH = 3


def test_a_mapping_gives_fields_in_its_order():
    fields = schema.from_mapping({"order": "u64", "path": "str", "tags": " u32[] ", "colour": Colour})
    assert schema.to_text(fields) == "order:u64,path:str,tags:u32[],colour:u8{RED=0,GREEN=1}"


@pytest.mark.parametrize(
    ("cls", "text"),
    [(Colour, "u8{RED=0,GREEN=1}"), (Level, "i16{LOW=-1,HIGH=200}"), (Mode, "u8{NONE=0,READ=1,WRITE=2,BOTH=3}")],
)
def test_enumeration_classes_become_labels_without_aliases(cls, text):
    assert schema.from_mapping({"x": cls})[0].type == text


@pytest.mark.parametrize(
    ("values", "base"),
    [
        ([0], "u8"), ([255], "u8"), ([256], "u16"), ([2**16], "u32"), ([2**32], "u64"), ([2**64 - 1], "u64"),
        ([-1], "i8"), ([-129], "i16"), ([-1, 128], "i16"), ([-(2**63)], "i64"), ([-1, 2**32], "i64"),
    ],
)  # fmt: skip
def test_the_container_is_the_smallest_that_holds_every_value(values, base):
    cls = enum.Enum("cls", {f"V{index}": value for index, value in enumerate(values)})
    assert schema.from_mapping({"x": cls})[0].base == base


@pytest.mark.parametrize("values", [{"A": 2**64}, {"A": -1, "B": 2**63}, {"A": "text"}, {"A": 1.0}, {"a b": 1}, {}])
def test_enumerations_that_no_container_holds_are_refused(values):
    with pytest.raises(ValueError):
        schema.from_mapping({"x": enum.Enum("cls", values)})


@pytest.mark.parametrize("kind", [int, 8, None, object()])
def test_other_python_types_are_no_field_types(kind):
    with pytest.raises(TypeError):
        schema.from_mapping({"x": kind})


def test_the_argument_kind_of_every_type():
    fields = schema.parse("a:u8,b:f32,c:bool,d:str,e:bytes@8,f:u8{X=0},g:i32[],h:bool[4]")
    assert [field.kind for field in fields] == ["int", "float", "bool", "str", "bytes", "enum", "sequence", "array"]


def test_an_event_keeps_canonical_text():
    event = EventSchema(3, "checkout", contexts=" vpid : i32 ", fields="order: u64, ms :f64")
    assert (event.contexts, event.fields) == ("vpid:i32", "order:u64,ms:f64")


@pytest.mark.parametrize(("id_", "name"), [(-1, "x"), (2**32, "x"), (0, ""), (0, "a\0b"), (0, "\ud800")])
def test_events_need_an_id_of_32_bits_and_a_name(id_, name):
    with pytest.raises(ValueError):
        EventSchema(id_, name)


@pytest.mark.parametrize("kind", ["bytes", "bytes@8", "u8[]", "bool[]"])
def test_an_event_has_no_sequences_of_its_own_as_contexts(kind):
    EventSchema(0, "x", fields=f"a:{kind}")
    with pytest.raises(ValueError, match="'x': a context cannot be"):
        EventSchema(0, "x", contexts=f"n:u8,a:{kind}")


@pytest.mark.parametrize("name", [None, 1, b"order"])
def test_names_are_str(name):
    with pytest.raises(TypeError, match="name"):
        schema.EventSchema(0, name)
    with pytest.raises(ValueError, match="name"):
        schema.from_mapping({name: "u8"})
