"""ringbuf export"""

import json
import os

import timelines
from timelines import TICK

from ringbuf.cli import main


def test_it_writes_what_the_name_says(tmp_path, capsys):
    trace = timelines.written(tmp_path, (1, "tick", TICK), (2, "web", [1, 0]))
    path = tmp_path / "x.json"
    assert main(["export", trace.path, "-o", str(path), "--event", "tick"]) == 0
    assert capsys.readouterr().out == f"{path}: {path.stat().st_size} bytes\n"
    names = [event["name"] for event in json.loads(path.read_text())["traceEvents"] if event["ph"] != "M"]
    assert names == ["tick"]
    assert main(["export", trace.path, "-o", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path), "bytes": path.stat().st_size}


def test_errors_are_one_line(tmp_path, capsys):
    trace = timelines.written(tmp_path, (1, "tick", TICK))
    (tmp_path / "folder.json").mkdir()
    for output, why in (
        ("x.txt", "ends with one of"),
        ("folder.json", "Is a directory"),
        ("missing/x.json", "No such file"),
    ):
        assert main(["export", trace.path, "-o", str(tmp_path / output)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("ringbuf export: ") and error.count("\n") == 1 and why in error
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "x.json")]) == 1
    assert not (tmp_path / "x.json").exists()


def test_a_trace_is_not_spoiled_by_an_export_into_it(tmp_path, capsys, monkeypatch):
    trace = timelines.written(tmp_path, (1, "tick", TICK))
    before = sorted(os.listdir(trace.path))
    monkeypatch.chdir(trace.path)
    for output in ("x.json", f"{trace.path}/x.pftrace", "../trace/x.parquet"):
        assert main(["export", trace.path, "-o", output]) == 1
        assert "export to another" in capsys.readouterr().err
    assert sorted(os.listdir(trace.path)) == before


def test_a_missing_library_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    trace = timelines.written(tmp_path, (1, "tick", TICK))
    assert main(["export", trace.path, "-o", str(tmp_path / "x.parquet")]) == 1
    assert capsys.readouterr().err == "ringbuf export: pyarrow is not installed: pip install pyarrow\n"
