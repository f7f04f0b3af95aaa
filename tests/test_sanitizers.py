"""A quick part of `make tsan` and `make asan`, and whether the tools are awake at all."""

import cross
import needs
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RACE = """
#include <pthread.h>
static int n;
static void *add(void *arg) { n++; return arg; }
int main(void)
{
	pthread_t t;

	pthread_create(&t, 0, add, 0);
	add(0);
	return pthread_join(t, 0);
}
"""

FREED = """
#include <stdlib.h>
int main(int argc, char **argv) { char *p = malloc(8); p[argc] = argv[0][0]; free(p); return p[argc]; }
"""

OVERFLOW = """
int main(int argc, char **argv) { return (0x7fffffff + argc) == argv[0][0]; }
"""

WRONG = [
    (cross.TSAN, RACE, "data race"),
    (cross.ASAN, FREED, "use-after-free"),
    (cross.ASAN, OVERFLOW, "signed integer overflow"),
]


@pytest.fixture(autouse=True)
def tools():
    needs.command("cc")


@pytest.mark.parametrize("how, text, report", WRONG)
def test_the_sanitizer_finds_what_is_wrong(tmp_path, how, text, report):
    source = tmp_path / "wrong.c"
    source.write_text(text)
    done = cross.run(how, source, tmp_path)
    assert done.returncode and report in done.stderr


def test_threads_that_record_and_read_have_no_data_race():
    cross.c_tests(cross.TSAN, cross.ROOT / "tests/c/test_identities.c", "-k", "threads_in_a_global")


def test_declarations_in_a_damaged_area_touch_nothing_outside():
    cross.c_tests(cross.ASAN, cross.ROOT / "tests/c/test_schema.c", "-k", "not compiles_with_clang")
