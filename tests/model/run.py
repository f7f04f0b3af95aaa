#!/usr/bin/env python3
"""Builds and runs the models, and prints what was searched.

    tests/model/run.py [--seconds=200] [--jobs=2] [--loud] [NAME...]

--seconds of processor time bound the whole run, building left out; NAME may be the beginning of models' names. Exit
status 1 if any model failed. `build/model/models --history NAME` then tells what happened.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from build import BuildError, build

HEADINGS = f"{'model':30} th mode      streams x sub-buffers, searched {'executions':>15} seconds  result"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=200, help="of processor time, in all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--loud", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()

    try:
        program = build(jobs=args.jobs)
    except BuildError as error:
        sys.exit(str(error))
    names = subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    if args.names:
        names = [name for name in names if name.startswith(tuple(args.names))]
    if not names:
        sys.exit("no such model")
    each = args.seconds / len(names)

    def run(name):
        command = [program, f"--seconds={each}", *["--loud"] * args.loud, name]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    print(HEADINGS)
    start, executions, failed = time.monotonic(), 0, 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for done in pool.map(run, sorted(names)):
            print(done.stdout, end="", flush=True)
            failed += done.returncode != 0
            results = [line.split() for line in done.stdout.splitlines() if line.endswith((" ok", " FAILED"))]
            executions += sum(int(words[-3]) for words in results)
    seconds = time.monotonic() - start
    print(f"{len(names)} models, {executions:,} executions, {seconds:.0f} s, {failed or 'none'} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
