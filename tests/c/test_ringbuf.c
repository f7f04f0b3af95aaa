/* ringbuf.h: the headers compile, whichever comes first, and as C++17. */
#include "harness.h"

#include <glob.h>

/* The repository, from where this file lay when it was compiled. */
static const char *
include_dir(void)
{
	static char dir[4096];
	const char *tests = strstr(__FILE__, "tests/c/");

	OK(tests);
	snprintf(dir, sizeof(dir), "%.*sinclude", (int)(tests - __FILE__), __FILE__);
	if (access(dir, R_OK))
		SKIP("the headers are not in %s any more", dir);
	return dir;
}

static int
have(const char *compiler)
{
	char command[256];

	snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", compiler);
	return system(command) == 0;
}

static void
compile(const char *compiler, const char *language, const char *header)
{
	char command[8192];

	snprintf(command, sizeof(command),
		 "printf '#include <ringbuf/%s>\\n#include <ringbuf/ringbuf.h>\\nint main() { return 0; }\\n' | "
		 "%s -x %s -Wall -Wextra -Werror -pthread -fsyntax-only -I%s - 2>&1",
		 header, compiler, language, include_dir());
	CHECK(system(command) == 0, "%s: %s as %s", compiler, header, language);
}

static void
compile_each(const char *compiler, const char *language)
{
	char pattern[4200];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/ringbuf/*.h", include_dir());
	EQ(glob(pattern, 0, NULL, &found), 0);
	GT(found.gl_pathc, 15);
	for (size_t i = 0; i < found.gl_pathc; i++)
		compile(compiler, language, strrchr(found.gl_pathv[i], '/') + 1);
	globfree(&found);
}

TEST(each_header_may_come_first)
{
	if (!have("cc"))
		SKIP("no C compiler");
	compile_each("cc -std=gnu11", "c");
}

/* The first error of a compiler that is called wrongly says what is wrong. */
static void
refuses(const char *flags, const char *why)
{
	char command[8192], line[1024], *error = NULL;
	FILE *output;

	snprintf(command, sizeof(command), "echo '#include <ringbuf/ringbuf.h>' | cc -xc %s -fsyntax-only -I%s - 2>&1",
		 flags, include_dir());
	output = popen(command, "r");
	OK(output);
	while (!error && fgets(line, sizeof(line), output))
		error = strstr(line, "error: ");
	CHECK(error && strstr(error, why), "cc %s: %s", flags, error ? error : "no error");
	while (fgets(command, sizeof(command), output))
		;
	pclose(output);
}

TEST(what_cannot_work_is_refused_with_the_reason)
{
	if (!have("cc"))
		SKIP("no C compiler");
	refuses("-std=c11", "-std=gnu11");
	if (!system("echo | cc -m32 -E - >/dev/null 2>&1"))
		refuses("-std=gnu11 -m32", "64-bit");
}

TEST(all_headers_together_are_cpp17_to_23)
{
	const char *compilers[] = {"g++", "clang++"}, *standards[] = {"c++17", "c++20", "c++2b"};
	int tried = 0;

	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 3 && have(compilers[i]); j++) {
			char with_standard[64];

			snprintf(with_standard, sizeof(with_standard), "%s -std=%s", compilers[i], standards[j]);
			compile(with_standard, "c++", "ringbuf.h");
			tried++;
		}
	if (!tried)
		SKIP("no C++ compiler");
}

/* A program in C++ that records, linked from two files: one registry, not two. */
TEST(a_cpp_program_of_two_files_records)
{
	static const char one[] =
		"#include <ringbuf/ringbuf.h>\n"
		"int record(ringbuf_channel *ch);\n"
		"void *registry();\n"
		"int main() {\n"
		"	ringbuf_config cfg{};\n"
		"	ringbuf_channel *ch = nullptr;\n"
		"	ringbuf_stats st;\n"
		"	cfg.name = \"cpp\"; cfg.subbuf_size = 4096; cfg.n_subbufs = 4; cfg.streams = RINGBUF_GLOBAL;\n"
		"	if (ringbuf_create(&cfg, &ch)) return 1;\n"
		"	ringbuf_producer *p = ringbuf_this_producer(ch);\n"
		"	for (int i = 0; i < 10; i++) if (record(ch)) return 2;\n"
		"	if (p != ringbuf_this_producer(ch) || registry() != &ringbuf_registry) return 3;\n"
		"	ringbuf_channel_stats(ch, &st);\n"
		"	ringbuf_close(ch);\n"
		"	return st.written == 10 && st.unread == 10 ? 0 : 4;\n"
		"}\n";
	static const char two[] =
		"#include <ringbuf/ringbuf.h>\n"
		"void *registry() { return &ringbuf_registry; }\n"
		"int record(ringbuf_channel *ch) {\n"
		"	ringbuf_reservation r{};\n"
		"	r.payload_size = 8;\n"
		"	int ret = ringbuf_reserve(ch, &r);\n"
		"	if (!ret) { memset(r.payload, 0, 8); ringbuf_commit(ch, &r); }\n"
		"	return ret;\n"
		"}\n";
	const char *compilers[] = {"g++", "clang++"};
	char dir[] = "/tmp/ringbuf-cpp-XXXXXX", command[8192];
	int tried = 0;
	FILE *f;

	OK(mkdtemp(dir));
	for (int i = 0; i < 2; i++) {
		snprintf(command, sizeof(command), "%s/%d.cc", dir, i);
		f = fopen(command, "w");
		OK(f);
		fputs(i ? two : one, f);
		fclose(f);
	}
	for (int i = 0; i < 2; i++) {
		int ret;

		if (!have(compilers[i]))
			continue;
		tried++;
		snprintf(command, sizeof(command),
			 "cd %s && %s -std=c++17 -O1 -Wall -Wextra -Werror -pthread -I%s%s 0.cc 1.cc -o program 2>&1 && ./program",
			 dir, compilers[i], *include_dir() == '/' ? "" : "$OLDPWD/", include_dir());
		ret = system(command);
		CHECK(ret == 0, "%s: %#x", compilers[i], ret);
	}
	snprintf(command, sizeof(command), "rm -r %s", dir);
	EQ(system(command), 0);
	if (!tried)
		SKIP("no C++ compiler");
}
