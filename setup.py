"""The part of the build that pyproject.toml cannot say: two Cython extensions and the C headers."""

import os
import platform
import shutil
import sys
import sysconfig
from glob import glob

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.command.build_py import build_py as _build_py

# An error by itself from gcc 14 on: what compiles here compiles there.
INCOMPATIBLE = "-Werror=incompatible-pointer-types"
HEADERS = sorted(glob("include/ringbuf/*.h"))
STARTED = ("ringbuf_trace.pth", "ringbuf_trace.start")  # the second: from Python 3.15 on


def refuse_what_cannot_work():
    """Say in one line what is missing, where a compiler would say it in many, or somewhere else."""
    if not sys.platform.startswith("linux"):
        raise SystemExit(f"ringbuf runs on Linux only (memfd, futex, robust mutexes); this is {sys.platform}")
    if sys.maxsize < 2**32:
        raise SystemExit(f"ringbuf needs a 64-bit Python, and {sys.executable} is a 32-bit one")
    include = sysconfig.get_path("include")
    if not os.path.exists(os.path.join(include, "Python.h")):
        package = "python{}.{}-dev".format(*sys.version_info)
        raise SystemExit(
            f"ringbuf is built with Python's headers, and {include} has no Python.h "
            f"(Debian and Ubuntu: apt-get install {package}; Fedora: dnf install python3-devel)"
        )


def refuse_a_missing_compiler(command):
    if not shutil.which(command[0]):
        raise SystemExit(
            f"ringbuf is built with a C compiler, and {command[0]} is not found "
            "(Debian and Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc)"
        )


class build_py(_build_py):
    """Installs the headers beside the modules, and what Python looks for at its start beside the packages.

    Mapping include/ to a package with package_dir would do it without code, but then an editable install
    works through an import hook, and neither another project's cimport nor a type checker sees through that.
    """

    def build_package_data(self):
        super().build_package_data()
        target = f"{self.build_lib}/ringbuf/include/ringbuf"
        self.mkpath(target)
        for header in HEADERS:
            self.copy_file(header, target)
        for name in STARTED:
            self.copy_file(f"src/{name}", self.build_lib)


class build_ext(_build_ext):
    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or 2  # one compiler per extension

    def run(self):
        refuse_what_cannot_work()
        super().run()

    def build_extensions(self):
        refuse_a_missing_compiler(self.compiler.compiler)
        from Cython.Build import cythonize

        translated = cythonize(
            self.extensions,
            include_path=["src"],
            build_dir="build/cython",  # generated C stays out of the source tree
            force=self.force,
            quiet=not self.verbose,
            compiler_directives={"language_level": 3, "freethreading_compatible": True},
        )
        for extension, in_c in zip(self.extensions, translated, strict=True):
            extension.sources = in_c.sources
        super().build_extensions()


def depends(room):
    """What is not followed by Cython, which looks at cimports alone: a changed header rebuilds all that inlines it."""
    own = [file for ending in ("h", "pxi") for file in glob(f"src/ringbuf/{room}/*.{ending}")]
    return sorted([*own, *glob("src/ringbuf/*.pxd"), *(HEADERS if room == "core" else ["include/ringbuf/format.h"])])


def tls_model():
    """With initial-exec, a thread-local costs one instruction instead of a call to __tls_get_addr per record.

    Only glibc keeps room for those of libraries that are loaded later; musl refuses to load them.
    """
    return ["-ftls-model=initial-exec"] if platform.libc_ver()[0] == "glibc" else []


def extension(name, *more_flags):
    return Extension(
        f"ringbuf.{name}",
        [f"src/ringbuf/{name}.pyx"],
        include_dirs=["include", "src/ringbuf"],
        depends=depends(name.removeprefix("_")),
        extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-pthread", INCOMPATIBLE, *more_flags],
        extra_link_args=["-pthread"],
    )


setup(
    packages=find_packages("src"),
    py_modules=["_ringbuf_pytest", "_ringbuf_start"],
    package_dir={"": "src"},
    package_data={
        "ringbuf": ["*.pxd", "*.pyi", "py.typed"],
        "ringbuf.inject": ["site/*.py"],
        "ringbuf.report": ["page/*"],
    },
    include_package_data=False,
    ext_modules=[extension("_core", *tls_model()), extension("_decode")],
    cmdclass={"build_ext": build_ext, "build_py": build_py},
)
