"""Programs under `ringbuf record` do what they do without it: output, errors, exit status, and what they can see."""

import os
import subprocess
import sys

import pytest

ALL = ("--functions", "--logging", "--audit")

PROGRAMS = {
    "says what it is": """
        import sys
        print(__name__, __file__, sys.argv, sys.path, sys.flags, sys.warnoptions, __spec__, type(__loader__))
        print(sorted(vars(sys.modules["__main__"])), len(sys.meta_path), len(sys.path_hooks))
        print(sys.gettrace(), sys.getprofile(), sys.excepthook, sys.getrecursionlimit(), sys.getswitchinterval())
    """,
    "has signal handlers": """
        import signal
        print({n: signal.getsignal(n) for n in signal.valid_signals()}, signal.pthread_sigmask(signal.SIG_BLOCK, []))
    """,
    "looks what is imported": """
        import sys
        print(sorted(name for name in sys.modules if not name.startswith(("ringbuf", "cython_runtime", "_cython"))
                     and name not in ("_operator", "_contextvars", "_socket", "itertools")))
    """,
    "takes descriptors": """
        import os
        print([os.open(os.devnull, os.O_RDONLY) for _ in range(5)], os.pipe(), os.dup(1))
    """,
    "ends with handlers": """
        import atexit
        atexit.register(print, 'mine')
        import multiprocessing.util
        multiprocessing.util.Finalize(None, print, ('finalizer',), exitpriority=1)
        import logging, threading, weakref
        atexit.register(print, 'last')
    """,
    "has modules of its own": """
        import dataclasses, fnmatch, inspect, json, multiprocessing, shutil, socket, tempfile, logging
        for module in (dataclasses, fnmatch, inspect, json, multiprocessing, shutil, socket, tempfile, logging):
            print(module.__name__, getattr(module, 'mine', None), module.__loader__ is module.__spec__.loader)
    """,
    "fails": """
        def fail(n):
            return fail(n - 1) if n else 1 / 0
        fail(3)
    """,
    "exits": "import sys; print('bye'); sys.exit(7)",
    "exits at once": "import os; os.write(1, b'bye'); os._exit(9)",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "warns": "import warnings; warnings.warn('mind'); print(warnings.filters)",
    "looks at its stack": """
        import logging, inspect, sys, traceback
        class Handler(logging.Handler):
            def emit(self, record):
                print([(os.path.basename(f.f_code.co_filename), f.f_code.co_name) for f in frames(sys._getframe())])
        def frames(frame):
            while frame:
                yield frame
                frame = frame.f_back
        import os
        log = logging.getLogger('x')
        log.addHandler(Handler())
        log.propagate = False
        log.warning('here', stack_info=True)
        print(logging.Logger.callHandlers.__name__, logging.Logger.callHandlers.__doc__, inspect.signature(log.warning))
    """,
    "logs what cannot be formed": """
        import logging
        log = logging.getLogger('a')
        log.addHandler(logging.StreamHandler())
        log.propagate = False
        class Effect:
            def __init__(self, fails=False): self.n, self.fails = 0, fails
            def __str__(self):
                self.n += 1
                print('formed', self.n)
                if self.fails: raise RuntimeError('no text')
                return 'text'
            __repr__ = __str__
        one, two = Effect(), Effect(fails=True)
        log.warning('%s', one)
        log.debug('%s', one)
        log.warning('x %d', 'y')
        log.warning('%s', two)
        log.warning(one)
        log.warning('%s %s', [one], {1: one})
        try:
            raise Exception(one)
        except Exception as error:
            log.exception('caught')
            error.args = (two,)
            log.error('again', exc_info=True)
        log.handlers[0].setLevel(logging.ERROR)
        log.warning('nobody takes it: %s', one)
        logging.raiseExceptions = False
        log.error('%d', 'quiet')
        del log.handlers[:]
        log.warning('last resort %s', one)
        logging.lastResort = None
        log.warning('nobody %s', one)
        print(one.n, two.n)
    """,
    "has a handler that fails": """
        import logging
        class Handler(logging.Handler):
            def emit(self, record): raise KeyError('mine')
        logging.getLogger().addHandler(Handler())
        logging.warning('x')
    """,
    "profiles": """
        import sys, threading
        seen = []
        def f(): g()
        def g(): len([])
        def profile(frame, event, arg): seen.append((event, getattr(arg, '__name__', None)))
        before = sys.getprofile()
        sys.setprofile(profile)
        f()
        sys.setprofile(before)
        f()
        print(len(seen), seen, sys.getprofile())
        threading.setprofile(profile)
        del seen[:]
        thread = threading.Thread(target=f)
        thread.start()
        thread.join()
        print(seen)
        import cProfile
        with cProfile.Profile() as taken:
            f()
        calls = [entry for entry in taken.getstats() if hasattr(entry.code, 'co_name')]
        print(sorted((entry.code.co_name, entry.callcount) for entry in calls))
    """,
    "traces": """
        import sys
        seen = []
        def trace(frame, event, arg):
            seen.append((frame.f_code.co_name, event))
            return trace
        def f():
            for _ in range(2): pass
        sys.settrace(trace)
        f()
        sys.settrace(None)
        print(seen)
    """,
    "has children": """
        import multiprocessing, subprocess, sys, os
        def child(n): print('child', n, flush=True)
        if __name__ == '__main__':
            for method in ('fork', 'spawn', 'forkserver'):
                process = multiprocessing.get_context(method).Process(target=child, args=(method,))
                process.start()
                process.join()
            code = 'import sys; print(sys.argv, sys.path[0])'
            for more in ([], ['-I'], ['-S']):
                subprocess.run([sys.executable, *more, '-c', code, 'x'])
            subprocess.run([sys.executable, '-c', code], env={})
            print(os.system('exit 3'))
    """,
    "is interrupted": """
        import os, signal
        def handler(*args): raise TimeoutError('in time')
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            while True:
                open(os.devnull).close()
        except TimeoutError as error:
            print(repr(error))
        os.kill(os.getpid(), signal.SIGINT)
    """,
}
OWN = ("dataclasses", "fnmatch", "inspect", "json", "multiprocessing", "shutil", "socket", "tempfile")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir()
    return tmp_path


def run(command, cwd):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_the_same(folder, name):
    program = "\n".join(line.removeprefix(" " * 8) for line in PROGRAMS[name].strip("\n").splitlines())
    (folder / "own" / "program.py").write_text(program + "\n")
    if name == "has modules of its own":
        for one in OWN:
            (folder / "own" / f"{one}.py").write_text("mine = True\n")
    command = [sys.executable, "own/program.py"]
    alone = run(command, folder)
    recorded = run([sys.executable, "-m", "ringbuf", "record", *ALL, "-o", "out", "--", *command], folder)
    errors, _, report = recorded.stderr.partition("out: ")
    assert recorded.stdout == alone.stdout
    assert errors == alone.stderr
    assert recorded.returncode == (alone.returncode if alone.returncode >= 0 else 128 - alone.returncode)
    assert int(report.split()[0]) > 3
