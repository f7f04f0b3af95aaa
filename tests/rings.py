"""Small channels, children and counts: what many tests of the Python API need."""

import os
import subprocess
import sys
import threading
import time
import traceback

import ringbuf


def small(name="small", **options):
    """A channel that is full soon: one stream of four pages."""
    return ringbuf.Channel(name, **{"streams": "global", "subbuf_size": 4096, "n_subbufs": 4, **options})


def tracer(name="small", **options):
    """A tracer whose records are all in one stream, in the order they were made."""
    return ringbuf.Tracer(name, **{"streams": "global", "mode": "discard", "contexts": (), **options})


def records(channel):
    """Finalize the channel and read every record that is left."""
    channel.finalize()
    with channel.reader() as reader:
        return list(reader.records())


def payloads(channel):
    return [record.payload for record in records(channel)]


def fill(channel, payload=b"x" * 1000):
    """Write until there is no room; how many were written."""
    written = 0
    while channel.write(payload):
        written += 1
    return written


def assert_exact(stats, attempts=None):
    """The two identities between the counters; `attempts` is what the caller has counted itself."""
    parts = stats.records_read, stats.records_overrun, stats.records_unread, stats.records_torn
    assert stats.records_written == sum(parts), stats
    if attempts is not None:
        assert stats.records_written + stats.records_discarded + stats.records_lost == attempts, stats


def fork(function, *args):
    """Run function(*args) in a forked child; its pid. The child ends with 0, or 1 after an exception."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def exit_code(pid):
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_fork(function, *args):
    """Run function(*args) in a forked child, which must end well."""
    assert exit_code(fork(function, *args)) == 0


def in_thread(function, *args):
    """Run function(*args) in a thread and return its result, or raise what it raised."""
    outcome = []

    def run():
        try:
            outcome.append((function(*args), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def script(code, *args, timeout=100, **options):
    """Run Python code in a fresh interpreter that finds what this one finds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **options.pop("env", {})}
    command = [sys.executable, "-X", "faulthandler", "-c", code, *map(str, args)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False, **options
    )


def run_script(code, *args, **options):
    """Run Python code as `script` does; it must end well. What it printed."""
    done = script(code, *args, **options)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def eventually(condition, seconds=60):
    """Wait until condition() holds; it must, within generous bounds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
