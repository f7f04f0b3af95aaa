#!/usr/bin/env python3
"""Valid traces with changed bytes are opened and read in every way. Whatever is wrong must be a TraceError.

    tests/fuzz/fuzz_trace.py [--seconds=60] [--seed=N]      many
    tests/fuzz/fuzz_trace.py TRACE                          one, as a regression

What is changed is chosen so that it gets far: sizes and counts of packets, ids, tags and lengths of records, words and
numbers of the metadata. A trace that fails is kept in build/fuzz, and its path printed: times and ids differ from run
to run, so the seed alone does not bring it back.
"""

import argparse
import contextlib
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import ringbuf
from ringbuf.trace.flame import burnt

KEPT = Path(__file__).parents[2] / "build/fuzz"
OTHER_WORDS = ["integer", "string", "struct", "variant", "enum", "size", "align", "signed", "event", "typealias"]
NUMBERS = [0, 1, 7, 8, 27, 31, 32, 63, 64, 65, 255, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 64, -1]


def make_traces():
    """Traces of different kinds: list of {name: bytes}."""
    traces = []
    for header, streams, contexts in (("compact", "global", ()), ("large", "per-cpu", ("vtid", "procname"))):
        with tempfile.TemporaryDirectory() as folder:
            with ringbuf.Tracer(
                "seed", mode="discard", streams=streams, subbuf_size=4096, contexts=contexts,
                client=ringbuf.CtfClient(header=header),
            ) as tracer:  # fmt: skip
                one = tracer.event("one", n="u64", text="str", xs="u32[]", fixed="f64[2]")
                two = tracer.event("two", flag="bool", data="bytes", small="i8")
                code = tracer.event("function_code", code="u32", name="str", file="str", line="u32", image="u32")
                code(1, "f", "f.py", 1, 1)
                calls = tracer.event("function_begin", code="u32"), tracer.event("function_end", code="u32")
                marks = [
                    tracer.event("strand", strand="u64", kind="str", name="str"),
                    tracer.event("strand_switch", strand="u64", resumed="u32"),
                    tracer.event("process_image", image="u32", parent="u32", inherited="u32"),
                ]
                with tracer.record(f"{folder}/trace"):
                    for n in range(60):
                        one(n, "text" * (n % 5), [n] * (n % 7), [0.5, n])
                        two(n % 2 == 0, b"x" * (n % 30), -n)
                        calls[n % 2](n % 5 // 2)
                        with contextlib.suppress(KeyError), tracer.span("span", n=n):
                            if n % 4 == 0:
                                raise KeyError(n)
                        if n % 20 == 7:
                            for mark, values in zip(marks, ((n, "task", "t"), (n, 1), (n % 3, 0, 1)), strict=True):
                                mark(*values)
            files = {path.name: path.read_bytes() for path in Path(folder, "trace").iterdir()}
            traces.append({name: data for name, data in files.items() if data})
    return traces


def change_metadata(text, rng):
    """A token of the metadata becomes another, goes, or comes twice."""
    tokens = list(re.finditer(r"-?\d+|\w+|[^\w\s]", text))
    token = rng.choice(tokens)
    old = token[0]
    new = rng.choice(
        [
            str(rng.choice(NUMBERS)) if re.fullmatch(r"-?\d+", old) else rng.choice(OTHER_WORDS),
            rng.choice(tokens)[0],
            "",
            f"{old} {old}",
            rng.choice('{}[]();:,=".<>+-/*\\\0\n'),
        ]
    )
    return text[: token.start()] + new + text[token.end() :]


def change_stream(data, rng):
    """Sizes in a packet header, or any byte; or a part goes, or comes twice."""
    data, how = bytearray(data), rng.randrange(8)
    packet = rng.randrange(len(data) // 4096 or 1) * 4096
    if how < 3 and packet + 84 <= len(data):
        at = packet + rng.choice([0, 20, 24, 32, 40, 48, 56, 64, 72])
        size = rng.choice([4, 8])
        number = rng.choice([rng.getrandbits(64), *NUMBERS]) & (1 << 8 * size) - 1
        data[at : at + size] = number.to_bytes(size, "little")
    elif how < 6:
        for _ in range(rng.randrange(1, 4)):
            at = min(packet + rng.randrange(80, 4096), len(data) - 1)
            data[at] = rng.choice([rng.randrange(256), 0, 255, 30, 31, data[at] ^ 1 << rng.randrange(8)])
    elif how == 6:
        del data[rng.randrange(len(data)) :]
    else:
        data[packet:packet] = data[rng.randrange(len(data)) :][:4096]
    return bytes(data)


def changed(trace, rng):
    trace = dict(trace)
    for _ in range(rng.choice([1, 1, 2, 5])):
        name = rng.choice(["metadata", *trace])
        if name == "metadata":
            trace[name] = change_metadata(trace[name].decode("utf-8", "replace"), rng).encode()
        elif trace[name]:
            trace[name] = change_stream(trace[name], rng)
    return trace


def read(folder):
    """Everything that can be asked of a trace."""
    with ringbuf.open_trace(folder) as trace:
        looks = [
            lambda: [(str(record), record.fields, record.contexts) for record in trace],
            trace.count,
            lambda: trace.lost,
            lambda: [(str(one), str(one.thread), one.fields, one.contexts, one.error_text) for one in trace.pairs()],
            lambda: [str(trace.summary(by)) for by in (None, "thread", "task", "process", "event")],
            lambda: trace.summary("event", pid=1),
            trace._repr_html_,
            lambda: [*burnt(trace.calls()).collapsed(), burnt(trace.spans()).speedscope("")],
            *[lambda name=name: trace.to_numpy(name) for name in list(trace.events)],
        ]
        for look in looks:
            try:
                look()
            except ringbuf.TraceError:
                pass


def run(trace, keep_as):
    """Reads the trace; what it raises that it may not, or None. Then a copy is kept."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in trace.items():
            Path(folder, name).write_bytes(data)
        try:
            read(folder)
        except ringbuf.TraceError:
            pass
        except Exception as error:
            shutil.copytree(folder, keep_as)
            return error
    return None


def fuzz(seconds, seed):
    """Returns how many runs there were, and what failed: path of the kept trace -> what it raised."""
    traces, failed, number = make_traces(), {}, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or number < 10:
        rng, keep_as = random.Random(f"{seed} {number}"), KEPT / f"fuzz_trace-{seed}-{number}"
        error = run(changed(rng.choice(traces), rng), keep_as)
        if error:
            failed[keep_as] = error
        number += 1
    return number, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("trace", nargs="?", help="this one alone")
    args = parser.parse_args()
    if args.trace:
        read(args.trace)
        return
    count, failed = fuzz(args.seconds, args.seed)
    for path, error in failed.items():
        print(f"{path}: {type(error).__name__}: {error}")
    print(f"{'fuzz_trace':16} {count:,} inputs   seed {args.seed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
