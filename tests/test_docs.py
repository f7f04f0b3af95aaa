"""What the documents say about the tree and the layout is so."""

import platform
import re
import subprocess
from pathlib import Path

import needs
import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text() for path in DOCS}

#: Paths in the text, from the root or, of headers and modules, by name alone; not of other projects or of examples.
PATH = re.compile(
    r"(?<![\w/.-])"
    r"((?:include|src|tests|docs|bench|examples|tools)/[\w./*{},-]*[\w*/]|[\w-]+\.(?:h|py|pyx|pxd|pxi|pyi|md))"
    r"(?![\w-])"
)
ELSEWHERE = {"lttng-ring-buffer-client.h", "string.h", "shop.py", "app.py"}
FOLDERS = ("include/ringbuf", "docs", "tests", "tests/c", "tests/model", "examples", ".")
SOURCES = {path.name for path in (ROOT / "src").rglob("*") if path.is_file()}


def exists(name, document):
    if "*" in name or "{" in name:
        return True
    if "/" in name:
        return (ROOT / name).exists()
    folders = (*FOLDERS, Path(document).parent.as_posix())
    return name in SOURCES or any((ROOT / folder / name).exists() for folder in folders)


@pytest.mark.parametrize("document", TEXT)
def test_paths_in_the_text_exist(document):
    # The build makes what is below build/.
    text = re.sub(r"\b(?:build|dist)/\S+", "", TEXT[document])
    names = {name.rstrip("/") for name in PATH.findall(text)} - ELSEWHERE
    missing = sorted(name for name in names if not exists(name, document))
    assert not missing


@pytest.mark.parametrize("document", TEXT)
def test_links_between_documents_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", TEXT[document])
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def anchor(heading):
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", TEXT)
def test_links_within_a_document_lead_to_a_heading(document):
    text = re.sub(r"^```.*?^```", "", TEXT[document], flags=re.MULTILINE | re.DOTALL)
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


# ---- the listing ----


def listing():
    """Folder -> names listed in it."""
    block = re.search(r"<!-- listing.*?```\n(.*?)```", TEXT["docs/design.md"], re.S)[1]
    found, folder = {}, None
    for line in block.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
            found[folder] = []
        else:
            found[folder].append(name)
    return found


def tracked(folder, suffixes):
    return sorted(path.name for path in (ROOT / folder).iterdir() if path.suffix in suffixes)


def test_the_listing_has_every_header_and_module():
    assert sorted(listing()["include/ringbuf/"]) == tracked("include/ringbuf", {".h"})
    sources = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".h"}
    assert {*listing()["src/ringbuf/"]} == {*tracked("src/ringbuf", sources), "py.typed"}
    for folder, names in listing().items():
        if names and folder.startswith("src/ringbuf/"):
            assert {*names, "__init__.py", "py.typed"} == {*tracked(folder, sources), "__init__.py", "py.typed"}, folder


def test_the_listing_has_every_folder():
    folders = {path.name + "/" for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    assert folders - {"build/", "dist/"} <= {name.split("/")[0] + "/" for name in listing()}
    for name in listing():
        assert (ROOT / name).is_dir(), name
    below = {path.name + "/" for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert below == set(listing()["tests/"])


def included(header):
    return re.findall(r'#include "(\w+\.h)"', (ROOT / "include/ringbuf" / header).read_text())


def test_the_umbrella_headers_include_what_the_listing_says_in_its_order():
    assert ["ringbuf.h", *included("ringbuf.h"), "files.h", *included("files.h")[1:]] == listing()["include/ringbuf/"]
    assert included("files.h")[0] == "ringbuf.h"


def test_each_header_includes_only_those_above_it_in_the_listing():
    above = []
    for header in listing()["include/ringbuf/"]:
        if header not in ("ringbuf.h", "files.h"):
            assert set(included(header)) <= set(above), header
            above.append(header)


def test_no_header_declares_a_function_that_another_defines():
    for path in ROOT.glob("include/ringbuf/*.h"):
        assert not re.search(r"^RINGBUF_\w+ [^{}#;]*\);", path.read_text(), re.M), path.name


def test_the_client_template_names_things_that_exist():
    sources = "\n".join(path.read_text() for path in ROOT.glob("include/ringbuf/*.h"))
    for line in TEXT["docs/client-template.md"].splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5 or cells[1] in ("template", "---"):
            continue
        for name in re.findall(r"`((?:ringbuf|RINGBUF)_\w+)", cells[2]):
            assert re.search(rf"\b{name}\b", sources), name
        for struct, field in re.findall(r"`(ringbuf_\w+)\.(\w+)", cells[2]):
            body = re.search(rf"^struct {struct} {{(.*?)^}};", sources, re.M | re.S)[1]
            assert re.search(rf"\b{field}\b", body), f"{struct}.{field}"


def test_the_python_side_of_the_client_template_exists():
    ringbuf = pytest.importorskip("ringbuf")
    for line in TEXT["docs/client-template.md"].splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5:
            continue
        for owner, name in re.findall(r"`(Channel|Client|Stream|Reader|Packet|Reservation|CtfClient)\.(\w+)", cells[3]):
            assert hasattr(getattr(ringbuf, owner), name), f"{owner}.{name}"


def test_models_named_as_failing_exist():
    models = set(re.findall(r'^\s*{"(\w+)",', "\n".join(p.read_text() for p in ROOT.glob("tests/model/*.cc")), re.M))
    rows = [line for line in TEXT["docs/memory-ordering.md"].splitlines() if line.startswith("| O")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.rstrip("| ").split(" | ")[-1])}
    assert named and not named - models


def test_functions_in_the_concurrency_tables_exist():
    sources = "\n".join(path.read_text() for path in ROOT.glob("include/ringbuf/*.h"))
    for name in set(re.findall(r"`(ringbuf_\w+)`", TEXT["docs/concurrency.md"] + TEXT["docs/design.md"])):
        assert re.search(rf"\b{name}\b", sources), name


# ---- the layout, and the worked example ----


def run_c(tmp_path, source):
    """Compile and run a program over the headers; what it prints."""
    compiler = needs.command("cc")
    (tmp_path / "program.c").write_text(source)
    flags = ["-std=gnu11", "-O1", "-I", str(ROOT / "include"), "-pthread"]
    subprocess.run([compiler, *flags, "program.c", "-o", "program"], cwd=tmp_path, check=True)
    return subprocess.run([tmp_path / "program"], check=True, stdout=subprocess.PIPE, text=True).stdout


def layout_tables():
    """Struct -> (size, [(offset, size, field)])."""
    tables = {}
    for part in TEXT["docs/formats.md"].split("\n### ")[1:]:
        head = re.search(r"`struct (ringbuf_\w+)`, (\d+) bytes", part)
        if head:
            rows = re.findall(r"^\| (\d+) \| (\d+) \| `(\w+)` \|", part, re.M)
            tables[head[1]] = (int(head[2]), [(int(offset), int(size), field) for offset, size, field in rows])
    return tables


def test_the_layout_tables_are_right(tmp_path):
    tables = layout_tables()
    assert len(tables) == 8
    prints = []
    for struct, (_, rows) in tables.items():
        prints.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        for _, _, field in rows:
            of = f"offsetof(struct {struct}, {field}), sizeof(((struct {struct} *)0)->{field})"
            prints.append(f'printf("{struct} {field} %zu %zu\\n", {of});')
    source = "#include <ringbuf/ringbuf.h>\nint\nmain(void)\n{\n\t" + "\n\t".join(prints) + "\n\treturn 0;\n}\n"
    printed = run_c(tmp_path, source).split("\n")
    if platform.machine() != "x86_64":
        pytest.skip("the tables are those of x86-64")
    wanted = []
    for struct, (size, rows) in tables.items():
        wanted.append(f"{struct} {size}")
        wanted += [f"{struct} {field} {offset} {size}" for offset, size, field in rows]
    assert printed == [*wanted, ""]


def test_the_layout_tables_name_every_field():
    text = "".join((ROOT / f"include/ringbuf/{name}.h").read_text() for name in ("layout", "metrics"))
    source = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for struct, (_, rows) in layout_tables().items():
        body = re.search(rf"struct {struct} {{(.*?)\n}};", source, re.S)[1].replace("RINGBUF_ALIGNED", "")
        names = [one.strip() for declaration in body.split(";") for one in declaration.split(",") if one.strip()]
        assert [field for _, _, field in rows] == [re.search(r"(\w+)\s*(?:\[[^\]]*\])?$", one)[1] for one in names]


def test_the_schema_entry_is_right():
    rows = re.findall(
        r"^\| (\d+) \| 4 \| `(\w+)` \|", TEXT["docs/formats.md"].split("### Schema area")[1].split("### ")[0], re.M
    )
    source = (ROOT / "include/ringbuf/schema.h").read_text()
    body = re.search(r"struct ringbuf_schema_entry {(.*?)\n};", source, re.S)[1]
    fields = re.findall(r"\b(\w+)(?=[,;])", re.sub(r"/\*.*?\*/", "", body, flags=re.S))
    assert [name for _, name in rows] == fields
    assert [int(offset) for offset, _ in rows] == [4 * i for i in range(len(fields))]


EXAMPLE = r"""
#include <ringbuf/ringbuf.h>

static uint64_t now = UINT64_C(1) << 40;
static struct ringbuf_channel *ch;
static struct ringbuf_stream_reader reader;

static uint64_t
clock_read(const struct ringbuf_channel *unused)
{
	(void)unused;
	return now += 100;
}

static unsigned long long
load(ringbuf_atomic_u64 *p)
{
	return ringbuf_load(p, RINGBUF_RELAXED);
}

static void
show(const char *step)
{
	unsigned long long ref = load(&ringbuf_slot_at(ch, reader.s, 0)->subbuf_ref);
	unsigned long long ref1 = load(&ringbuf_slot_at(ch, reader.s, 4096)->subbuf_ref);
	struct ringbuf_subbuf *sb = ringbuf_subbuf_at(ch, reader.s, ref & RINGBUF_REF_IDX_MASK);
	unsigned long long c0 = load(&sb->committed), stage = load(&sb->stage);
	unsigned long long c1 = load(&ringbuf_subbuf_at(ch, reader.s, ref1 & RINGBUF_REF_IDX_MASK)->committed);

	printf("| %s | %llu | %llu, %llu | %llu, %llu | %llu | %llu", step,
		(unsigned long long)ringbuf_pos(load(&reader.s->produced)), c0 & UINT32_MAX, c0 >> 32, c1 & UINT32_MAX,
		c1 >> 32, load(&sb->delivered[ringbuf_stage_cell(stage)]) & UINT32_MAX, ref & RINGBUF_REF_IDX_MASK);
	if (ref & RINGBUF_REF_HELD)
		printf(", HELD, spare %llu",
			(unsigned long long)((ref & RINGBUF_REF_SPARE_MASK) >> RINGBUF_REF_SPARE_SHIFT));
	printf("%s%s, pass %lld |\n", ref & RINGBUF_REF_READ ? ", READ" : "", ref & RINGBUF_REF_LOST ? ", LOST" : "",
		ringbuf_ref_pass(ref) == RINGBUF_REF_PASS_MASK ? -1 : (long long)ringbuf_ref_pass(ref));
}

static void
reserve(struct ringbuf_reservation *r)
{
	memset(r, 0, sizeof(*r));
	r->event_id = 1;
	r->payload_size = 8;
	if (ringbuf_reserve(ch, r))
		exit(1);
	memset(r->payload, 0, 8);
}

static void
record(int n)
{
	struct ringbuf_reservation r;

	while (n--) {
		reserve(&r);
		ringbuf_commit(ch, &r);
	}
}

int
main(void)
{
	struct ringbuf_client client = {.clock_read = clock_read};
	struct ringbuf_config cfg = {
		.name = "example", .subbuf_size = 4096, .n_subbufs = 4, .mode = RINGBUF_OVERWRITE,
		.streams = RINGBUF_GLOBAL, .clock = RINGBUF_CLOCK_CUSTOM, .client = &client,
	};
	struct ringbuf_reservation r;

	if (ringbuf_create(&cfg, &ch))
		return 1;
	ringbuf_stream_reader_init(ch, 0, &reader);
	show("new");
	reserve(&r);
	show("1st record reserved");
	ringbuf_commit(ch, &r);
	show("committed");
	record(1);
	show("2nd record");
	record(331);
	show("333rd record");
	reserve(&r);
	show("334th reserved");
	ringbuf_commit(ch, &r);
	show("committed");
	if (ringbuf_get_next_subbuf(&reader))
		return 1;
	show("reader holds");
	record(3 * 334);
	show("producers lap it");
	ringbuf_put_subbuf(&reader, RINGBUF_PUT_READ);
	show("reader puts it back");
	record(4 * 334);
	show("lapped unread");
	return 0;
}
"""


def test_the_worked_example_runs_as_told(tmp_path):
    block = re.search(r"<!-- example.*?-->\n(.*?)<!-- end", TEXT["docs/design.md"], re.S)[1]
    told = block.splitlines()[2:]  # without the heading
    assert run_c(tmp_path, EXAMPLE).splitlines() == told


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by these names, whatever the folder."""
    names = [path.name for path in [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("bench/**/bench_*.py")]]
    assert sorted(names) == sorted(set(names))
