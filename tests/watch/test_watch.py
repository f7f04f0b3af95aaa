"""watch/watch.py and Tracer.watch: what makes a snapshot, what is in it, how many there are."""

import asyncio
import errno
import logging
import os
import signal
import threading
import time
import warnings

import judge
import pytest
import rings

import ringbuf
from ringbuf._core import Durations
from ringbuf.record.functions import Functions
from ringbuf.watch import keeping


@pytest.fixture
def tracer():
    with ringbuf.Tracer("shop", subbuf_size=4096, n_subbufs=4) as tracer:
        yield tracer


@pytest.fixture
def watching(tracer, tmp_path):
    """Begins to watch, with no limit of the rate unless one is given."""
    open_ones = []

    def watch(on, directory="incidents", **options):
        open_ones.append(tracer.watch(tmp_path / directory, on, **{"at_most": "1000/s", **options}))
        return open_ones[-1]

    yield watch
    for one in open_ones:
        one.close()


def only(watch):
    """The records of the one snapshot that there is, and the text beside it."""
    assert watch.wait(60)
    (path,) = watch.snapshots()
    with open(f"{path}.txt") as file:
        return list(ringbuf.open_trace(path)), file.read()


def kinds(watch):
    assert watch.wait(60)
    return [path.rpartition("-")[2] for path in watch.snapshots()]


def test_a_call_takes_a_snapshot_that_every_reader_opens(tracer, watching):
    watch = watching("exception")
    tracer.event("step", n="u64")(17)
    assert watch.trigger("because")
    records, text = only(watch)
    assert [(one.name, one.fields) for one in records] == [
        ("step", {"n": 17}), ("trigger", {"kind": "call", "what": "because", "skipped": 0})
    ]  # fmt: skip
    assert text.startswith("trigger: call\nwhat: because\nwhen: 2") and f"process: {os.getpid()} " in text
    assert "in test_a_call_takes_a_snapshot" in text
    assert len(judge.events(watch.snapshots()[0])) == 2
    assert watch.stats() == {"fired": 1, "taken": 1, "skipped": 0, "failed": 0}


def test_a_signal_makes_one_and_the_program_s_handler_runs_too(watching):
    came = []
    before = signal.signal(signal.SIGUSR2, lambda *args: came.append(args[0]))
    try:
        watch = watching("signal=USR2")
        os.kill(os.getpid(), signal.SIGUSR2)
        assert only(watch)[1].startswith("trigger: signal\nwhat: SIGUSR2\n")
        watch.close()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert came == [signal.SIGUSR2] * 2 and watch.stats()["fired"] == 1
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_from_another_thread_than_the_main_one_is_refused(watching):
    errors = []

    def begin():
        try:
            watching("signal=USR2")
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert errors and errors[0].startswith("signal: SIGUSR2: signal only works in main thread")


def test_a_span_over_its_limit_makes_one_and_others_do_not(tracer, watching):
    watch = watching("over=60,over=db*:0.02,over=db.few:60")
    with tracer.span("web"):
        with tracer.span("db.query", table="orders"):
            time.sleep(0.03)
        with tracer.span("db.few", table="few"):
            pass
    records, text = only(watch)
    assert text.startswith("trigger: over\nwhat: db.query took ")
    assert [one.name for one in records][:4] == ["web", "db.query", "span_end", "trigger"]


def test_a_span_that_an_exception_leaves_is_over_too(tracer, watching):
    watch = watching("over=1ms")
    with pytest.raises(KeyError), tracer.span("web"):
        time.sleep(0.005)
        raise KeyError
    assert kinds(watch) == ["over"]


def slow_call():
    time.sleep(0.03)


def quick_call():
    pass


@pytest.mark.parametrize("is_first", ["functions", "watch"])
def test_a_call_over_its_limit_makes_one_if_the_limit_has_a_name(tracer, watching, is_first):
    functions = Functions(tracer, [__name__])
    if is_first == "functions":
        functions.start()
    watch = watching("over=1us,over=*.slow*:20ms,over=*.quick*:1h")  # the first is of spans alone
    if is_first == "watch":
        functions.start()
    quick_call()
    slow_call()
    functions.stop()
    _, text = only(watch)
    assert text.startswith(f"trigger: over\nwhat: {__name__}.slow_call took 0.0")
    assert kinds(watch) == ["over"]


def test_a_limit_is_learned_from_the_spans_before():
    told = []
    durations = Durations(lambda name: (0, 3.0, 0.99), lambda name, ns: told.append((name, ns)))
    durations.add("db", 100.0)  # nothing is known yet
    assert durations.limit_of("db") is None and not told
    for n in range(1000):
        durations.add("db", 0.010 + n % 10 * 1e-5)
    assert 3 * 0.0100 < durations.limit_of("db") < 3 * 0.0102 * 1.13
    durations.add("db", 0.029)
    assert not told
    durations.add("db", 0.040)
    assert [name for name, _ in told] == ["db"] and told[0][1] == pytest.approx(40e6, rel=0.01)
    for _ in range(40_000):
        durations.add("db", 0.1)  # it has become slower, for good
    assert durations.limit_of("db") > 0.3


def test_the_buckets_of_durations_are_right_to_an_eighth():
    for seconds in (1e-8, 3e-7, 1.7e-6, 0.0123, 4.2, 1000.0):
        durations = Durations(lambda name: (0, 1.0, 0.5), lambda name, ns: None)
        for _ in range(100):
            durations.add("x", seconds)
        assert seconds <= durations.limit_of("x") <= (seconds + 1e-6) * 1.13


def test_a_log_record_makes_one_from_its_level_on(tracer, watching):
    watch = watching("log=ERROR")
    log = logging.getLogger("shop.pay")
    log.warning("nothing")
    assert kinds(watch) == []
    try:
        raise ValueError("no money")
    except ValueError:
        log.exception("order %d", 17)
    text = only(watch)[1]
    assert text.startswith("trigger: log\nwhat: ERROR shop.pay: order 17\n") and "ValueError: no money" in text
    watch.close()
    log.error("after the end")
    assert watch.stats()["fired"] == 1


def test_an_exception_of_a_thread_makes_one(watching, capsys):
    watch = watching("exception")

    def fail():
        raise KeyError("in a thread")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest's own hook
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()
    text = only(watch)[1]
    assert "what: in thread worker: KeyError: 'in a thread'" in text and "fail\n" in text


def test_an_exception_of_a_task_that_nobody_asked_for_makes_one(watching):
    watch = watching("exception")

    async def fail():
        raise ValueError("lost")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asyncio.create_task(fail(), name="payer")
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert "what: in task payer: ValueError: lost" in only(watch)[1]


def test_an_exception_of_a_destructor_makes_one(watching):
    watch = watching("exception")

    class Bad:
        def __del__(self):
            raise OSError("at the end")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Bad()
    assert "what: OSError: at the end" in only(watch)[1]


def test_an_event_loop_that_does_not_come_on_makes_one_while_it_is_blocked(tracer, watching):
    watch = watching("loop=1")

    async def wait():
        await asyncio.sleep(600)

    async def main():
        task = asyncio.create_task(wait(), name="waiter")
        await asyncio.sleep(1.5)
        assert kinds(watch) == []  # it waits for nothing, and is not blocked
        while not watch.stats()["fired"]:
            time.sleep(0.5)
        task.cancel()

    asyncio.run(main())
    text = only(watch)[1]
    assert "the event loop has come to nothing else for " in text
    stack = text.partition("Thread ")[2].partition("\n\n")[0]  # the blocked one is the first
    assert stack.startswith("MainThread") and os.path.basename(__file__) in stack and stack.endswith("main")
    assert "Task waiter:\n" in text and text.rindex("wait\n") < text.rindex("in sleep\n")


def test_a_main_thread_that_runs_no_python_makes_one(watching):
    watch = watching("main=1")
    for _ in range(15):
        time.sleep(0.1)
    assert kinds(watch) == []
    while not watch.stats()["fired"]:
        time.sleep(1.5)
    assert "the main thread has run no Python for " in only(watch)[1]


def test_a_heart_that_stops_makes_one_and_one_more_if_it_stops_again(watching):
    watch = watching("heartbeat=0.1")
    time.sleep(0.2)
    assert kinds(watch) == []  # it has not begun
    watch.beat()
    rings.eventually(lambda: watch.stats()["fired"] == 1)
    assert kinds(watch) == ["heartbeat"]
    watch.beat()
    rings.eventually(lambda: watch.stats()["fired"] == 2)
    assert kinds(watch) == ["heartbeat"] * 2


def test_a_loss_makes_one(tracer, watching):
    watch = watching("loss")
    assert not tracer.event("big", data="bytes")(bytes(5000))
    rings.eventually(lambda: watch.stats()["taken"])
    assert "what: 1 records were lost, 1 in all" in only(watch)[1]


def test_memory_above_its_bound_makes_one(watching):
    watch = watching("memory=1M")
    rings.eventually(lambda: watch.stats()["taken"])
    assert "MiB are resident, of 1 MiB that may be" in only(watch)[1]
    time.sleep(0.6)  # it looks every half second
    assert watch.stats()["fired"] == 1


# ---- how many ----


def test_what_comes_too_often_is_skipped_and_counted(tracer, watching):
    watch = watching("exception", at_most="2/h")
    for n in range(10):
        watch.trigger(f"number {n}")
        assert watch.wait(60)
    assert watch.stats() == {"fired": 10, "taken": 2, "skipped": 8, "failed": 0}
    tracer.snapshot(watch._keeper.path + "/all")
    told = [one.fields for one in ringbuf.open_trace(watch._keeper.path + "/all") if one.name == "trigger"]
    assert [one["skipped"] for one in told] == [0, 0, *range(8)]


def test_the_rate_is_that_of_all_who_use_the_directory(tracer, watching):
    first, second = watching("loss", at_most="1/h"), watching("log", at_most="1/h")
    assert first.trigger() and first.wait(60)
    second.trigger()
    assert second.wait(60)
    assert second.stats() == {"fired": 1, "taken": 0, "skipped": 1, "failed": 0}
    assert len(first.snapshots()) == 1


def test_only_the_newest_stay(watching, tmp_path):
    watch = watching("exception", keep=3)
    other = tmp_path / "incidents" / "notes"
    other.write_text("somebody's")
    for n in range(5):
        watch.trigger(f"number {n}")
        assert watch.wait(60)
    assert [open(f"{path}.txt").read().split("\n")[1] for path in watch.snapshots()] == [
        "what: number 2", "what: number 3", "what: number 4"
    ]  # fmt: skip
    assert len(os.listdir(tmp_path / "incidents")) == 7 and other.exists()


def test_only_so_many_bytes_stay_but_always_the_newest(tracer, watching):
    step = tracer.event("step", n="u64")
    for n in range(1000):
        step(n)
    watch = watching("exception", max_size="1K")
    for _ in range(3):
        watch.trigger()
        assert watch.wait(60)
    assert len(watch.snapshots()) == 1 and watch.stats()["taken"] == 3


def test_what_somebody_has_left_who_was_killed_over_it_goes_by_and_by(watching, tmp_path):
    watch = watching("exception")
    old, new = tmp_path / "incidents" / ".ringbuf-20200101T000000.000000Z-shop-1-log", tmp_path / "incidents" / ".other"
    old.mkdir()
    (old / "shop_0").write_bytes(b"x")
    new.mkdir()
    watch.trigger()
    assert watch.wait(60)
    assert not old.exists() and new.exists()


def test_times_are_in_the_names():
    name = keeping._name(1_700_000_000.25, "a/b c", "log")
    assert name.startswith("20231114T221320.250000Z-a_b_c-") and keeping.time_of(name) == 1_700_000_000.25


# ---- trouble ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on": "boom"}, "no trigger"),
        ({"at_most": "often"}, "no rate"),
        ({"keep": 0}, "keep: how many snapshots stay"),
        ({"last": -1}, "no duration"),
        ({"max_size": "x"}, "no size"),
    ],
)
def test_bad_arguments_are_refused_at_once(watching, options, message):
    with pytest.raises(ValueError, match=message):
        watching(**{"on": "exception", **options})


def test_a_channel_in_discard_mode_is_refused(tmp_path):
    with rings.tracer() as tracer, pytest.raises(ValueError, match="keeps its oldest records"):
        tracer.watch(tmp_path / "x")


def test_a_directory_that_cannot_be_written_is_refused_at_once(tracer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as raised:
        tracer.watch(tmp_path / "file")
    assert raised.value.errno in (errno.ENOTDIR, errno.EEXIST)
    with pytest.raises(OSError):
        tracer.watch(tmp_path / "nowhere" / "deep")


def test_a_snapshot_that_fails_is_counted_and_the_next_one_is_not_worse(tracer, watching, tmp_path):
    watch = watching("exception")
    os.rename(tmp_path / "incidents", tmp_path / "gone")
    (tmp_path / "incidents").write_text("in the way")
    watch.trigger()
    assert watch.wait(60) and watch.stats()["failed"] == 1 and isinstance(watch.error, OSError)
    (tmp_path / "incidents").unlink()
    watch.trigger()
    assert kinds(watch) == ["call"]
    watch.error = None


def test_a_full_disk_leaves_nothing_half_written(tracer, tiny_disk):
    step = tracer.event("step", data="bytes")
    with tracer.watch(tiny_disk / "incidents", "loss", at_most="100/s") as watch:
        with open(tiny_disk / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        for _ in range(20):
            step(bytes(1000))
        watch.trigger()
        assert watch.wait(60)
        assert watch.stats()["failed"] == 1 and watch.error.errno == errno.ENOSPC
        assert [name for name in os.listdir(tiny_disk / "incidents") if not name.startswith(".")] == []
        watch.error = None


def test_after_closing_nothing_fires_and_everything_is_as_before(tracer, watching):
    before = threading.excepthook, logging.Logger.callHandlers, asyncio.BaseEventLoop.call_exception_handler
    run = asyncio.BaseEventLoop.run_forever
    watch = watching("exception,log,loop,over=1us")
    assert threading.excepthook is not before[0]
    watch.close()
    assert (threading.excepthook, logging.Logger.callHandlers, asyncio.BaseEventLoop.call_exception_handler) == before
    assert asyncio.BaseEventLoop.run_forever is run
    with tracer.span("x"):
        time.sleep(0.001)
    assert not watch.trigger() and watch.stats()["fired"] == 0


def test_closing_the_tracer_ends_it(tmp_path):
    tracer = ringbuf.Tracer("short", subbuf_size=4096, n_subbufs=2)
    watch = tracer.watch(tmp_path / "incidents", "loop,loss")
    tracer.close()
    assert not watch.trigger()
    time.sleep(0.6)
    assert watch.stats() == {"fired": 0, "taken": 0, "skipped": 0, "failed": 0}


def test_while_the_channel_is_recorded_a_snapshot_fails_and_says_so(tracer, watching, tmp_path, monkeypatch):
    monkeypatch.setattr("ringbuf.watch.watch._TRIES", 2)
    watch = watching("exception")
    with tracer.record(tmp_path / "trace"):
        watch.trigger()
        assert watch.wait(60)
    assert watch.stats()["failed"] == 1 and isinstance(watch.error, ringbuf.ReaderBusyError)
    watch.error = None


def test_signal_handlers_and_threads_may_fire_at_the_same_time(tracer, watching):
    watch = watching("signal=USR2", at_most="1000000/s", keep=2)
    stop = threading.Event()

    def fire():
        while not stop.is_set():
            watch.trigger("from a thread")

    threads = [threading.Thread(target=fire) for _ in range(3)]
    for thread in threads:
        thread.start()
    signals = 0
    while signals < 30 or watch.stats()["taken"] < 3:
        os.kill(os.getpid(), signal.SIGUSR2)
        signals += 1
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert watch.wait(60)
    stats = watch.stats()
    assert stats["fired"] == stats["taken"] + stats["skipped"] and stats["failed"] == 0 and stats["taken"] > 2


def fail():
    raise KeyError("nobody catches it")


def fail_in_thread(_tracer, _watch):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def take_long(tracer, _watch):
    with tracer.span("long"):
        time.sleep(0.02)


def block_loop(_tracer, watch):
    before = watch.stats()["fired"]

    async def block():
        await asyncio.sleep(0)
        while watch.stats()["fired"] == before:
            time.sleep(0.5)

    asyncio.run(block())


def run_no_python(_tracer, watch):
    before = watch.stats()["fired"]
    while watch.stats()["fired"] == before:
        time.sleep(1.5)


FIRES = {
    "exception": fail_in_thread,
    "signal=USR2": lambda _tracer, _watch: os.kill(os.getpid(), signal.SIGUSR2),
    "over=10ms": take_long,
    "log=ERROR": lambda _tracer, _watch: logging.getLogger("shop").error("no money"),
    "loop=0.2": block_loop,
    "main=1": run_no_python,
    "heartbeat=0.1": lambda _tracer, watch: watch.beat(),
    "loss": lambda tracer, _watch: tracer.event("big", data="bytes")(bytes(5000)),
    "memory=1M": lambda _tracer, _watch: None,
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("trigger", FIRES)
def test_each_trigger_has_all_processes_of_the_channel_in_its_snapshot(tracer, watching, trigger):
    watch = watching(trigger)
    step = tracer.event("step", n="u64")
    step(1)
    if trigger == "memory=1M":
        rings.eventually(lambda: watch.stats()["taken"])
    if trigger == "heartbeat=0.1":
        watch.beat()
        rings.eventually(lambda: watch.stats()["taken"])

    def child():
        step(2)
        before = watch.stats()["taken"]
        FIRES[trigger](tracer, watch)
        rings.eventually(lambda: watch.stats()["taken"] > before)

    pid = rings.fork(child)
    assert rings.exit_code(pid) == 0
    assert watch.wait(60)
    paths = [path for path in watch.snapshots() if f"-{pid}-{trigger.partition('=')[0]}" in path]
    assert len(paths) == 1
    assert [one.fields["n"] for one in ringbuf.open_trace(paths[0]) if one.name == "step"] == [1, 2]


def test_the_heart_of_a_process_is_not_its_child_s(tracer, watching):
    watch = watching("heartbeat=0.1")
    watch.beat()
    rings.eventually(lambda: watch.stats()["taken"])

    def child():
        fired = watch.stats()["fired"]
        time.sleep(1)
        assert watch.stats()["fired"] == fired

    watch.beat()
    rings.in_fork(child)


def test_a_forked_child_fires_too_and_all_is_in_one_snapshot(tracer, watching):
    watch = watching("exception,loss")
    step = tracer.event("step", n="u64")
    step(1)
    pid = os.fork()
    if not pid:
        step(2)
        done = watch.trigger("of the child") and watch.wait(60)
        os._exit(0 if done else 1)
    assert os.waitpid(pid, 0)[1] == 0
    (path,) = watch.snapshots()
    assert f"-{pid}-call" in path
    assert [one.fields["n"] for one in ringbuf.open_trace(path) if one.name == "step"] == [1, 2]
