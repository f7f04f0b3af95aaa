"""bench/report.py: figures go where the markers are, and nothing else changes."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def report():
    spec = importlib.util.spec_from_file_location("report", ROOT / "bench" / "report.py")
    sys.modules["report"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def benchmark(file, name, **extra_info):
    return {"name": name, "fullname": f"bench/{file}.py::{name}", "extra_info": extra_info}


def run_of(*benchmarks, scale=1.0):
    machine = {"cpus": 2, "kernel": "6.1", "compiler": "cc 12", "python_implementation": "CPython", "python": "3.11.2"}
    return {
        "machine_info": {**machine, "scale": scale},
        "datetime": "2025-06-01T10:00:00",
        "commit_info": {"id": "0123456789abcdef"},
        "benchmarks": benchmarks,
    }


def beside_floor(ns):
    return {"record_ns": ns, "floor_ns": 10.0, "ratio_to_floor": ns / 10}


RUN = run_of(
    benchmark("bench_record", "bench_c_record[discard-per-cpu-large]", **beside_floor(15.0)),
    benchmark("bench_c_peers", "a", table="c", what="LTTng", **beside_floor(60.0)),
    benchmark("bench_c_peers", "b", table="c", what="ringbuf", **beside_floor(12.0)),
)


@pytest.fixture
def loaded(report, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN))
    return report.load(path)


def test_only_what_is_between_markers_changes(report, loaded):
    document = "# Title\n\n<!-- table: record -->\nold\n<!-- end -->\n\nprose | with bars\n\n"
    document += "<!-- table: size -->\n<!-- end -->\n"
    filled = report.fill(document, *loaded)
    kept = re.sub(r"(<!-- table: \w+ -->\n).*?(<!-- end -->)", r"\1\2", filled, flags=re.S)
    assert kept == document.replace("old\n", "")
    assert "| c record: discard, per-cpu, large | 15.0 | 1.50 |" in filled
    assert "pytest bench/bench_record.py --benchmark-only" in filled
    assert "<!-- table: size -->\nNot measured in this run.\n<!-- end -->" in filled
    assert report.fill(filled, *loaded) == filled


def test_rows_are_in_order_of_cost(report, loaded):
    rows = report.table_text("c", loaded[1]["c"]).splitlines()[2:4]
    assert [row.split(" | ")[0] for row in rows] == ["| ringbuf", "| LTTng"]


def test_targets_say_what_was_met_missed_and_not_measured(report, loaded):
    rows = [line.split(" | ") for line in report.targets_text(loaded[1]).splitlines()[2:]]
    met = {row[0].removeprefix("| "): (row[2], row[3].removesuffix(" |")) for row in rows}
    assert met["C record, times the floor: the worst of the per-CPU streams"] == ("1.50", "no")
    assert met["C record, times the floor: the worst of the global streams"][0] == "not measured"
    assert met["LTTng-UST's record, times ours"] == ("5.0", "yes")
    assert met["text, times babeltrace2"][0] == "not measured"


def test_a_quick_look_is_marked_as_such(report):
    assert "no figures" in report.machine_text({**run_of(scale=0.1), "n_runs": 1}, {})
    assert "no figures" not in report.machine_text({**run_of(), "n_runs": 1}, {})


def test_of_several_runs_the_median_counts(report, tmp_path):
    paths = []
    for ns in (17.0, 14.0, 15.0):
        paths.append(tmp_path / f"{ns}.json")
        paths[-1].write_text(json.dumps(run_of(benchmark("bench_record", "bench_c_record[x]", **beside_floor(ns)))))
    run, tables = report.load(*paths)
    assert [row["record_ns"] for row in tables["record"]] == [15.0]
    assert "3: of each row" in report.machine_text(run, tables)


@pytest.mark.parametrize("alone, counted", [((True, True, False), 15.0), ((False, False, False), 17.0)])
def test_runs_with_somebody_else_on_the_core_count_if_there_is_no_other(report, tmp_path, alone, counted):
    paths = []
    for ns, own_core in zip((15.0, 17.0, 19.0), alone, strict=True):
        row = benchmark("bench_record", "bench_c_record[x]", **beside_floor(ns), own_core=own_core)
        paths.append(tmp_path / f"{ns}.json")
        paths[-1].write_text(json.dumps(run_of(row)))
    run, tables = report.load(*paths)
    assert [row["record_ns"] for row in tables["record"]] == [counted]
    assert ("somebody else" in report.machine_text(run, tables)) == (not any(alone))
    assert (" †" in report.table_text("record", tables["record"])) == (not any(alone))


def test_the_document_has_a_place_for_every_table(report):
    places = re.findall(r"<!-- table: (\w+) -->", (ROOT / "docs" / "performance.md").read_text())
    assert sorted(places) == sorted([*report.TABLES, "machine", "targets"])
