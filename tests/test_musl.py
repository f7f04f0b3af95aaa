"""The C headers with another C library, by the wrapper of Debian's musl-tools. `make musl` runs all C tests so."""

import subprocess

import cross
import needs
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIBRARY = """
#include <ringbuf/ringbuf.h>

int
record(void)
{
	struct ringbuf_config cfg = {.name = "musl", .subbuf_size = 4096, .n_subbufs = 4};
	struct ringbuf_reservation r = {.payload_size = 8};
	struct ringbuf_channel *ch;
	int ret = ringbuf_create(&cfg, &ch);

	if (ret)
		return ret;
	ret = ringbuf_reserve(ch, &r);
	if (!ret) {
		memset(r.payload, 0, 8);
		ringbuf_commit(ch, &r);
	}
	ringbuf_close(ch);
	return ret;
}
"""

PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>

int
main(int argc, char **argv)
{
	void *library = dlopen(argv[argc - 1], RTLD_NOW);

	if (!library) {
		puts(dlerror());
		return 1;
	}
	return ((int (*)(void))dlsym(library, "record"))();
}
"""


@pytest.fixture(autouse=True)
def tools():
    needs.command("musl-gcc")


def test_a_death_is_noticed_there_too():
    files = [cross.ROOT / "tests/c" / name for name in ("test_certificate.c", "test_producer.c")]
    cross.c_tests(cross.MUSL, *files, "-k", "not compiles_with_clang")


def test_a_library_that_is_loaded_later_records(tmp_path):
    """As an interpreter loads an extension: setup.py leaves the model of thread-locals to the compiler there."""
    library, program = tmp_path / "library.c", tmp_path / "program.c"
    library.write_text(LIBRARY)
    program.write_text(PROGRAM)
    flags = ["-shared", "-fPIC", "-O2", f"-I{cross.ROOT / 'include'}"]
    subprocess.run([*cross.MUSL["CC"].split(), *flags, library, "-o", tmp_path / "library.so"], check=True)
    done = cross.run(cross.MUSL, program, tmp_path, tmp_path / "library.so")
    assert done.returncode == 0, done.stdout
