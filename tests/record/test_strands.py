"""Strands, and the rest of Calls in calls.pxi: what runs in turns in one thread, and what goes on in a forked child.

Programs are run under `ringbuf record`, as they are; their traces are read with nothing but what formats.md says.
"""

import os
import subprocess
import sys
import textwrap

import needs
import pytest

import ringbuf

CALLS = ("function_begin", "function_end", "function_code", "strand", "strand_switch", "process_image")


def recorded(tmp_path, program, *more):
    """Records of a program's calls."""
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "ringbuf", "record", "--functions", "--subbuf-size", str(1 << 22), *more]
    command += ["-o", str(tmp_path / "trace"), "--", sys.executable, "-W", "ignore", str(tmp_path / "program.py")]
    subprocess.run(command, check=True, timeout=110)
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        assert not trace.lost.events
        return list(trace.records([name for name in CALLS if name in trace.events]))


def unbalanced(records):
    """Ends that are not of the newest call of their thread, and calls without a name: ``[what is wrong, ...]``."""
    wrong, names, stacks, codes = [], {}, {}, {}
    for record in records:
        pid = record.contexts["vpid"]
        if record.name == "function_code":
            names[pid, record.fields["code"]] = record.fields["name"]
            assert codes.setdefault(record.fields["code"], record.fields["image"]) == record.fields["image"]
    for record in records:
        pid, stack = record.contexts["vpid"], stacks.setdefault((record.contexts["vpid"], record.contexts["vtid"]), [])
        code = record.fields.get("code")
        if record.name == "function_begin":
            stack.append(code)
        elif record.name == "function_end" and (not stack or stack.pop() != code):
            wrong.append(f"end of {names.get((pid, code))}")
        if record.name.startswith("function_b") and (pid, code) not in names:
            wrong.append(f"no name of {code}")
    return wrong


def stacks_of(records, name):
    """The calls, from the outermost to this one, each time that it begins; with the strand's kind and name."""
    names = {r.fields["code"]: r.fields["name"] for r in records if r.name == "function_code"}
    told = {r.fields["strand"]: f"{r.fields['kind']} {r.fields['name']}" for r in records if r.name == "strand"}
    found, stacks, strands, again = [], {}, {}, {}
    for record in records:
        thread = record.contexts["vpid"], record.contexts["vtid"]
        if record.name == "strand_switch":
            strands[thread] = record.fields["strand"]
            again[thread] = record.fields["resumed"]
        stack = stacks.setdefault((thread, strands.get(thread, 0)), [])
        if record.name == "function_begin":
            stack.append(names[record.fields["code"]].removeprefix("__main__."))
            again[thread] = again.get(thread, 0) - 1
            if stack[-1] == name and again[thread] < 0:
                found.append((told.get(strands.get(thread, 0)), *stack))
        elif record.name == "function_end":
            stack.pop()
    return found


GREENLETS = """
import greenlet

def leaf(): pass

def ping():
    for _ in range(2):
        leaf()
        other.switch()
    return 1

def pong():
    for _ in range(2):
        leaf()
        one.switch()

def drive():
    one.switch()
    leaf()

one, other = greenlet.greenlet(ping), greenlet.greenlet(pong)
drive()
"""


def test_each_greenlet_has_its_own_calls(tmp_path):
    needs.package("greenlet")
    records = recorded(tmp_path, GREENLETS)
    assert not unbalanced(records)
    in_one, in_other = ("greenlet greenlet", "ping", "leaf"), ("greenlet greenlet", "pong", "leaf")
    assert stacks_of(records, "leaf") == [in_one, in_other, in_one, in_other, (None, "<module>", "drive", "leaf")]


def test_a_program_s_own_tracer_of_greenlets_is_called_too(tmp_path):
    needs.package("greenlet")
    program = "import greenlet\nseen = []\nprevious = greenlet.settrace(lambda event, args: seen.append(event))\n"
    program += "def leaf(): pass\ngreenlet.greenlet(leaf).switch()\nassert seen == ['switch', 'switch'], seen\n"
    recorded(tmp_path, program)


def test_greenlets_of_several_threads_and_exceptions_that_leave_them(tmp_path):
    needs.package("greenlet")
    program = """
    import threading, greenlet
    def leaf(): pass
    def values(back):
        for one in range(3):
            back.switch()
            yield one
    def fails(back):
        for _ in values(back):
            leaf()
        raise KeyError
    def killed(back):
        try:
            leaf()
            back.switch()
        finally:
            leaf()
    def run():
        here = greenlet.getcurrent()
        one, two = greenlet.greenlet(fails), greenlet.greenlet(killed)
        two.switch(here)
        while not one.dead:
            try:
                one.switch(here)
            except KeyError:
                leaf()
        two.throw()
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    records = recorded(tmp_path, program)
    assert not unbalanced(records)
    assert len({r.contexts["vtid"] for r in records if r.name == "strand_switch"}) == 3


PROGRAMS = {
    "gevent": """
        from gevent import monkey; monkey.patch_all()
        import gevent, time
        def leaf(n): return n
        def work(n):
            for _ in range(4):
                leaf(n)
                time.sleep(0.001)
        def waits():
            leaf(1)
            gevent.sleep(100)
        jobs = [gevent.spawn(work, n) for n in range(5)]
        one = gevent.spawn(waits)
        gevent.sleep(0.002)
        one.kill()
        gevent.joinall(jobs)
        gevent.get_hub().threadpool.spawn(work, 9).get()
        """,
    "eventlet": """
        import eventlet; eventlet.monkey_patch()
        import time
        def leaf(n): return n
        def work(n):
            for _ in range(4):
                leaf(n)
                time.sleep(0.001)
        pool = eventlet.GreenPool()
        for n in range(5): pool.spawn(work, n)
        pool.waitall()
        """,
    "sqlalchemy": """
        import asyncio
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine
        def leaf(n): return n
        async def work(engine, n):
            async with engine.connect() as connection:
                for _ in range(3):
                    (await connection.execute(text("select 1"))).fetchall()
                    leaf(n)
        async def main():
            engine = create_async_engine("sqlite+aiosqlite://")
            await asyncio.gather(*(work(engine, n) for n in range(3)))
            await engine.dispose()
        asyncio.run(main())
        """,
}


@pytest.mark.slow
@pytest.mark.parametrize("package", PROGRAMS)
def test_packages_that_switch_greenlets(tmp_path, package):
    needs.package(package)
    if package == "sqlalchemy":
        needs.package("aiosqlite")
    records = recorded(tmp_path, PROGRAMS[package])
    assert not unbalanced(records)
    switches = [r.fields["strand"] for r in records if r.name == "strand_switch"]
    assert len({*switches}) >= 4
    around = {(strand or "").split()[0] for strand, *_ in stacks_of(records, "leaf") if strand}
    assert around == {"task" if package == "sqlalchemy" else "greenlet"}


def test_calls_in_tasks_are_theirs(tmp_path):
    program = """
    import asyncio
    def leaf(): pass
    async def inner():
        await asyncio.sleep(0.001)
        leaf()
    async def outer():
        await inner()
        await inner()
    async def main():
        leaf()
        await asyncio.gather(*(asyncio.create_task(outer(), name=f"job {n}") for n in range(2)))
    asyncio.run(main())
    leaf()
    """
    records = recorded(tmp_path, program)
    assert not unbalanced(records)
    found = stacks_of(records, "leaf")
    jobs = sorted(one for one in found if one[0] and one[0].startswith("task job"))
    assert jobs == sorted(2 * [(f"task job {n}", "outer", "inner", "leaf") for n in range(2)])
    assert found[0][0].startswith("task Task-") and found[0][1:] == ("main", "leaf")
    assert found[-1] == (None, "<module>", "leaf")


def test_without_greenlets_and_coroutines_nothing_is_told_of_them(tmp_path):
    records = recorded(tmp_path, "def leaf(): pass\nleaf()\n")
    assert {record.name for record in records} == {"function_code", "function_begin", "function_end"}


def test_what_a_fork_interrupts_begins_with_the_child(tmp_path):
    program = """
    import os
    def leaf(): pass
    def forks():
        if os.fork():
            os.wait()
        leaf()
    def early(): forks()
    early()
    """
    records = recorded(tmp_path, program)
    assert not unbalanced(records)
    (image,) = [record for record in records if record.name == "process_image"]
    child = [record for record in records if record.contexts["vpid"] == image.contexts["vpid"]]
    names = {r.fields["code"]: r.fields["name"] for r in child if r.name == "function_code"}
    begins = [names[r.fields["code"]] for r in child if r.name == "function_begin"]
    assert image.fields["inherited"] == 3 and image.fields["parent"] == image.fields["image"] - 1
    assert begins == [f"__main__.{name}" for name in ("<module>", "early", "forks", "leaf")]


def test_a_program_that_another_replaces_keeps_its_names(tmp_path):
    program = """
    import os, sys
    if len(sys.argv) < 2:
        def first(): os.execv(sys.executable, [sys.executable, __file__, "again"])
        first()
    else:
        def second(): pass
        second()
    """
    records = recorded(tmp_path, program)
    assert not unbalanced(records)
    names = {r.fields["code"]: (r.fields["image"], r.fields["name"]) for r in records if r.name == "function_code"}
    begins = [names[r.fields["code"]] for r in records if r.name == "function_begin"]
    images = sorted({image for image, _ in begins})
    assert begins == [(images[0], "__main__.<module>"), (images[0], "__main__.first"),
                      (images[1], "__main__.<module>"), (images[1], "__main__.second")]  # fmt: skip


def test_images_of_one_process_id_in_two_namespaces_are_told_apart(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    program = f"""
    import subprocess, sys
    text = "import time\\nfor _ in range(5):\\n    def NAME(): time.sleep(0.02)\\n    NAME()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", {sys.executable!r}, "-c"]
    both = [subprocess.Popen([*command, text.replace("NAME", name)]) for name in ("here", "there")]
    sys.exit(sum(one.wait() for one in both))
    """
    records = recorded(tmp_path, program)
    told = [r for r in records if r.name == "function_code" and r.contexts["vpid"] == 1]
    names = {r.fields["code"]: (r.fields["image"], r.fields["name"]) for r in told}
    begins = [names[r.fields["code"]] for r in records if r.name == "function_begin" and r.contexts["vpid"] == 1]
    found = {name: {image for image, other in begins if other == name} for name in ("__main__.here", "__main__.there")}
    assert len(names) == len(told) and all(len(images) == 1 for images in found.values())
    assert found["__main__.here"] != found["__main__.there"]
