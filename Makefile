# `make help` lists the commands. Everything is made in .venv and build/. Only two things reach further, and only for
# root on a Debian system: what Python needs to build extensions, and the tools that the tests use.

PYTHON ?= $(shell tools/find-python.sh)
export VENV := .venv
PY := $(VENV)/bin/python

# The same as build-system.requires in pyproject.toml; a test compares them.
BUILD_REQUIRES := "setuptools>=77" "cython>=3.1,<4"

# What the two extensions are made from. Plain Python files need no build: the install is editable.
COMPILED := pyproject.toml setup.py $(wildcard include/ringbuf/*.h $(addprefix src/ringbuf/*.,pyx pxd pxi h) $(addprefix src/ringbuf/*/*.,pxi h))

MODEL := nice -n 19 $(PY)
C_TESTS := $(PY) -m pytest tests/c -k "not compiles_with_clang"

export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME

.DELETE_ON_ERROR:
.PHONY: build demo test test-others wheels fresh test-c model mutants tsan asan asan-python musl compilers fuzz aarch64 kill soak chaos guard bench bench-page bench-service bench-report suites docs lint format types check check-format quick clean distclean help

build: $(VENV)/.built  ## set up .venv and build ringbuf in it, editable (the default)

demo: $(VENV)/.built  ## hash the standard library in worker processes and trace it into build/demo-trace
	$(PY) examples/hash_stdlib.py build/demo-trace

test: $(VENV)/.built $(VENV)/.test  ## all tests, on every CPython found that is new enough
	tools/test.sh

# Those that pyproject.toml promises, and the free-threaded build.
TESTED := $(shell sed -n 's/.*:: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml) 3.14t
test-others: $(VENV)/.built $(VENV)/.test  ## the Python tests on those of TESTED= (all promised ones) that make test has not run; CHOSEN=1: some of the tests; SOURCES= of CPython
	@others="$(filter-out $(shell tools/find-python.sh --all | cut -d " " -f 1),$(TESTED))"; \
	    [ -z "$$others" ] || SOURCES="$(SOURCES)" CHOSEN="$(CHOSEN)" tools/test.sh $$others

wheels: $(VENV)/.built $(VENV)/.test  ## a wheel in dist/ for each CPython found, tried with the README's code; VERSIONS= for these
	tools/wheels.sh $(VERSIONS)

fresh:  ## the two commands of the README in minimal Debian systems, as root; RELEASES=(bookworm trixie testing), ONLY=demo
	tools/fresh.sh $(if $(ONLY),--$(ONLY)) $(RELEASES)

test-c: $(VENV)/.pytest  ## only the tests of the C headers; more flags with RINGBUF_CFLAGS=
	$(PY) -m pytest tests/c

# What these show, and the figures of the last full runs: docs/verification.md.
model: $(VENV)/.python  ## search all models of the headers, SECONDS of processor time in all (600), on JOBS processors (2)
	$(MODEL) tests/model/run.py --seconds=$(or $(SECONDS),600) --jobs=$(or $(JOBS),2)

mutants: $(VENV)/.python  ## weaken each memory order of the headers, and see that some model notices; SECONDS for each (60), JOBS (2)
	$(MODEL) tests/model/mutants.py --seconds=$(or $(SECONDS),60) --jobs=$(or $(JOBS),2)

tsan: $(VENV)/.pytest  ## the C tests under ThreadSanitizer
	RINGBUF_CFLAGS=-fsanitize=thread $(C_TESTS)

ASAN := -fsanitize=address,undefined -fno-sanitize-recover=all
asan: $(VENV)/.pytest  ## the C tests under AddressSanitizer, LeakSanitizer and UBSan
	RINGBUF_CFLAGS="$(ASAN)" $(C_TESTS)

# Their own build, in build/asan: nothing that is installed changes. CPython's own leaks are many.
asan-python: $(VENV)/.built $(VENV)/.test  ## the extensions under AddressSanitizer and UBSan, with the Python tests that matter
	CFLAGS="$(ASAN) -O1 -g" LDFLAGS="$(ASAN)" $(PY) setup.py -q build --build-lib build/asan/lib --build-temp build/asan/temp
	LD_PRELOAD="$$(cc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=build/asan/lib \
	    $(PY) -m pytest -p no:cacheprovider $(foreach name,model_of_a_channel channel client event reader reservation,tests/test_$(name).py) \
	    tests/ctf tests/live/test_merge.py tests/live/test_sharing.py tests/record/test_recorder.py \
	    tests/record/test_recovery.py tests/trace/test_decode.py tests/trace/test_trace.py tests/lifetime/test_views.py

musl: $(VENV)/.pytest  ## the C tests with musl for a C library, by Debian's musl-tools
	CC="$$(cd tests && ../$(PY) -c 'import cross; print(cross.MUSL["CC"])')" $(C_TESTS)

compilers:  ## headers and C tests by all gcc and clang of Debian's releases, as root; RELEASES=(bookworm trixie sid)
	tools/compilers.sh $(RELEASES)

# Qemu's user emulation frees no lock when a thread dies, and has no restartable sequences.
aarch64: $(VENV)/.pytest  ## the C tests compiled for aarch64, under qemu; without those about death
	CC=aarch64-linux-gnu-gcc RINGBUF_CFLAGS=-static RINGBUF_EMULATOR=qemu-aarch64 $(PY) -m pytest \
	    -k "not compiles_with_clang and not killed and not restartable" \
	    $(filter-out $(addprefix tests/c/test_,certificate.c producer.c consumer.c historical.c map_death.c repair.c schedules.c), \
	        $(wildcard tests/c/test_*.c))

kill: $(VENV)/.built $(VENV)/.test  ## the whole kill matrix, then DEATHS=5000 random deaths in each kind of channel
	RINGBUF_KILL=all $(PY) -m pytest tests/kill/test_matrix.py
	for mode in discard overwrite; do for streams in global per-cpu; do for readers in "" --readers; do \
		$(PY) tests/kill/torture.py --deaths=$(or $(DEATHS),5000) --mode=$$mode --streams=$$streams $$readers || exit 1; \
	done; done; done

TIME ?= 60
fuzz: $(VENV)/.built $(VENV)/.test  ## coverage-guided fuzzing of the headers, and of the trace reader; TIME= seconds in all (60)
	nice -n 19 $(PY) tests/fuzz/run.py --seconds=$(TIME)

soak: $(VENV)/.built $(VENV)/.test  ## everything at the same time, TIME= seconds long (60); SEED= repeats its choices
	$(PY) tests/stress/soak.py --seconds $(TIME)

chaos: $(VENV)/.built $(VENV)/.test  ## processes that end in every way, with a stream outside; TIME=, SEED= as for soak
	$(PY) tests/stress/chaos.py --seconds $(TIME)

guard: $(VENV)/.built $(VENV)/.test  ## write the instruction counts of a record, with which the tests compare, anew
	RINGBUF_GUARD_WRITE=1 $(PY) -m pytest tests/guard

BENCH := $(PY) -m pytest bench --benchmark-only
bench: $(VENV)/.built $(VENV)/.peers  ## all benchmarks, beside what else there is; SCALE=0.1 for a quick look
	$(BENCH) --bench-scale $(or $(SCALE),1)

RUNS ?= 3
bench-page: $(VENV)/.built $(VENV)/.test  ## the page of a trace of RECORDS (20 M): writing, first picture, panning
	$(PY) bench/page.py --records $(or $(RECORDS),20000000)

bench-service: $(VENV)/.built  ## the 99th percentile of a service with everything on, beside the same one without
	$(PY) bench/service.py

bench-report: $(VENV)/.built $(VENV)/.peers  ## all benchmarks, RUNS= times (3), and docs/performance.md from them
	@mkdir -p build/bench
	for run in $$(seq $(RUNS)); do \
		$(BENCH) --bench-scale $(or $(SCALE),1) --benchmark-json build/bench/report-$$run.json || exit 1; \
	done
	$(PY) bench/report.py $$(seq -f build/bench/report-%g.json $(RUNS)) docs/performance.md

suites: $(VENV)/.built  ## compare the traces below DIR=... with babeltrace2 (RINGBUF_BABELTRACE2: another one); fetches nothing
	$(PY) tools/suites.py $(DIR)

docs: $(VENV)/.built $(VENV)/.docs  ## the guide and the API reference, in build/site
	$(PY) -m sphinx -W --keep-going -q docs build/site

lint: $(VENV)/bin/ruff  ## check the Python code with ruff
	$(VENV)/bin/ruff check

# Another release of clang-format may see some lines otherwise; the tests' C code is set by hand.
CLANG_FORMAT := $(VENV)/bin/clang-format
C_FILES := include/ringbuf/*.h src/ringbuf/*/*.h

format: $(VENV)/bin/ruff $(CLANG_FORMAT)  ## bring the code, Python and C, into the form that `make check` asks for
	$(VENV)/bin/ruff format
	$(CLANG_FORMAT) -i $(C_FILES)

types: $(VENV)/.built $(VENV)/bin/mypy  ## check the types with mypy, and the stubs of the extensions against what was built
	$(VENV)/bin/mypy
	$(VENV)/bin/stubtest --concise --ignore-disjoint-bases --allowlist tools/stubtest.txt ringbuf._core ringbuf._decode

check-format: $(VENV)/bin/ruff $(CLANG_FORMAT)
	$(VENV)/bin/ruff format --check
	$(CLANG_FORMAT) --dry-run --Werror $(C_FILES)

check: lint check-format  ## all static checks
	@$(MAKE) --no-print-directory types

QUICK := tests/test_channel.py tests/test_event.py tests/test_reader.py tests/record/test_tracer.py tests/trace/test_trace.py
quick: lint $(VENV)/.built $(VENV)/.test  ## in a minute, before `make test`: lint, and the tests that notice most
	$(PY) -m pytest -q -x -m "not slow" $(QUICK)

clean:  ## remove what was built; keep .venv
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .benchmarks src/*.egg-info src/ringbuf/*.so
	find src tests bench examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f $(VENV)/.built

distclean: clean  ## remove .venv too
	rm -rf $(VENV)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

# --- stamps: each file says that a step was done, and is older than its sources when it must be done again ---

$(VENV)/.python: pyproject.toml
	tools/venv.sh "$(PYTHON)" $(VENV) $(BUILD_REQUIRES)
	@touch $@

$(VENV)/.built: $(VENV)/.python $(COMPILED)
	$(PY) -m pip install -q --no-build-isolation -e .
	@cp src/ringbuf_trace.pth src/ringbuf_trace.start $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')  # an editable install has none
	@touch $@

# Enough for the tests of the headers, which need not wait until the extensions compile.
$(VENV)/.pytest: pyproject.toml | $(VENV)/.python
	$(PY) -m pip install -q pytest pytest-timeout
	@touch $@

# After .built but not because of it: an edited header does not change what the tests need installed.
$(VENV)/.test: pyproject.toml | $(VENV)/.built
	$(PY) -m pip install -q $$($(PY) tools/extra.py test) $$($(PY) tools/extra.py test-once)
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.built
	$(PY) -m pip install -q $$($(PY) tools/extra.py docs)
	@touch $@

$(VENV)/.peers: pyproject.toml tools/bench-peers.sh | $(VENV)/.test
	tools/bench-peers.sh $(PY)
	@touch $@

$(VENV)/bin/ruff $(VENV)/bin/mypy: | $(VENV)/.python
	$(PY) -m pip install -q $(@F)

$(CLANG_FORMAT): | $(VENV)/.python
	$(PY) -m pip install -q "clang-format==23.*"

# The other CPythons install from one sdist, each from its own copy, so that two can build at a time.
build/sdist/.done: $(COMPILED) MANIFEST.in LICENSE $(shell find src/ringbuf -name '*.py' -o -name '*.pyi') | $(VENV)/.test
	rm -rf $(@D)
	$(PY) -m build --sdist --no-isolation --outdir $(@D) . >build/sdist.log 2>&1 || { cat build/sdist.log; exit 1; }
	@touch $@

build/py%/.python: pyproject.toml
	tools/venv.sh "$$(tools/find-python.sh $*)" $(@D) $(BUILD_REQUIRES)
	@touch $@

build/py%/.installed: build/py%/.python build/sdist/.done
	@rm -f $@
	$(@D)/bin/python -m pip install -q --no-build-isolation "$$(echo build/sdist/*.tar.gz)[test]"
	@touch $@
.PRECIOUS: build/py%/.python
