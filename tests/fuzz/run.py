#!/usr/bin/env python3
"""Coverage-guided fuzzing of the headers with libFuzzer, under AddressSanitizer and UBSan; and of the trace reader.

    tests/fuzz/run.py --seconds=600                  all targets, one after the other, that long in all
    tests/fuzz/run.py --seconds=60 fuzz_region       one
    tests/fuzz/run.py fuzz_region some/input         one input, as a regression

Each tests/fuzz/fuzz_*.c is a target; fuzz_trace.py is the one of the trace reader. What it has learnt stays in
build/fuzz/corpus, so that the next run goes on from there. An input that fails is kept in build/fuzz, and its path
printed: move it to tests/fuzz/crashes/TARGET-what_it_did when it is fixed, and the tests replay it.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build/fuzz"
TARGETS = sorted(path.stem for path in HERE.glob("fuzz_*.c"))
CRASHES = HERE / "crashes"
FLAGS = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{ROOT}/include"]
SANITIZERS = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
STEP = 5  # seconds for one input, which takes less than a millisecond


def build(target, level="-O1"):
    """The program, compiled again if a header is newer."""
    program = BUILD / level.strip("-") / target
    inputs = [*HERE.glob("*.[ch]"), *ROOT.glob("include/ringbuf/*.h")]
    if program.exists() and program.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    command = ["clang", level, *FLAGS, *SANITIZERS, str(HERE / f"{target}.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def crashes(target):
    """The inputs that once failed."""
    return sorted(CRASHES.glob(f"{target.removeprefix('fuzz_')}-*"))


def replay(program, inputs):
    """Runs these inputs, each once. Returns the finished process."""
    command = [program, f"-timeout={STEP}", *inputs]
    return subprocess.run(command, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def fuzz(program, seconds, seed, corpus):
    """Searches for new inputs. Returns the finished process; what it has found wrong is in its output."""
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-timeout={STEP}", f"-seed={seed}", "-max_len=600"]
    command = [program, *options, "-print_final_stats=1", f"-artifact_prefix={BUILD}/{program.name}-", corpus]
    return subprocess.run(command, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def executions(output):
    """How many inputs a run has tried."""
    marked = [line for line in output.splitlines() if line.startswith("stat::number_of_executed_units:")]
    return int(marked[-1].split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=[*TARGETS, "fuzz_trace"])
    parser.add_argument("inputs", nargs="*", type=lambda path: Path(path).resolve())
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    args = parser.parse_args()
    if not shutil.which("clang"):
        sys.exit("clang is missing")
    if args.inputs:
        done = replay(build(args.target), args.inputs)
        print(done.stdout)
        sys.exit(done.returncode)
    targets = [args.target] if args.target else [*TARGETS, "fuzz_trace"]
    seconds = max(1, args.seconds // len(targets))
    failed = []
    for target in targets:
        if target == "fuzz_trace":
            command = [sys.executable, HERE / "fuzz_trace.py", f"--seconds={seconds}"]
            if args.seed:
                command.append(f"--seed={args.seed}")
            if subprocess.run(command, check=False).returncode:  # below zero if it crashed
                failed.append(target)
            continue
        done = fuzz(build(target), seconds, args.seed, BUILD / "corpus" / target)
        if done.returncode:
            failed.append(target)
            print(done.stdout)
        seed = next((line for line in done.stdout.splitlines() if "Seed:" in line), "")
        count = f"{executions(done.stdout):,} inputs" if not done.returncode else "FAILED"
        print(f"{target:16} {count}   {seed}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
