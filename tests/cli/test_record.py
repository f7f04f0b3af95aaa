"""cli/record.py and inject/: what programs record that know nothing of ringbuf, and that they run as ever."""

import collections
import json
import os
import subprocess
import sys
import venv

import judge
import pytest

import ringbuf
from ringbuf.inject.audit import describe
from ringbuf.trace.about import about

SHOP = """
import logging, sys

log = logging.getLogger("shop")

def pay(order):
    log.warning("order %d", order)
    return check(order)

def check(order):
    return order

if __name__ == "__main__":
    print(pay(17), sys.argv[1:])
"""


def run(*command, cwd, status=0, **environment):
    """Run a command that finds what we find; what it printed on both outputs."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    found = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=found, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def record(*arguments, cwd, **options):
    return run(sys.executable, "-m", "ringbuf", "record", *arguments, cwd=cwd, **options)


def test_a_recording_of_limited_size_keeps_the_newest_and_knows_its_functions(tmp_path):
    (tmp_path / "busy.py").write_text("def step(n): return n\nfor n in range(40_000): step(n)\n")
    options = ("--functions", "--block", "--subbuf-size", "65536", "--max-size", "1M", "-o", tmp_path / "trace")
    _, printed = record(*options, "--", "python", "busy.py", cwd=tmp_path)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "trace").iterdir()}
    assert sum(size for name, size in sizes.items() if name != "metadata") <= 1 << 20
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        rotated, records = trace.env["rotated_records"], about(trace).records
        assert f"{records} records, {rotated} before them left for --max-size" in printed
        assert 80_000 < rotated + records < 81_000
        names = [call.name for call in trace.calls()]
    assert names[-1] == "__main__.step" or names[-2] == "__main__.step"
    assert judge.text(tmp_path / "trace").stdout.count("function_end") > 10_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-depth", "2"], "--max-depth choose among calls: add --functions"),
        (["--functions", "--max-depth", "0"], "'0' is not a whole number from 1 on"),
        (["--functions", "--min-duration", "0.1"], "'0.1' is not a duration such as"),
        (["--max-size", "4x"], "'4x' is not a size such as"),
        (["--max-size", "1M"], "max_size must be at least 4194304 bytes here"),
        (["--max-size", "8M", "--mode", "overwrite"], "--mode overwrite is limited by its buffers"),
    ],
)
def test_limits_that_cannot_be_are_refused(options, said, tmp_path):
    _, printed = record(*options, "--", "true", cwd=tmp_path, status=2 if " is not " in said else 1)
    assert said in printed.splitlines()[-1]
    assert not (tmp_path / "ringbuf-trace").exists()


def test_only_long_calls_and_only_shallow_ones(tmp_path):
    (tmp_path / "busy.py").write_text(
        "import time\ndef short(): pass\ndef long(): time.sleep(0.03)\ndef both(): short(); long()\nboth()\n"
    )
    record("--functions", "--min-duration", "30ms", "-o", tmp_path / "long", "--", "python", "busy.py", cwd=tmp_path)
    calls = list(ringbuf.open_trace(tmp_path / "long").calls())
    assert {"__main__.both", "__main__.long"} <= {call.name for call in calls}
    assert all(call.duration >= 30_000_000 for call in calls)
    record("--functions", "--max-depth", "2", "-o", tmp_path / "shallow", "--", "python", "busy.py", cwd=tmp_path)
    calls = list(ringbuf.open_trace(tmp_path / "shallow").calls())
    assert sorted((call.depth, call.name) for call in calls) == [(0, "__main__.<module>"), (1, "__main__.both")]


def named_calls(directory):
    """{process: [name of each function that began]}; ends must fit the begins of their threads."""
    names, stacks, calls = {}, {}, collections.defaultdict(list)
    for one in ringbuf.open_trace(directory):
        process, thread = one.contexts["vpid"], one.contexts["vtid"]
        if one.name == "function_code":
            names[process, one.fields["code"]] = one.fields["name"]
        elif one.name == "function_begin":
            stacks.setdefault(thread, []).append(one.fields["code"])
            calls[process].append(names[process, one.fields["code"]])
        elif one.name == "function_end" and stacks.get(thread):
            assert stacks[thread].pop() == one.fields["code"]
    return dict(calls)


def messages(directory):
    return [one.fields["message"] for one in ringbuf.open_trace(directory) if one.name == "log"]


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def test_everything_at_once_of_a_program_as_it_is(shop):
    printed = record("--functions", "--logging", "--audit", "-o", "out", "--", "python", "shop.py", "a", cwd=shop)
    assert printed[0] == "17 ['a']\n"
    assert printed[1].startswith("order 17\nout: ")
    (calls,) = named_calls(shop / "out").values()
    assert calls == ["__main__.<module>", "__main__.pay", "__main__.check"]
    assert messages(shop / "out") == ["order 17"]
    events = judge.events(shop / "out")
    kinds = collections.Counter(event["name"] for event in events)
    assert kinds["function_begin"] == kinds["function_end"] == kinds["function_code"] == 3
    audited = [event["fields"]["name"] for event in events if event["name"] == "audit"]
    assert "import" in audited and "compile" in audited


def test_functions_of_c_are_recorded_where_they_are_asked_for(shop):
    record("--functions", "--c-functions", "-o", "out", "--", "python", "shop.py", "a", cwd=shop)
    (calls,) = named_calls(shop / "out").values()
    assert [one for one in calls if one.startswith("__main__.")] == [
        "__main__.<module>",
        "__main__.pay",
        "__main__.check",
    ]
    assert "builtins.print" in calls


@pytest.mark.parametrize(
    "program", [("shop.py", "a"), ("python", "-m", "shop", "a"), ("sh", "-c", "exec python shop.py a")]
)
def test_it_is_the_same_however_the_program_is_started(shop, program):
    printed, _ = record("--functions", "-o", "out", "--", *program, cwd=shop)
    assert printed == "17 ['a']\n"
    (calls,) = named_calls(shop / "out").values()
    assert [call for call in calls if call.startswith("__main__")] == [
        "__main__.<module>", "__main__.pay", "__main__.check"
    ]  # fmt: skip


def test_nothing_is_injected_that_was_not_asked_for(shop):
    show = "import os, sys; print(os.environ['PYTHONPATH'] == sys.argv[1], 'RINGBUF_INJECT' in os.environ)"
    path = os.pathsep.join(filter(None, sys.path))
    assert record("-o", "out", "--", sys.executable, "-c", show, path, cwd=shop)[0] == "True False\n"


def test_modules_are_chosen(shop):
    program = "import json, shop; shop.pay(1); json.dumps([1])"
    command = "-o", "out", "--", sys.executable, "-c", program
    record("--functions", "--include", "json", "--include", "shop", "--exclude", "json.decoder", *command, cwd=shop)
    (calls,) = named_calls(shop / "out").values()
    modules = {call.rpartition(".")[0] for call in calls}
    assert "shop" in modules and "json" in modules and "__main__" not in modules and "json.decoder" not in modules


def test_overwrite_mode_keeps_the_end(shop):
    program = "def f(): pass\nfor _ in range(200_000): f()\ndef last(): pass\nlast()"
    sizes = "--subbuf-size", "65536", "--n-subbufs", "4"
    record("--functions", "--mode", "overwrite", *sizes, "-o", "out", "--", "python", "-c", program, cwd=shop)
    records = list(ringbuf.open_trace(shop / "out"))
    told = {one.fields["code"]: one.fields["name"] for one in records if one.name == "function_code"}
    begun = [one.fields["code"] for one in records if one.name == "function_begin"]
    assert len(records) < 200_000 and told[begun[-1]] == "__main__.last"


# ---- child processes ----

CHILDREN = """
import multiprocessing, subprocess, sys
import shop

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        child = multiprocessing.get_context(method).Process(target=shop.pay, args=(1,))
        child.start()
        child.join()
    subprocess.run([sys.executable, "-c", "import shop; shop.pay(2)"], check=True)
"""


def test_child_processes_of_all_kinds_are_recorded(shop):
    (shop / "main.py").write_text(CHILDREN)
    record("--functions", "--logging", "-o", "out", "--include", "shop", "--", "main.py", cwd=shop)
    paid = [calls for calls in named_calls(shop / "out").values() if "shop.pay" in calls]
    assert len(paid) == 4
    assert all(calls[-2:] == ["shop.pay", "shop.check"] for calls in paid)
    assert sorted(messages(shop / "out")) == ["order 1"] * 3 + ["order 2"]


def test_a_virtual_environment_is_recorded(shop):
    venv.create(shop / "venv", system_site_packages=False, with_pip=False)
    record("--functions", "-o", "out", "--", "./venv/bin/python", "shop.py", cwd=shop)
    (calls,) = named_calls(shop / "out").values()
    assert "__main__.pay" in calls


# ---- a program runs as it would ----

OWN = "import sys; sys.ours = True; print('own sitecustomize', __name__)"


def test_the_programs_own_sitecustomize_runs(shop):
    (shop / "site").mkdir()
    (shop / "site" / "sitecustomize.py").write_text(OWN)
    path = os.pathsep.join([str(shop / "site"), *filter(None, sys.path)])
    ours = "[path for path in sys.path if 'ringbuf/inject' in path]"
    show = f"import sys, sitecustomize; print(sys.ours, sitecustomize.__file__, {ours})"
    command = "--logging", "-o", "out", "--", sys.executable, "-c", show
    assert record(*command, cwd=shop, PYTHONPATH=path)[0] == (
        "own sitecustomize sitecustomize\n" * 2 + f"True {shop}/site/sitecustomize.py []\n"
    )


def test_the_set_up_of_python_is_not_recorded_as_the_program(shop):
    """Debian has a sitecustomize of its own, and the finder of an editable install is called by every import."""
    (shop / "site").mkdir()
    finder = "__editable___shop_finder"
    (shop / "site" / "sitecustomize.py").write_text(f"import sys, {finder}\nsys.meta_path.append({finder})")
    (shop / "site" / "usercustomize.py").write_text("def f(): pass\nf()")
    (shop / "site" / f"{finder}.py").write_text("def find_spec(*args): pass")
    path = os.pathsep.join([str(shop / "site"), *filter(None, sys.path)])
    code = "import usercustomize\ntry: import nothing\nexcept ImportError: pass"
    record("--functions", "-o", "out", "--", sys.executable, "-c", code, cwd=shop, PYTHONPATH=path)
    (calls,) = named_calls(shop / "out").values()
    assert calls == ["__main__.<module>"]


def test_a_sitecustomize_that_fails_fails_as_it_would(shop):
    (shop / "site").mkdir()
    (shop / "site" / "sitecustomize.py").write_text("import no_such_module")
    path = os.pathsep.join([str(shop / "site"), *filter(None, sys.path)])
    alone = run(sys.executable, "-c", "print(1)", cwd=shop, PYTHONPATH=path)
    program = sys.executable, "-c", "print(1)"
    printed, errors = record("--logging", "-o", "out", "--", *program, cwd=shop, PYTHONPATH=path)
    assert printed == alone[0] == "1\n"
    assert "no_such_module" in alone[1] and errors.count("Error in sitecustomize") == 2  # and of ringbuf's own Python


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_a_python_without_environment_or_site_is_left_alone(shop, option):
    printed, errors = record("--functions", "-o", "out", "--", sys.executable, option, "-c", "print(1)", cwd=shop)
    assert printed == "1\n"
    assert errors.endswith("nothing was recorded: does the program run a Python that has ringbuf?\n")


def test_a_python_without_ringbuf_runs_and_says_nothing(shop):
    fake = shop / "fake"
    fake.mkdir()
    (fake / "ringbuf.py").write_text("raise ImportError('no ringbuf here')")
    path = os.pathsep.join([str(fake), *filter(None, sys.path)])
    program = ["env", f"PYTHONPATH={os.path.dirname(ringbuf.__file__)}/inject/site:{path}", sys.executable, "shop.py"]
    printed, errors = record("--functions", "-o", "out", "--", *program, cwd=shop)
    assert printed == "17 []\n" and "sitecustomize" not in errors


def test_a_program_that_outlives_the_recording_is_not_disturbed(shop):
    later = "import os, subprocess, sys; os.environ['RINGBUF_CHANNEL'] += '-gone'; " \
            "sys.exit(subprocess.run([sys.executable, 'shop.py']).returncode)"  # fmt: skip
    printed, errors = record("--functions", "-o", "out", "--", sys.executable, "-c", later, cwd=shop)
    assert printed == "17 []\n" and "Error" not in errors


LOGGING = """
import logging, logging.config
logging.getLogger("early").warning("before")
{configure}
logging.info("root")
child = logging.getLogger("a.child")
child.propagate = False
child.warning("alone")
child.debug("below the level")
"""
CONFIGURE = {
    "none": "",
    "basic": "logging.basicConfig(level=logging.INFO, format='%(name)s|%(message)s')",
    "dict": "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO', 'handlers': ['h']}, 'handlers': "
    "{'h': {'class': 'logging.StreamHandler'}}, 'disable_existing_loggers': False})",
}


@pytest.mark.parametrize("how", CONFIGURE)
def test_log_records_are_there_once_and_the_program_prints_what_it_would(shop, how):
    (shop / "logs.py").write_text(LOGGING.format(configure=CONFIGURE[how]))
    alone = run(sys.executable, "logs.py", cwd=shop)
    printed = record("--logging", "-o", "out", "--", "logs.py", cwd=shop)
    assert printed[0] == alone[0]
    assert printed[1].partition("out: ")[0] == alone[1]
    assert messages(shop / "out") == ["before"] + ["root"] * (how != "none") + ["alone"]


# ---- audit ----


def test_audit_events_have_their_arguments(shop):
    program = "import subprocess, pathlib; open('shop.py').close(); subprocess.run(['true', 'x' * 10], check=True)"
    record("--audit", "-o", "out", "--", sys.executable, "-c", program, cwd=shop)
    audited = [one.fields for one in ringbuf.open_trace(shop / "out") if one.name == "audit"]
    assert {"name": "subprocess.Popen", "args": "'true', ['true', 'xxxxxxxxxx'], None, None"} in audited
    assert any(one["name"] == "open" and one["args"].startswith("'shop.py', 'r', ") for one in audited)


class Rude:
    def __repr__(self):
        raise AssertionError("code of the program ran")

    __str__ = __fspath__ = __index__ = __repr__


@pytest.mark.parametrize(
    "args, text",
    [
        ((), ""),
        (("a", b"b", 1, 0.5, None, True), "'a', b'b', 1, 0.5, None, True"),
        ((Rude(), {"secret": 1}, 1 << 20_000), "<Rude>, <dict>, <int>"),
        (("x" * 1000,), repr("x" * 200) + "..."),
        ((list(range(20)),), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"),
        (tuple(range(9)), "0, 1, 2, 3, 4, 5, 6, 7, ..."),
        (([(1, [2, [3]])],), "[(1, <list>)]"),
        (("\udcff",), "'\\udcff'"),
    ],
)
def test_arguments_are_text_of_bounded_size_and_no_code_runs(args, text):
    assert describe(args) == text


def test_paths_are_described_by_what_they_say(tmp_path):
    assert describe((tmp_path,)) == repr(str(tmp_path))


# ---- the command ----


def test_kernel_events_do_not_go_with_overwriting(shop):
    _, errors = record("--kernel", "sched", "--mode", "overwrite", "-o", "out", "--", "true", cwd=shop, status=1)
    assert errors == "ringbuf record: --kernel streams: it goes with --mode discard\n"


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_a_trace_names_the_program_and_not_the_recorder(shop, mode):
    record("--functions", "--mode", mode, "-o", "t", "--", "shop.py", cwd=shop)
    with ringbuf.open_trace(shop / "t") as trace:
        (process,) = {one.contexts["vpid"] for one in trace}
        assert (trace.env["procname"], trace.env["vpid"]) == ("shop.py", process)


def test_an_existing_trace_is_refused_before_the_program_runs(shop):
    (shop / "out").mkdir()
    (shop / "out" / "metadata").touch()
    for mode in ("discard", "overwrite"):
        printed, errors = record("--mode", mode, "-o", "out", "--", "shop.py", cwd=shop, status=1)
        assert printed == "" and errors.count("\n") == 1


def test_the_report_is_json_and_the_exit_status_the_programs(shop):
    program = sys.executable, "-c", "import sys; sys.exit(3)"
    printed, _ = record("--json", "--functions", "--mode", "overwrite", "-o", "out", "--", *program, cwd=shop, status=3)
    result = json.loads(printed)
    assert result["exit_status"] == 3 and result["records"] == 3


def test_a_recording_can_end_before_the_program(tmp_path):
    for seconds in (1, 10, 30):  # it may take long to begin
        (tmp_path / "app.py").write_text(
            "import time\n"
            "def before(): pass\n"
            "def after(): pass\n"
            "before()\n"
            f"time.sleep({seconds} + 1)\n"
            "after()\n"
            "print('the end')\n"
            "raise SystemExit(3)\n"
        )
        options = ("--duration", seconds, "-o", f"out-{seconds}")
        printed = record("--functions", *map(str, options), "--", "python", "app.py", cwd=tmp_path, status=3)
        assert printed[0] == "the end\n" and "lost" not in printed[1]
        calls = [*named_calls(tmp_path / f"out-{seconds}").values()]
        if calls:
            break
    (calls,) = calls
    assert calls == ["__main__.<module>", "__main__.before"]
    assert "'-1' is not a number of seconds" in record("--duration", "-1", "--", "true", cwd=tmp_path, status=2)[1]
