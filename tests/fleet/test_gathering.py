"""Agents and gathering, without an engine: a thousand simulated workers, real flight files, and what goes wrong."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import needs
import pytest
from simulate import Fleet, gathered

import ringbuf
from ringbuf.errors import TraceError
from ringbuf.fleet.gather import Expected, Gatherer
from ringbuf.fleet.health import report
from ringbuf.fleet.manifest import Gathered, Manifest, Member
from ringbuf.fleet.node import Agent, Request, file_of, open_flight, safe_name, tidy
from ringbuf.trace.meanings import ended

S = 10**9

# ---- a thousand ----


def test_a_thousand_workers_are_gathered_in_bounded_cost():
    fleet = Fleet(1000)
    manifest, tokens, figures = asyncio.run(gathered(fleet))
    missing = {one.name for one in manifest.missing}
    assert missing == set(fleet.trouble) and len(manifest.members) == 1000
    assert len(tokens) == 1000 - len(missing)
    problems = {one.name: one.problem for one in manifest.missing}
    words = {"gone": "not to be reached", "silent": "no answer within", "other": "it has ringbuf 9.9.9"}
    assert all(words[what] in problems[name] for name, what in fleet.trouble.items())
    # Each question to an agent, each clock's burst, and no more.
    assert figures["later"]["questions"] <= 1000 + 2 * 8 * figures["clocks"]
    assert figures["later"]["bytes"] < 2000 * 1000
    assert len(manifest.to_json()) < 1000 * 1000
    assert figures["later"]["cpu_seconds"] < 5  # 0.3 s on a quiet machine
    assert all(one.traces[0].uncertainty_ns > 0 for one in manifest.members if one.traces)


# ---- agents ----


@pytest.fixture
def flights(tmp_path):
    return str(tmp_path / "flights")


def asked(**more):
    return Request(
        **{"at": time.time_ns(), "last": None, "samples": [], "offset": 0, "prefix": "here", **more}
    ).as_dict()


DYING = """
import os, signal, sys
from ringbuf.fleet.node import open_flight
tracer = open_flight(sys.argv[1], "dying", 65536, channel="x")
event = tracer.event("e", n="u32")
for n in range(100):
    event(n)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_living_and_the_dead_have_traces(flights):
    with open_flight(flights, "living", 65536, channel="x") as tracer:
        tracer.event("e", n="u32")(17)
        died = subprocess.run([sys.executable, "-c", DYING, flights], check=False)
        assert died.returncode == -signal.SIGKILL
        agent = Agent([flights, flights + "-nothing"])
        answer = agent.collect(asked())
        found = {os.path.basename(one["path"]): one for one in answer["files"]}
        living, dying = found["living.ringbuf"], found["dying.ringbuf"]
        assert (living["used"], living["trace"]["records"]) == (True, 1)
        assert (dying["used"], dying["trace"]["records"]) == (False, 100)
        listing = agent.listing(answer["token"])
        assert "here/living/metadata" in listing
        piece = agent.fetch(answer["token"], "here/living/metadata", 0, 10)
        assert piece == b"/* CTF 1.8"
        with pytest.raises(ValueError, match="no file of this collection"):
            agent.fetch(answer["token"], "../living.ringbuf", 0, 10)
        agent.drop(answer["token"])
        with pytest.raises(ValueError, match="are gone"):
            agent.listing(answer["token"])
        agent.close()
    assert not [name for name in os.listdir(flights) if name.startswith(".gathered")]


def test_who_died_before_the_time_that_is_asked_for_is_left_out(flights):
    subprocess.run([sys.executable, "-c", DYING, flights], check=False)
    agent = Agent([flights])
    offset = time.time_ns() - time.monotonic_ns()
    for last, is_there in ((None, True), (60, True), (0.0, False)):
        time.sleep(0.01)
        answer = agent.collect(asked(last=last, offset=offset))
        (only,) = answer["files"]
        assert (only["trace"] is not None) == is_there and only["problem"] == ""


ENDING = """
import sys
from ringbuf.fleet.node import open_flight
tracer = open_flight(sys.argv[1], "brief", 1 << 16, channel="x", leave=True)
tracer.event("e", n="u32")(1)
"""


def test_who_ends_well_leaves_its_file_while_somebody_gathers(flights):
    brief = [sys.executable, "-c", ENDING, flights]
    subprocess.run(brief, check=True, timeout=60)
    assert os.listdir(flights) == []  # nobody would come for it
    agent = Agent([flights])
    agent.expect_ended()
    subprocess.run(brief, check=True, timeout=60)
    (file,) = agent.collect(asked())["files"]
    assert file["ended"] and not file["used"] and file["trace"]["records"] == 1
    agent.close()
    assert os.listdir(flights) == [".agent"]
    subprocess.run(brief, check=True, timeout=60)
    assert os.listdir(flights) == [".agent"]


def test_who_is_killed_has_not_ended_well_also_where_files_are_left(flights):
    agent = Agent([flights])
    agent.expect_ended()
    killed = ENDING + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert (
        subprocess.run([sys.executable, "-c", killed, flights], check=False, timeout=60).returncode == -signal.SIGKILL
    )
    (file,) = agent.collect(asked())["files"]
    assert not file["ended"] and file["trace"]["recovered"]
    agent.close()
    assert "brief.ringbuf" in os.listdir(flights)


def test_what_is_no_flight_file_is_named(flights):
    os.makedirs(flights, mode=0o700)
    with open(os.path.join(flights, "bad.ringbuf"), "wb") as file:
        file.write(b"x" * 10000)
    (only,) = Agent([flights]).collect(asked())["files"]
    assert only["trace"] is None and only["problem"]


def test_a_clock_that_nobody_could_ask_is_not_called_right(flights):
    with open_flight(flights, "a", 65536, channel="x") as tracer:
        tracer.event("e", n="u32")(1)
        (only,) = Agent([flights]).collect(asked(offset=None))["files"]
    assert only["trace"]["uncertainty_ns"] == -1
    assert abs(only["trace"]["end"] - time.time_ns()) < 60 * S


def test_programs_with_other_clocks_are_on_the_same_time_line(flights, monkeypatch):
    os.makedirs(flights, mode=0o700)
    monkeypatch.setenv("RINGBUF_DIR", flights)
    tracers = [ringbuf.Tracer("auto"), ringbuf.Tracer("monotonic", clock="monotonic")]
    own = ringbuf.Tracer("own", clock=lambda: 17)
    agent = Agent([flights])
    for tracer in (*tracers, own):
        tracer.event("e", n="u32")(1)
    before = time.monotonic_ns()
    files = agent.collect(asked(offset=1000 * S))["files"]
    traces = [one["trace"] for one in files if one["trace"]]
    assert [one["uncertainty_ns"] for one in traces] == [0, 0]
    assert all(abs(one["last_record"] - 1000 * S - before) < 50_000_000 for one in traces)
    (refused,) = [one["problem"] for one in files if one["problem"]]
    assert "clock" in refused  # nobody but its program can read that one


def test_what_is_said_of_ends_is_by_the_same_clock(flights, tmp_path):
    """The thread of a dead process ended when its trace did, whatever its own clock said."""
    subprocess.run([sys.executable, "-c", DYING, flights], check=False)
    agent = Agent([flights])
    samples = [(n * S, time.monotonic_ns() - (10 - n) * S + 50_000, n * S + 100_000) for n in range(10)]
    answer = agent.collect(asked(offset=None, samples=samples))
    (only,) = answer["files"]
    for name in agent.listing(answer["token"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(agent.fetch(answer["token"], name, 0, 1 << 20))
    with ringbuf.open_trace(tmp_path / "here") as trace:
        (thread,) = ended(trace)
        last = list(trace)[-1].timestamp
        assert 0 < last < 12 * S and abs(thread.last - last) <= 2
        assert only["trace"]["last_record"] == last


def test_processes_of_two_machines_with_one_id_have_tracks_of_their_own(flights, tmp_path):
    traces = tmp_path / "set"
    traces.mkdir(mode=0o700)
    for name in ("one", "two"):  # this process stands for both
        with open_flight(flights, name, 65536, channel=name) as tracer:
            with tracer.span(name):
                pass
            tracer.snapshot(traces / name)
    with ringbuf.open_trace(traces) as trace:
        trace.export(tmp_path / "set.json")
    events = json.loads((tmp_path / "set.json").read_text())["traceEvents"]
    places = {event["name"]: event["pid"] for event in events if event["ph"] in "bB" or event["ph"] == "X"}
    assert places["one"] != places["two"]


def test_what_nobody_comes_for_goes_after_a_day(flights, tmp_path):
    subprocess.run([sys.executable, "-c", DYING, flights], check=False)
    (dead,) = [os.path.join(flights, name) for name in os.listdir(flights)]
    empty, others = tmp_path / "empty", tmp_path / "others"
    empty.mkdir()
    others.mkdir()
    (others / "notes.txt").write_text("not ours")
    with open_flight(str(tmp_path / "living"), "a", 65536, channel="x"):
        tidy(str(tmp_path))
        assert os.path.exists(dead) and empty.exists()
        for path in (dead, flights, empty, others, others / "notes.txt", tmp_path / "living"):
            os.utime(path, (0, 0))
        tidy(str(tmp_path))
        assert sorted(os.listdir(tmp_path)) == ["flights", "living", "others"]  # what was removed has changed the first
        assert os.listdir(flights) == [] and os.listdir(tmp_path / "living") == ["a.ringbuf"]
        assert (others / "notes.txt").exists()
    tidy(str(tmp_path / "nothing"))


def test_names_are_safe_and_files_are_new(flights):
    assert safe_name("tcp://10.0.0.1:40/..") == "tcp-10.0.0.1-40"
    assert safe_name("///") == "unnamed" and len(safe_name("x" * 1000)) <= 120
    with open_flight(flights, "a", 65536, channel="x"):
        assert file_of(flights, "a") == os.path.join(flights, "a+2.ringbuf")


# ---- an engine that misbehaves ----


def snapshot(ask, expected, **more):
    async def run():
        return await Gatherer(ask, "a test").snapshot(expected, **{"timeout": 2.0, **more})

    return asyncio.run(run())


def one(name, agent):
    return Expected(Member(name), agent)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "is no agent of ringbuf"),
        ({"problem": "No module named 'ringbuf'"}, "No module named 'ringbuf'"),
        ({"protocol": 2, "version": "3.0"}, "it has ringbuf 3.0"),
        ({"protocol": 1}, "KeyError"),
    ],
)
def test_who_answers_wrongly_is_named(answer, why):
    async def ask(address, what, **arguments):
        return answer

    manifest, tokens = snapshot(ask, [one("w", "a")])
    assert why in manifest.missing[0].problem and tokens == {}


def test_an_agent_that_fails_in_the_middle_is_named(flights):
    agent = Agent([flights])

    async def ask(address, what, **arguments):
        if what == "collect":
            raise ConnectionResetError("it has gone")
        return agent.hello()

    manifest, _ = snapshot(ask, [one("w", "a")])
    assert "it has gone" in manifest.missing[0].problem


def test_a_set_that_cannot_be_written_is_an_error(flights, tmp_path):
    agent = Agent([flights])
    (tmp_path / "file").write_text("")

    async def ask(address, what, **arguments):
        return getattr(agent, what)(**arguments)

    with pytest.raises(OSError):
        snapshot(ask, [one("w", "a")], url=f"file://{tmp_path}/file/set")


# ---- manifests, and what they say ----


def member(name, state="alive", end=100 * S, **more):
    return Member(name, state=state, traces=[Gathered(name, 0, end, last_record=end, uncertainty_ns=5)], **more)


def test_a_manifest_is_what_it_was():
    before = Manifest("test", 100, 30.0, "a clock", "why", 0.5, [member("a"), Member("b", problem="gone")])
    assert Manifest.from_json(before.to_json()) == before
    # What later versions add is not in the way.
    more = {**before.as_dict(), "more": 1}
    more["members"][0]["more"] = 1
    assert Manifest.from_json(json.dumps(more)) == before


@pytest.mark.parametrize(
    ("change", "why"),
    [({"format": "x"}, "no manifest"), ({"version": 2}, "version 2"), ({"members": [{"traces": []}]}, "name"),
     ({"members": [{"name": "a", "traces": [], "state": "odd"}]}, "odd")],
)  # fmt: skip
def test_a_manifest_that_cannot_be_read_says_why(change, why):
    text = json.dumps({**Manifest("test", 1).as_dict(), **change})
    with pytest.raises(TraceError, match=why):
        Manifest.from_json(text, "set/manifest.json")
    with pytest.raises(TraceError, match="set/manifest.json"):
        Manifest.from_json("{", "set/manifest.json")


def test_what_is_wrong_is_said_first():
    members = [
        member("w1"), member("w2"), member("w7", end=59 * S), member("w8", "dead", end=90 * S, label="eight"),
        Member("w9", problem="no answer within 5 s"), member("w3", problem="/x: disk full"),
    ]  # fmt: skip
    assert report(Manifest("test", 101 * S, reference="R", members=members)) == [
        "missing: worker w9: no answer within 5 s",
        "died: worker eight (w8): last record 11.0 s before the snapshot",
        "worker w7: last record 41.0 s before the others' end",
        "not whole: worker w3: /x: disk full",
        "6 members: 4 alive, 1 dead, 1 missing; 5 traces",
        "clock: R; all within 5 ns of it",
    ]


def test_many_of_a_kind_are_counted():
    members = [Member(f"w{n}", problem="gone") for n in range(1000)]
    lines = report(Manifest("test", 1, members=members))
    assert len(lines) == 23 and lines[20] == "and 980 more like that"


def test_last_spans_are_named(tmp_path):
    for name, end in (("a", False), ("b", True)):
        tracer = ringbuf.Tracer(name)
        span = tracer.span("fetch")
        span.__enter__()
        if end:
            span.__exit__(None, None, None)
        tracer.snapshot(tmp_path / name)
    (tmp_path / "manifest.json").write_text(
        Manifest("test", 100 * S, members=[member("a", end=10 * S), member("b"), member("c")]).to_json()
    )
    with ringbuf.open_trace(tmp_path) as trace:
        found = trace.summary().set
    assert found[0] == "worker a: last span fetch(), not ended, 90.0 s before the others' end"
    assert printed("summary", tmp_path).startswith("worker a: last span fetch()")
    assert json.loads(printed("info", "--json", tmp_path))["set"][0].startswith("worker a: ")


@pytest.mark.parametrize("kind", ["file", "local"])  # as a path, and by fsspec
def test_all_commands_take_a_url(kind, tmp_path):
    needs.module("fsspec")
    needs.module("pyarrow")
    (tmp_path / "set").mkdir(mode=0o700)
    tracer = ringbuf.Tracer("a")
    with tracer.span("fetch"):
        pass
    tracer.snapshot(tmp_path / "set" / "a")
    (tmp_path / "set" / "manifest.json").write_text(Manifest("test", 100 * S, members=[Member("b")]).to_json())
    url = f"{kind}://{tmp_path}/set"
    for command in ("view", "info", "summary"):
        assert "fetch" in printed(command, url)
    for command, name in (("export", "x.pftrace"), ("export", "x.parquet"), ("report", "x.html"), ("flame", "x.txt")):
        printed(command, url, "-o", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 0
    assert printed("summary", url).startswith("missing: worker b")


def printed(*arguments):
    command = [sys.executable, "-m", "ringbuf", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
