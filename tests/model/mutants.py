#!/usr/bin/env python3
"""Weakens the headers, one place at a time, and expects some model to fail.

    tests/model/mutants.py [--rounds=0.5,2,8] [--jobs=2] [--list] [--unmodelled] [FILE[:LINE] | PATCH...]

Two kinds of mutants:

- Each memory order in the headers, made weaker, one step at a time. No compiling: model_order() in seam.h weakens the
  order of one site, by its number.
- PATCHES below: a check, a re-read or an order of two statements that matters, taken away. Each is compiled.

A mutant is run against the models that execute its place, first for a moment each, at random, then for so many seconds
each, in so many rounds. Survivors must be argued away in SURVIVORS below, each with its reason. Exit status 1 if a
mutant survives that is not listed there, or one that is listed is killed.

What the checker cannot show: it keeps the stores of one word in the order in which it ran them, and runs each thread's
operations in the order of the program, but for loads of old values. So an order whose only work is to keep two stores
apart, or a load before a later store, survives although C11 needs it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from build import BUILD, FLAGS, HERE, ROOT, BuildError, build

# What no model runs, since it is about processes and descriptors, or at leisure.
UNMODELLED = {
    "ringbuf_read_superblock", "ringbuf_attach_fd", "ringbuf_create_in", "ringbuf_ledger_is_idle", "ringbuf_ledger_is_clear",
}  # fmt: skip

# Why these may be weaker, or must not be although no model shows it.
SURVIVORS: dict[str, str] = {}

# name: (header, old text, new text)
PATCHES: dict[str, tuple[str, str, str]] = {
    "slot_is_free without the re-read of produced": (
        "switch.h",
        "\tif (ringbuf_load(&s->produced, RINGBUF_RELAXED) != word)\n\t\treturn -EAGAIN;\n",
        "\t(void)word;\n",
    ),
    "enter without the check of the pass": (
        "switch.h",
        "if (RINGBUF_LIKELY(ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos)))",
        "if (1)",
    ),
    "roll back without a new tag": (
        "discard.h",
        "ringbuf_word_retagged(word, r->pos)",
        "ringbuf_word_at(word, r->pos)",
    ),
    "roll back over a boundary": (
        "discard.h",
        "\tif (ringbuf_subbuf_off(&ch->geometry, word) == 0)\n\t\treturn 0;\n",
        "",
    ),
    "close_stream without a new tag": (
        "channel.h",
        "ringbuf_word_retagged(word, ringbuf_pos(word))",
        "word",
    ),
    "no look at the state after sampling the position": (
        "reserve.h",
        "\tif (RINGBUF_UNLIKELY(ringbuf_load(&ch->control->state, RINGBUF_RELAXED) &\n"
        "\t\t\t     RINGBUF_STATE_FINALIZED))\n\t\treturn -ESHUTDOWN;\n",
        "",
    ),
    "the end believed without closing the stream": (
        "channel.h",
        "\tringbuf_close_stream(r->ch, producer, r->stream_idx);\n\treturn ringbuf_is_drained(r);",
        "\t(void)producer;\n\treturn 1;",
    ),
    "no look at the state before sleeping for space": (
        "producer.h",
        "\tif (ringbuf_load(&ch->control->state, RINGBUF_SEQ_CST))\n\t\treturn 0;\n",
        "",
    ),
    "a record that fills its sub-buffer by the fast path": (
        "reserve.h",
        "off + ringbuf_layout_record(client, ch, r, off) >=\n",
        "off + ringbuf_layout_record(client, ch, r, off) >\n",
    ),
    "no second look at the CPU number, fast path": (
        "reserve.h",
        "if (RINGBUF_UNLIKELY(per_cpu && ringbuf_cpu() != cpu))",
        "if (0)",
    ),
    "no second look at the CPU number, slow path": (
        "reserve.h",
        "if (ch->streams == RINGBUF_PER_CPU && ringbuf_cpu() != cpu)",
        "if (0)",
    ),
    "early clock in the slow path": (
        "switch.h",
        "\treturn ringbuf_clock_ordered(ch);",
        "\treturn ringbuf_clock_early(ch);",
    ),
    "lapped packets are never lost": (
        "switch.h",
        "if (!(ref & (RINGBUF_REF_HELD | RINGBUF_REF_READ)))",
        "if (0)",
    ),
    "held packets are lost when lapped": (
        "switch.h",
        "if (!(ref & (RINGBUF_REF_HELD | RINGBUF_REF_READ)))",
        "if (!(ref & RINGBUF_REF_READ))",
    ),
    "a held sub-buffer is reused": ("switch.h", "if (ref & RINGBUF_REF_HELD)", "if (0)"),
    "read packets are lost when lapped": (
        "switch.h",
        "if (!(ref & (RINGBUF_REF_HELD | RINGBUF_REF_READ)))",
        "if (!(ref & RINGBUF_REF_HELD))",
    ),
    "discard mode does not look at consumed_pos": (
        "switch.h",
        "if (ch->mode == RINGBUF_DISCARD &&\n",
        "if (0 &&\n",
    ),
    "a sub-buffer is entered before it is delivered": (
        "switch.h",
        "\tif ((uint32_t)delivered != ringbuf_commit_base(g, begin))\n\t\treturn -EIO;\n",
        "",
    ),
    "the position is put back before it is unheld": (
        "reader.h",
        "\tringbuf_account_packet(s, p->records, how == RINGBUF_PUT_READ);\n"
        "\tringbuf_unhold(r->ch, s, p->pos, p->subbuf_idx, RINGBUF_REF_READ);\n",
        "\tringbuf_unhold(r->ch, s, p->pos, p->subbuf_idx, RINGBUF_REF_READ);\n"
        "\tringbuf_account_packet(s, p->records, how == RINGBUF_PUT_READ);\n",
    ),
    "a delivered packet's time for short timestamps is stored before its count": (
        "commit.h",
        "\tringbuf_count(client, ch, r->stream, r->stream_idx, r->slot, r->pos,\n"
        "\t\t      RINGBUF_ONE_RECORD + r->size);\n",
        "\tringbuf_store(&r->stream->base_timestamp, r->timestamp, RINGBUF_RELAXED);\n"
        "\tringbuf_count(client, ch, r->stream, r->stream_idx, r->slot, r->pos,\n"
        "\t\t      RINGBUF_ONE_RECORD + r->size);\n",
    ),
    "fillers are not settled": (
        "commit.h",
        "if (RINGBUF_UNLIKELY(ringbuf_load(&slot->fillers, RINGBUF_RELAXED)))",
        "if (0)",
    ),
    "the filler map is not cleared": (
        "discard.h",
        "\t\tringbuf_store(&w.map[i], 0, RINGBUF_RELAXED);",
        "\t\tringbuf_store(&w.map[i], ringbuf_load(&w.map[i], RINGBUF_RELAXED), RINGBUF_RELAXED);",
    ),
}


@dataclass
class Mutant:
    name: str
    program: Path
    options: list[str]
    models: list[str]


# ---- memory orders ----

OCCURRENCE = re.compile(r"RINGBUF_(ACQUIRE|RELEASE|ACQ_REL|SEQ_CST)\b")
CALL = re.compile(r"ringbuf_(load|store|add|or|and|exchange|cas)$")


def without_comments(text):
    """The text with comments blanked out, so that offsets stay."""
    return re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def operation_at(text, offset):
    """The innermost call around `offset`: its name, and which argument this is."""
    depth, argument = 0, 0
    for i in range(offset, 0, -1):
        c = text[i]
        if c == ")":
            depth += 1
        elif c == "(" and depth:
            depth -= 1
        elif c == "," and not depth:
            argument += 1
        elif c == "(":
            call = CALL.search(text[:i])
            if call:
                return call[1], argument
    raise ValueError(text[offset - 80 : offset])


def function_at(text, offset):
    return re.findall(r"^(\w+)\(", text[:offset], re.M)[-1]


@dataclass
class Site:
    number: int
    header: str
    line: int
    function: str
    operation: str  # load, store, rmw, failure
    order: str

    def weaker(self):
        order = self.order
        if self.operation in ("load", "failure"):
            return {"seq_cst": ["acquire", "relaxed"], "acquire": ["relaxed"]}[order]
        if self.operation == "store":
            return {"seq_cst": ["release", "relaxed"], "release": ["relaxed"]}[order]
        return {"seq_cst": ["acq_rel"], "acq_rel": ["acquire", "release", "relaxed"]}.get(order, ["relaxed"])


def sites(include):
    """All memory orders that the models compile, numbered as __COUNTER__ numbers them."""
    flags = [flag for flag in FLAGS if flag not in ("-g", "-pipe")]
    command = ["g++", *flags, f"-I{include}", "-E", HERE / "model.cc"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    header, numbers = None, {}
    for line in text.splitlines():
        if marker := re.match(r'# \d+ "(.*?)"', line):
            header = Path(marker[1]).name
        for number in re.findall(r"model_order\(rl::mo_\w+, (\d+)\)", line):
            numbers.setdefault(header, []).append(int(number))
    found = []
    for header, counted in numbers.items():
        text = without_comments((Path(include) / "ringbuf" / header).read_text())
        places = [m for m in OCCURRENCE.finditer(text) if not text[: m.start()].rpartition("\n")[2].startswith("#")]
        assert len(places) == len(counted), header
        for number, place in zip(counted, places, strict=True):
            name, argument = operation_at(text, place.start())
            operation = name if name in ("load", "store") else "failure" if name == "cas" and argument == 4 else "rmw"
            line = text.count("\n", 0, place.start()) + 1
            function = function_at(text, place.start())
            found.append(Site(number, header, line, function, operation, place[1].lower()))
    return found


# ---- running ----


def output_of(program, *args):
    return subprocess.run(["nice", program, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def models_of_sites(program, models, jobs):
    """Which models execute which site."""
    where = {}
    with ThreadPoolExecutor(jobs) as pool:
        runs = pool.map(lambda m: (m, output_of(program, "--search=pct", "--executions=400", "--sites", m)), models)
        for model, done in runs:
            for number in re.findall(r"^site (\d+)$", done.stdout, re.M):
                where.setdefault(int(number), []).append(model)
    return where


GLANCE = ["--search=pct", "--preemptions=3", "--seconds=0.2"]


def kill(mutant, rounds, jobs):
    """Returns what the first failing model said, or None."""
    for how in [GLANCE, *([f"--seconds={seconds}"] for seconds in rounds)]:
        with ThreadPoolExecutor(jobs) as pool:
            runs = [pool.submit(output_of, mutant.program, *how, *mutant.options, m) for m in mutant.models]
            try:
                for run in runs:
                    done = run.result()
                    if done.returncode:
                        return explain(done.stdout)
            finally:
                for run in runs:
                    run.cancel()
    return None


def explain(output):
    """The line of a failed model that says what failed, without the way to the header."""
    line = next((line for line in output.splitlines() if ": thread " in line), output.strip())
    return re.sub(r"/\S*/", "", line.replace(" detected", ""))


def report(name, killer, seconds):
    expected = SURVIVORS.get(name)
    verdict = "killed" if killer else "argued" if expected else "SURVIVED"
    note = killer or expected or ""
    print(f"{verdict:8} {name:72} {seconds:6.1f} s  {note}", flush=True)
    if bool(killer) == bool(expected):
        return [name]
    return []


def order_mutants(program, include, models, args):
    where = models_of_sites(program, models, args.jobs)
    unmodelled, wrong, count = [], [], 0
    for site in sites(include):
        place = f"{site.header}:{site.line}"
        if args.only and not any(place == only or site.header == only for only in args.only):
            continue
        if site.number not in where:
            if site.function not in UNMODELLED:
                unmodelled.append(f"{place} {site.function}")
            continue
        dead = False
        for weaker in site.weaker():
            if dead and not (site.operation == "rmw" and weaker in ("acquire", "release")):
                continue  # weaker still than one that was killed
            name = f"{site.header} {site.function} {site.operation} {site.order} -> {weaker} (line {site.line})"
            start = time.monotonic()
            mutant = Mutant(name, program, [f"--mutant={site.number}:{weaker}"], where[site.number])
            killer = kill(mutant, args.rounds, args.jobs)
            wrong += report(re.sub(r" \(line \d+\)", "", name), killer, time.monotonic() - start)
            dead = dead or bool(killer)
            count += 1
    for place in unmodelled:
        print(f"NOT RUN  {place}: no model executes it")
    return count, wrong + unmodelled


def patch_mutants(include, models, args):
    wrong, count = [], 0
    for name, (header, old, new) in PATCHES.items():
        if args.only and not any(only == name or only == header for only in args.only):
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="mutant-") as place:
            shutil.copytree(include, Path(place) / "include")
            path = Path(place) / "include" / "ringbuf" / header
            text = path.read_text()
            if text.count(old) != 1:
                print(f"STALE    {name}: its text is not in {header} once", flush=True)
                wrong.append(name)
                continue
            path.write_text(text.replace(old, new))
            # explore.cc includes none of the headers
            program = build(Path(place) / "include", Path(place), args.jobs, reuse=("explore",))
            killer = kill(Mutant(name, program, [], models), args.rounds, args.jobs)
            wrong += report(name, killer, time.monotonic() - start)
            count += 1
    return count, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=lambda s: [float(x) for x in s.split(",")], default=[0.5, 2, 8])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--include", type=Path, default=ROOT / "include")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--no-orders", action="store_true")
    parser.add_argument("--no-patches", action="store_true")
    parser.add_argument("only", nargs="*")
    args = parser.parse_args()

    if args.list:
        for site in sites(args.include):
            print(site.number, f"{site.header}:{site.line}", site.function, site.operation, site.order)
        return 0
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        program = build(args.include, jobs=args.jobs)
    except BuildError as error:
        sys.exit(str(error))
    models = output_of(program, "--list").stdout.split()
    failure = kill(Mutant("none", program, [], models), args.rounds[:1], args.jobs)
    if failure:
        sys.exit(f"fails without any mutant: {failure}")
    start, count, wrong = time.monotonic(), 0, []
    if not args.no_patches:
        n, w = patch_mutants(args.include, models, args)
        count, wrong = count + n, wrong + w
    if not args.no_orders:
        n, w = order_mutants(program, args.include, models, args)
        count, wrong = count + n, wrong + w
    print(f"{count} mutants, {time.monotonic() - start:.0f} s; not as expected: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
