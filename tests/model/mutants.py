#!/usr/bin/env python3
"""Weakens the headers, one place at a time, and expects some model to fail.

    tests/model/mutants.py [--seconds=60] [--jobs=2] [--only=TEXT]... [--again] [--list]

Three kinds of mutants:

- each memory order in the headers that models compile, made weaker, one step at a time. No compiling: model_order() in
  seam.h weakens the order of one site, by its number;
- PAIRS: two of these at once, where each alone is covered for by the other;
- PATCHES: a check, a re-read or an order of two statements that matters, taken away. Each is compiled.

A mutant is run against the models that execute its place: first the one that killed it the last time (killers.txt),
then all, for a moment each and then for longer, up to --seconds of processor time in all. Those that survive must be
argued away in docs/verification.md, by name. Exit status 1 if a mutant survives that is not named there, or if one that
is named is killed.

Results are kept in build/model/mutants.txt until a header or a model changes, so that a run can be interrupted and
taken up again; --again forgets them. A run of all mutants writes killers.txt.
"""

import argparse
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from build import BUILD, FLAGS, HERE, ROOT, BuildError, build

INCLUDE = ROOT / "include"
HINTS = HERE / "killers.txt"
KEPT = BUILD / "mutants.txt"
ARGUED = ROOT / "docs" / "verification.md"

# name: two orders, as the list of mutants names them
PAIRS: dict[str, tuple[str, str]] = {
    "switch.h: neither consumed_pos nor the slot's word says that the reader is done": (
        "switch.h ringbuf_slot_is_free load seq_cst -> relaxed",
        "reader.h ringbuf_exchange_held rmw release -> relaxed",
    ),
}

# name: (header, old text, new text)
PATCHES: dict[str, tuple[str, str, str]] = {
    "slot_is_free without the re-read of produced": (
        "switch.h",
        "\tif (ringbuf_load(&s->produced, RINGBUF_RELAXED) != word)\n\t\treturn -EAGAIN;\n",
        "\t(void)word;\n",
    ),
    "enter without the check of the pass": (
        "park.h",
        "if (RINGBUF_LIKELY(ringbuf_ref_pass(ref) == ringbuf_ref_pass_at(ch, pos) && idx",
        "if (RINGBUF_LIKELY(idx",
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
        "\t    RINGBUF_UNLIKELY(ringbuf_cpu() != cpu))",
        "\t    0)",
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
    "lapped packets are never lost": ("park.h", ": *next | RINGBUF_REF_LOST;", ": *next;"),
    "held packets are lost when lapped": (
        "park.h",
        "? pass | (old & RINGBUF_REF_SPARE_MASK)",
        "? RINGBUF_REF_LOST | pass | (old & RINGBUF_REF_SPARE_MASK)",
    ),
    "a held sub-buffer is reused": ("park.h", "*next = old & RINGBUF_REF_HELD ?", "*next = 0 ?"),
    "read packets are lost when lapped": (
        "park.h",
        "if (old & RINGBUF_REF_READ)\n\t\treturn 1;",
        "if (old & RINGBUF_REF_READ)\n\t\treturn *next |= RINGBUF_REF_LOST, 1;",
    ),
    "a spare that is set aside for another packet is taken": (
        "park.h",
        "if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_FREE)\n",
        "if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_FREE || ringbuf_stage_phase(stage) == RINGBUF_STAGE_TAKEN)\n",
    ),
    "a parked sub-buffer is taken for a spare before it is complete": (
        "park.h",
        "if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_FREE)\n",
        "if (ringbuf_stage_phase(stage) == RINGBUF_STAGE_FREE || ringbuf_stage_phase(stage) == RINGBUF_STAGE_PARKED)\n",
    ),
    "whoever is late takes what stands in the slot for its own": (
        "park.h",
        "if (ringbuf_ref_pass(ref) == pass)\n",
        "if (1)\n",
    ),
    "nothing is set aside before the position moves": (
        "switch.h",
        "\t\tif (!ringbuf_set_aside(ch, s, begin))\n",
        "\t\tif (1)\n",
    ),
    "nobody enters a slot for another": (
        "park.h",
        "\tringbuf_enter(ch, s, pos); /* its opener may be slow to do so */\n",
        "",
    ),
    "what a parked packet has lapped is forgotten": (
        "commit.h",
        "parked ? (stage & RINGBUF_STAGE_LOST) != 0",
        "parked ? 0",
    ),
    "a parked packet in a mapper's hands is a spare": (
        "commit.h",
        "if (parked && stage & RINGBUF_STAGE_KEPT)",
        "if (0)",
    ),
    "discard mode does not look at consumed_pos": (
        "switch.h",
        "if (ch->mode == RINGBUF_DISCARD &&\n",
        "if (0 &&\n",
    ),
    "a sub-buffer is entered before it is delivered": (
        "switch.h",
        "!ringbuf_stage_is(stage, before, RINGBUF_STAGE_DONE))",
        "0)",
    ),
    "the hold is given up before the packet is counted": (
        "reader.h",
        "\tringbuf_account_packet(s, p->records, ringbuf_records_read(p, how));\n",
        "\tringbuf_release_hold(s);\n\tringbuf_account_packet(s, p->records, ringbuf_records_read(p, how));\n",
    ),
    "a delivered packet's time for short timestamps is stored before its count": (
        "commit.h",
        "\tringbuf_count(ch, r->stream, ringbuf_ledger_stream(r->owned), r->subbuf, ringbuf_pos(r->owned),\n"
        "\t\t      ringbuf_n_records(r) * RINGBUF_ONE_RECORD + r->size);\n",
        "\tringbuf_store(&r->stream->base_timestamp, r->timestamp, RINGBUF_RELAXED);\n"
        "\tringbuf_count(ch, r->stream, ringbuf_ledger_stream(r->owned), r->subbuf, ringbuf_pos(r->owned),\n"
        "\t\t      ringbuf_n_records(r) * RINGBUF_ONE_RECORD + r->size);\n",
    ),
    "fillers are not settled": (
        "commit.h",
        "if (RINGBUF_UNLIKELY(ringbuf_load(&sb->fillers, RINGBUF_RELAXED)))",
        "if (0)",
    ),
    "a slot is had from one who died over a record": (
        "ledger.h",
        "\t\t    RINGBUF_LEDGER_TAKEN)\n\t\t\treturn 0;\n",
        "\t\t    RINGBUF_LEDGER_TAKEN)\n\t\t\tbreak;\n",
    ),
    "the wish to be woken is cleared after the waking": (
        "wait.h",
        "\tringbuf_store(wanted, 0, RINGBUF_RELAXED); /* by O14 */\n"
        "\t/* O14 release: that clearing. Pairs with the load in ringbuf_wait_prepare. */\n"
        "\tringbuf_add(seq, 1, RINGBUF_RELEASE);\n"
        "\tringbuf_futex_wake_all(seq);\n",
        "\tringbuf_add(seq, 1, RINGBUF_RELEASE);\n"
        "\tringbuf_futex_wake_all(seq);\n"
        "\tringbuf_store(wanted, 0, RINGBUF_RELAXED);\n",
    ),
    "the filler map is not cleared": (
        "holes.h",
        "\t\tringbuf_store(&w.map[i], 0, RINGBUF_RELAXED);",
        "\t\tringbuf_store(&w.map[i], ringbuf_load(&w.map[i], RINGBUF_RELAXED), RINGBUF_RELAXED);",
    ),
}


@dataclass
class Mutant:
    name: str
    header: str
    options: list[str] = field(default_factory=list)  # of the models
    patch: tuple[str, str] | None = None
    models: list[str] | None = None  # that execute it; None: not known


@dataclass
class Verdict:
    killer: str | None
    seconds: float
    what: str = ""


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
    header: str
    line: int
    function: str
    operation: str  # load, store, rmw, failure
    order: str
    nth: int = 1  # of its kind in the function
    number: int | None = None  # None: no model compiles it

    @property
    def name(self):
        nth = f" {self.nth}" if self.nth > 1 else ""
        return f"{self.header} {self.function} {self.operation}{nth} {self.order}"

    def weaker(self):
        if self.operation in ("load", "failure"):
            return {"seq_cst": ["acquire", "relaxed"], "acquire": ["relaxed"]}[self.order]
        if self.operation == "store":
            return {"seq_cst": ["release", "relaxed"], "release": ["relaxed"]}[self.order]
        return {"seq_cst": ["acq_rel", "acquire", "release", "relaxed"],
                "acq_rel": ["acquire", "release", "relaxed"]}.get(self.order, ["relaxed"])  # fmt: skip


def implies(order, killed):
    """Is `order` weaker than one that was killed already?"""
    weaker = {"acq_rel": {"acquire", "release", "relaxed"}, "acquire": {"relaxed"}, "release": {"relaxed"}}
    return any(order in weaker.get(other, ()) for other in killed)


def sites_of(path):
    """All orders stronger than relaxed in a header, in the order of the text."""
    text = without_comments(path.read_text())
    seen = {}
    for place in OCCURRENCE.finditer(text):
        if text[: place.start()].rpartition("\n")[2].startswith("#"):
            continue
        name, argument = operation_at(text, place.start())
        operation = name if name in ("load", "store") else "failure" if name == "cas" and argument == 4 else "rmw"
        line = text.count("\n", 0, place.start()) + 1
        site = Site(path.name, line, function_at(text, place.start()), operation, place[1].lower())
        kind = site.name
        site.nth = seen[kind] = seen.get(kind, 0) + 1
        yield site


def numbers_by_header():
    """The numbers that __COUNTER__ gives to the orders of each header that models compile."""
    command = ["g++", *FLAGS, f"-I{INCLUDE}", "-E", HERE / "model.cc"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    header, numbers = None, {}
    for line in text.splitlines():
        if marker := re.match(r'# \d+ "(.*?)"', line):
            header = Path(marker[1]).name
        for number in re.findall(r"model_order\(rl::mo_\w+, (\d+)\)", line):
            numbers.setdefault(header, []).append(int(number))
    return numbers


def sites():
    numbers, found = numbers_by_header(), []
    for path in sorted((INCLUDE / "ringbuf").glob("*.h")):
        if path.name == "atomic.h":
            continue
        here = list(sites_of(path))
        if path.name in numbers:
            for site, number in zip(here, numbers[path.name], strict=True):
                site.number = number
        found += here
    return found


# ---- the list of mutants ----


def order_mutants(found, where):
    for site in found:
        if site.number is None:
            continue
        for order in site.weaker():
            yield Mutant(
                f"{site.name} -> {order}", site.header, [f"--mutant={site.number}:{order}"], None,
                where.get(site.number, []),
            )  # fmt: skip


def pair_mutants(orders):
    by_name = {mutant.name: mutant for mutant in orders}
    for name, pair in PAIRS.items():
        first, second = (by_name[one] for one in pair)
        models = [model for model in first.models if model in second.models]
        yield Mutant(name, first.header, first.options + second.options, None, models)


def patch_mutants():
    for name, (header, old, new) in PATCHES.items():
        yield Mutant(f"{header}: {name}", header, [], (old, new))


NOT_RUN = 126, 127, -signal.SIGKILL  # as nice and the kernel say it: no model has failed


def output_of(program, *args):
    command = ["nice", "-n", "19", program, *args]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode in NOT_RUN:
        raise OSError(f"{program} did not run: {done.stdout.strip() or done.returncode}")
    return done


def models_of_sites(program, models, jobs):
    """Which models execute which site."""
    where = {}
    with ThreadPoolExecutor(jobs) as pool:
        runs = pool.map(lambda m: (m, output_of(program, "--search=pct", "--executions=300", "--sites", m)), models)
        for model, done in runs:
            for number in re.findall(r"^site (\d+)$", done.stdout, re.M):
                where.setdefault(int(number), []).append(model)
    return where


# ---- running ----


def patched(mutant, place, jobs):
    """Builds the models over headers with a patch. ValueError: the patch does not fit."""
    shutil.copytree(INCLUDE, place / "include")
    path = place / "include" / "ringbuf" / mutant.header
    text = path.read_text()
    old, new = mutant.patch
    if text.count(old) != 1:
        raise ValueError(f"its text is not in {mutant.header} once")
    path.write_text(text.replace(old, new))
    # explore.cc includes none of the headers, and main.cc uses none of their functions
    return build(place / "include", place, jobs, reuse=("explore", "main"), optimize="-O1")


def why(output):
    """The line of a failed model that says what failed, without the way to the header."""
    line = next((line for line in output.splitlines() if ": thread " in line), output.strip())
    return re.sub(r"/\S*/", "", line.replace(" detected", ""))


def try_all(program, mutant, models, seconds, jobs):
    """Each model for so many seconds; returns the first that fails and what it said."""
    with ThreadPoolExecutor(jobs) as pool:
        options = (f"--seconds={seconds}", *mutant.options)
        runs = [(model, pool.submit(output_of, program, *options, model)) for model in models]
        try:
            for model, run in runs:
                done = run.result()
                if done.returncode:
                    return model, why(done.stdout)
        finally:
            for _, run in runs:
                run.cancel()
    return None


def cpu_seconds():
    """Of all programs run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kill(program, mutant, models, hint, budget, jobs):
    """Searches until a model fails or the budget is spent. All seconds are of processor time."""
    start = cpu_seconds()
    rounds = [([hint], seconds) for seconds in (0.5, 4, 12)] if hint in models else []
    each = 0.2
    while budget > 0 and models:
        each = max(min(each, budget / len(models)), 0.1)
        rounds.append((models, each))
        budget -= each * len(models)
        each *= 3
    for some, seconds in rounds:
        if killed := try_all(program, mutant, some, seconds, jobs):
            return Verdict(killed[0], cpu_seconds() - start, killed[1])
    return Verdict(None, cpu_seconds() - start)


def run_one(program, mutant, models, hint, args):
    models = models if mutant.models is None else mutant.models
    if not mutant.patch:
        return kill(program, mutant, models, hint, args.seconds, args.jobs)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="mutant-") as place:
        return kill(patched(mutant, Path(place), args.jobs), mutant, models, hint, args.seconds, args.jobs)


# ---- what is known ----


def read_table(path):
    """Lines of tabs, by their first column."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {cells[0]: cells[1:] for cells in (line.split("\t") for line in lines if line and line[0] != "#")}


def digests(headers):
    """Of the headers that models compile, and of these and the models: whoever survived meets new models again."""
    headers = sorted(INCLUDE / "ringbuf" / name for name in headers)
    models = sorted([*HERE.glob("*.cc"), *HERE.glob("*.h")])
    texts = [b"".join(path.read_bytes() for path in paths) for paths in (headers, headers + models)]
    return [hashlib.sha1(text).hexdigest()[:12] for text in texts]


def argued():
    """name: why it may survive, from the tables in docs/verification.md between the marks."""
    text = ARGUED.read_text().partition("<!-- survivors:")[2].partition("<!-- end -->")[0] if ARGUED.exists() else ""
    return {name: why for names, why in re.findall(r"^\| (`.*?`) \| (.*?) \|$", text, re.M)
            for name in re.findall(r"`(.*?)`", names)}  # fmt: skip


def expected(name, reasons):
    """The reason that is given for this mutant, or for all of its site."""
    return reasons.get(name) or reasons.get(name.partition(" -> ")[0])


def write_hints(killers):
    head = (
        "# Which model killed a mutant the last time, and after how many seconds: it is tried first."
        " Written by mutants.py.\n"
    )
    HINTS.write_text(head + "".join(f"{name}\t{model}\t{seconds}\n" for name, (model, seconds) in killers.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of processor time, for each mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", action="append", default=[], help="mutants with this in their names")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()

    try:
        program = build(jobs=args.jobs)
    except BuildError as error:
        sys.exit(str(error))
    models = output_of(program, "--list").stdout.split()
    found = sites()
    where = models_of_sites(program, models, args.jobs)
    orders = list(order_mutants(found, where))
    mutants = [*orders, *pair_mutants(orders), *patch_mutants()]
    unmodelled = sorted({site.name for site in found if site.number not in where})
    if args.only:
        mutants = [mutant for mutant in mutants if any(text in mutant.name for text in args.only)]
    if args.list:
        print("\n".join(mutant.name for mutant in mutants))
        return 0
    if killed := try_all(program, Mutant("none", ""), models, 0.2, args.jobs):
        sys.exit(f"fails without any mutant: {killed[1]}")
    headers = {site.header for site in found if site.number is not None}
    return judge(program, mutants, models, unmodelled, headers, args)


def judge(program, mutants, models, unmodelled, headers, args):
    keys, reasons, before = digests(headers), argued(), read_table(KEPT)
    hints = {**read_table(HINTS), **{name: [killer] for name, (_, killer, *_) in before.items() if killer}}
    kept = {} if args.again else {n: v for n, v in before.items() if v[0] == keys[not v[1]]}
    start, wrong, killers, killed_orders = time.monotonic(), [], {}, {}
    n_killed = n_argued = 0
    with open(KEPT, "w") as out:
        for mutant in mutants:
            site, _, order = mutant.name.partition(" -> ")
            if implies(order, killed_orders.get(site, ())):
                continue  # weaker still than one that was killed
            if mutant.models == []:
                continue  # said below
            if mutant.name in kept:
                _, killer, seconds, what = kept[mutant.name]
                verdict = Verdict(killer or None, float(seconds), what)
            else:
                hint = hints.get(mutant.name, [None])[0]
                try:
                    verdict = run_one(program, mutant, models, hint, args)
                except (BuildError, ValueError) as error:
                    print(f"STALE    {mutant.name}: {error}", flush=True)
                    wrong.append(mutant.name)
                    continue
            key, seconds = keys[not verdict.killer], f"{verdict.seconds:.1f}"
            print(mutant.name, key, verdict.killer or "", seconds, verdict.what, sep="\t", file=out, flush=True)
            reason = expected(mutant.name, reasons)
            word = "killed" if verdict.killer else "argued" if reason else "SURVIVED"
            note = verdict.what or reason or ""
            print(f"{word:8} {mutant.name:72} {verdict.seconds:6.1f} s  {note}", flush=True)
            if verdict.killer:
                killers[mutant.name] = verdict.killer, f"{verdict.seconds:.1f}"
                killed_orders.setdefault(site, set()).add(order)
            n_killed += bool(verdict.killer)
            n_argued += not verdict.killer and bool(reason)
            if bool(verdict.killer) == bool(reason):
                wrong.append(mutant.name)
        # those that this run left out
        for name, cells in kept.items():
            if name not in {mutant.name for mutant in mutants}:
                print("\t".join([name, *cells]), file=out)
    if not args.only:
        write_hints(killers)
        for name in unmodelled:
            known = expected(name, reasons)
            print(f"{'not run ' if known else 'NOT RUN '} {name}: {known or 'no model executes it'}")
            wrong += [] if known else [name]
    print(
        f"{n_killed} killed, {n_argued} argued away, {len(unmodelled)} orders in no model, "
        f"{time.monotonic() - start:.0f} s; not as expected: {len(wrong)}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
