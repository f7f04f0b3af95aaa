"""Writes what some runs of the benchmarks have found into docs/performance.md: tables between markers, and plots.

    report.py RUN.json ... DOCUMENT

Of several runs, each row is the one with the median ratio: where memory happens to lie differs from run to run. Runs
in which somebody else was on the core (core.py) count only where there is no other.
A marker is a line ``<!-- table: NAME -->``; what follows it up to ``<!-- end -->`` is replaced. Prose is left alone.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

#: Benchmarks without a table of their own in extra_info.
TABLE_OF_FILE = {"bench_record": "record", "bench_event": "event", "bench_map": "get"}
OURS = "ringbuf"
SHARED = " †"


@dataclass
class Table:
    """Columns as (heading, key in extra_info, format); rows by `order`, smallest first, or as they were run."""

    columns: list
    order: str = ""


FLOOR = [("record", "what", ""), ("ns", "ns", ".1f"), ("times the floor", "ratio", ".2f")]
CLOCK = [("", "what", ""), ("ns", "ns", ",.1f"), ("times perf_counter_ns", "ratio", ",.2f")]
TABLES = {
    "record": Table(FLOOR),
    "c": Table(FLOOR, "ratio"),
    "event": Table(CLOCK),
    "empty": Table(
        [("", "what", ""), ("ns", "ns", ".1f"), ("an empty method: ns", "empty_ns", ".1f"), ("ratio", "ratio", ".2f")]
    ),
    "python": Table(CLOCK, "ratio"),
    "messages": Table(CLOCK, "ratio"),
    "span": Table(CLOCK, "ratio"),
    "metrics": Table(CLOCK, "ratio"),
    "metrics_c": Table([("", "what", ""), ("ns", "ns", ".1f"), ("one atomic addition: times", "ratio", ".2f")]),
    "calls": Table(
        [("", "what", ""), ("ns above the plain call", "ns", ",.1f"), ("times perf_counter_ns", "ratio", ",.2f")],
        "ratio",
    ),
    "program": Table(
        [("", "what", ""), ("ns for a call", "ns", ",.1f"), ("times perf_counter_ns", "ratio", ",.2f")], "ratio"
    ),
    "get": Table(
        [("", "what", ""), ("ns", "ns", ".1f"), ("the kernel's: ns", "base_ns", ".1f"), ("ratio", "ratio", ".3f")]
    ),
    "scaling": Table(
        [("producers", "what", ""), ("one: ns", "one_ns", ".1f")]
        + [("two: ns each", "two_ns", ".1f"), ("two, times one", "ratio", ".2f")]
    ),
    "flush": Table(
        [("", "what", ""), ("undisturbed: ns", "quiet_ns", ".1f")]
        + [("ns", "record_ns", ".1f"), ("ratio", "ratio", ".2f")]
    ),
    "parts": Table(
        [("part", "what", ""), ("takes of a record: ns", "takes_ns", ".1f"), ("of the floor", "floor_takes_ns", ".1f")]
        + [("a record without it: ns", "record_ns", ".1f"), ("the floor", "floor_ns", ".1f")]
    ),
    "payload": Table(
        [("payload", "what", ""), ("ns", "ns", ",.1f"), ("memcpy: ns", "base_ns", ",.1f"), ("ratio", "ratio", ".2f")]
    ),
    "latency": Table(
        [("records, in ns", "what", "")]
        + [(f"p{p}", f"p{p.replace('.', '')}_ns", ",.0f") for p in ("50", "99", "99.9", "99.99")]
        + [("max", "max_ns", ",.0f"), ("samples", "samples", ",")]
    ),
    "overload": Table(
        [("wanted", "what", ""), ("reached a second", "reached", ","), ("attempts", "attempts", ",")]
        + [("lost", "lost", ","), ("%", "lost_percent", ".1f")]
    ),
    "paused": Table(
        [("sixteen processes", "what", ""), ("attempts", "attempts", ","), ("lost", "lost", ",")]
        + [("%", "lost_percent", ".1f")],
        "lost",
    ),
    "size": Table(
        [("who", "what", ""), ("fields", "fields", ""), ("bytes for each event", "bytes_each", ".1f")], "bytes_each"
    ),
    "drain": Table([("", "what", ""), ("GB for each CPU second", "cpu_gb_s", ".2f"), ("GB/s", "wall_gb_s", ".2f")]),
    "share": Table([("", "what", ""), ("events a second", "pace", ","), ("% of a CPU", "share_percent", ".2f")]),
    "memory": Table([("", "what", ""), ("trace, MiB", "trace_mib", ".0f"), ("memory taken, MiB", "peak_mib", ".1f")]),
}
READING = Table(
    [("reading", "what", ""), ("M events/s", "m_events_s", ".2f"), ("babeltrace2", "babeltrace2_m_events_s", ".3f")]
    + [("ratio", "ratio", ".1f")]
)
TABLES["taking"] = Table(
    [("what is taken", "what", ""), ("M records/s", "m_records_s", ".2f"), ("the other", "other_m_records_s", ".2f")]
    + [("ratio", "ratio", ".1f")]
)
TABLES |= {"reading": READING, "text": READING, "objects": READING}


# ---- what was measured ----


def load(*paths):
    """The last run, and the rows of all by table."""
    runs = [json.loads(Path(path).read_text()) for path in paths]
    measured = {}
    for row in (row_of(benchmark) for run in runs for benchmark in run["benchmarks"]):
        measured.setdefault((row["table"], row["what"]), []).append(row)
    tables = {}
    for (name, _), rows in measured.items():
        undisturbed = [row for row in rows if row["own_core"]]
        tables.setdefault(name, []).append(median_row(name, undisturbed or rows))
    for name, rows in tables.items():
        order = TABLES[name].order if name in TABLES else ""
        if order:
            rows.sort(key=lambda row: row[order])
    return {**runs[-1], "n_runs": len(runs)}, tables


def median_row(name, rows):
    key = "ratio" if "ratio" in rows[0] or name not in TABLES else TABLES[name].columns[1][1]
    return sorted(rows, key=lambda row: row.get(key, 0))[(len(rows) - 1) // 2]


def row_of(benchmark):
    info, file = dict(benchmark["extra_info"]), Path(benchmark["fullname"].split("::")[0]).stem
    info.setdefault("table", TABLE_OF_FILE.get(file, file))
    info.setdefault("what", readable(benchmark["name"]))
    info["file"] = file
    info.setdefault("own_core", True)
    # A value beside another: {NAME_ns, BASE_ns, ratio_to_BASE}.
    base = next((key.removeprefix("ratio_to_") for key in info if key.startswith("ratio_to_")), None)
    if base is not None:
        info["ratio"], info["base_ns"] = info[f"ratio_to_{base}"], info[f"{base}_ns"]
        info["ns"] = next(info[key] for key in info if key.endswith("_ns") and key not in (f"{base}_ns", "base_ns"))
    return info


def readable(name):
    """bench_c_record[discard-per-cpu-large] as "c record: discard, per-cpu, large"."""
    name, _, parameters = name.removeprefix("bench_").partition("[")
    words = parameters.rstrip("]").replace("per-cpu", "per_cpu").split("-")
    return name.replace("_", " ") + (": " + ", ".join(words).replace("_", "-") if parameters else "")


# ---- tables ----


def markdown(headings, rows):
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_text(name, rows):
    table = TABLES[name]
    cells = [[format(row[key], form) for _, key, form in table.columns] for row in rows]
    for cell, row in zip(cells, rows, strict=True):
        cell[0] += "" if row["own_core"] else SHARED
    files = sorted({row["file"] for row in rows})
    command = ".venv/bin/python -m pytest " + " ".join(f"bench/{file}.py" for file in files) + " --benchmark-only"
    return markdown([heading for heading, _, _ in table.columns], cells) + f"\n\n    {command}"


def machine_text(run, tables):
    info = run["machine_info"]
    cpu = info.get("cpu", {})
    rows = [
        ("processor", f"{cpu.get('brand_raw', info.get('processor', ''))}, {info['cpus']} CPUs"),
        ("kernel", info["kernel"]),
        ("compiler", info["compiler"]),
        ("interpreter", f"{info['python_implementation']} {info['python']}"),
        ("date", run["datetime"][:10]),
        ("commit", run["commit_info"].get("id", "")[:12]),
    ]
    if run["n_runs"] > 1:
        rows.append(("runs", f"{run['n_runs']}: of each row the one with the median ratio"))
    if any(not row["own_core"] for rows in tables.values() for row in rows):
        rows.append((f"a row with{SHARED}", "somebody else was on its core in all runs"))
    if info["scale"] != 1:
        rows.append(("scale", f"{info['scale']}: a look, no figures"))
    return markdown(["", ""], [list(map(str, row)) for row in rows])


# ---- targets ----


def value(tables, table, key, *words, pick=max):
    """The worst of the rows whose text has all the words; None if there is none."""
    found = [row[key] for row in tables.get(table, []) if all(word in row["what"] for word in words)]
    return pick(found) if found else None


def quotient(above, below):
    return None if above is None or below is None else above / below


def bounds(tables):
    """By what a target is about: how far this machine lets it go, and what that is."""
    lttng = value(tables, "c", "ratio", "LTTng", pick=min)
    record = value(tables, "record", "ns", "record", "overwrite", "per-cpu", "compact")
    call = value(tables, "empty", "ns", "disabled event", pick=min)
    clock = value(tables, "event", "base_ns", "one integer", pick=min)
    python = None if None in (record, call, clock) else (record + call) / clock
    bare = [value(tables, "parts", key, "ledger") for key in ("record_ns", "floor_ns")]
    return {
        "C record, times the floor: the worst of the per-CPU": bare[0] and f"{quotient(*bare):.2f} without the ledger",
        "LTTng": lttng and f"{lttng:.1f}, were ours the floor alone",
        "Python event": python and f"{python:.2f}: the record from C and an empty call",
    }


def targets(tables):
    """(what, measured, "<=" or ">=", target, format)."""
    record = [value(tables, "record", "ratio", "record", streams) for streams in ("per-cpu", "global")]
    lttng, ours = value(tables, "c", "ratio", "LTTng", pick=min), value(tables, "c", "ratio", OURS)
    one = value(tables, "event", "ratio", "one integer")
    three = value(tables, "event", "ratio", "integer text and float")
    rows = [
        ("C record, times the floor: the worst of the per-CPU streams", record[0], "<=", 1.3, ".2f"),
        ("C record, times the floor: the worst of the global streams", record[1], "<=", 1.3, ".2f"),
        ("LTTng-UST's record, times ours", quotient(lttng, ours), ">=", 4.5, ".1f"),
        ("Python event of one integer, times perf_counter_ns", one, "<=", 0.6, ".2f"),
        ("Python event of u64, str, f64, times perf_counter_ns", three, "<=", 0.85, ".2f"),
        ("disabled event or channel, times an empty method", value(tables, "empty", "ratio"), "<=", 1.2, ".2f"),
    ]
    for kind in ("threads, C", "processes, C", "processes, Python"):
        ratio = value(tables, "scaling", "ratio", kind, "a stream for each CPU", pick=min)
        rows.append((f"two producers, times one: {kind}", ratio, ">=", 1.9, ".2f"))
    columns = [value(tables, "reading", key, "iter_numpy", "one stream") for key in ("m_events_s", "ratio")]
    call, span = value(tables, "calls", "ns", OURS), value(tables, "span", "ns", "disabled")
    return rows + [
        (
            "recorded call, times VizTracer's",
            quotient(call, value(tables, "calls", "ns", "VizTracer")),
            "<=",
            0.6,
            ".2f",
        ),
        (
            "recorded call, times two empty callbacks",
            quotient(call, value(tables, "calls", "ns", "nothing")),
            "<=",
            2,
            ".2f",
        ),
        *programs(tables),
        ("bytes of trace for a call", value(tables, "size", "bytes_each", "--functions"), "<=", 16, ".1f"),
        (
            "with channel.reserve(8), times perf_counter_ns",
            value(tables, "event", "ratio", "reserve and commit"),
            "<=",
            3,
            ".2f",
        ),
        (
            "NumPy batches, times faster-fifo's get_many",
            value(tables, "taking", "ratio", "faster-fifo"),
            ">=",
            30,
            ".0f",
        ),
        ("declared span, times perf_counter_ns", value(tables, "span", "ratio", "declared"), "<=", 4, ".2f"),
        ("@trace, times perf_counter_ns", value(tables, "span", "ratio", "@trace"), "<=", 4, ".2f"),
        (
            "disabled span, times an empty context manager",
            quotient(span, value(tables, "span", "ns", "empty")),
            "<=",
            1.3,
            ".2f",
        ),
        ("swapping a sub-buffer, times the kernel's ioctl", value(tables, "get", "ratio", "swap"), "<=", 0.25, ".3f"),
        ("consumer to memory, GB for each CPU second", value(tables, "drain", "cpu_gb_s"), ">=", 1, ".2f"),
        ("consumer at 1 M events/s, % of a CPU", value(tables, "share", "share_percent"), "<=", 5, ".2f"),
        ("columns, M events/s", columns[0], ">=", 50, ".1f"),
        ("columns, times babeltrace2", columns[1], ">=", 10, ".1f"),
        ("text, times babeltrace2", value(tables, "text", "ratio", pick=min), ">=", 3, ".1f"),
    ]


def programs(tables):
    """What recording a program's calls adds to them, beside what peers add."""

    def added(who):
        recorded, plain = value(tables, "program", "ns", who), value(tables, "program", "ns", "a program")
        return None if recorded is None or plain is None else recorded - plain

    return [
        (f"a recorded program's call, times {peer}'s", quotient(added(OURS), added(peer)), "<=", 0.5, ".2f")
        for peer in ("viztracer", "trace0")
    ]


def targets_text(tables):
    cells, limits = [], bounds(tables)
    for what, measured, relation, target, form in targets(tables):
        limit = next((limit for start, limit in limits.items() if what.startswith(start)), None) or ""
        if measured is None:
            cells.append([what, f"{relation} {target}", "not measured", "", limit])
        else:
            met = measured <= target if relation == "<=" else measured >= target
            cells.append([what, f"{relation} {target}", format(measured, form), "yes" if met else "no", limit])
    return markdown(["what", "target", "measured", "met", "at best here"], cells)


# ---- the document ----


def fill(document, run, tables):
    """The document with every marked part written anew."""

    def part(match):
        name = match[1]
        if name == "machine":
            text = machine_text(run, tables)
        elif name == "targets":
            text = targets_text(tables)
        elif name in tables:
            text = table_text(name, tables[name])
        else:
            text = "Not measured in this run."
        return f"<!-- table: {name} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", part, document, flags=re.S)


def main(*run_paths, document_path):
    run, tables = load(*run_paths)
    document = Path(document_path)
    document.write_text(fill(document.read_text(), run, tables))
    try:
        import plots
    except ImportError as error:
        sys.exit(f"no plots: {error}; pip install matplotlib")
    plots.write(tables, document.parent / document.stem)


if __name__ == "__main__":
    main(*sys.argv[1:-1], document_path=sys.argv[-1])
