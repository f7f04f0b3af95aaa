"""The part of the build that pyproject.toml cannot say: two Cython extensions and the C headers."""

import platform
import sys
from glob import glob

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.command.build_py import build_py as _build_py

HEADERS = sorted(glob("include/ringbuf/*.h"))
# Cython follows cimports but not every #include: a changed header must rebuild all that inlines it.
SOURCES = [file for ending in ("h", "pxd", "pxi") for file in glob(f"src/ringbuf/**/*.{ending}", recursive=True)]
DEPENDS = HEADERS + sorted(SOURCES)


class build_py(_build_py):
    """Installs the headers beside the modules.

    Mapping include/ to a package with package_dir would do it without code, but then an editable install
    works through an import hook, and neither another project's cimport nor a type checker sees through that.
    """

    def build_package_data(self):
        super().build_package_data()
        target = f"{self.build_lib}/ringbuf/include/ringbuf"
        self.mkpath(target)
        for header in HEADERS:
            self.copy_file(header, target)


class build_ext(_build_ext):
    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or 2  # one compiler per extension

    def build_extensions(self):
        if not sys.platform.startswith("linux"):
            raise SystemExit(f"ringbuf runs on Linux only (memfd, futex, robust mutexes); this is {sys.platform}")
        from Cython.Build import cythonize

        translated = cythonize(
            self.extensions,
            include_path=["src"],
            build_dir="build/cython",  # generated C stays out of the source tree
            force=self.force,
            quiet=not self.verbose,
            # Not freethreading_compatible yet: objects count the users of their mapping without atomics.
            compiler_directives={"language_level": 3},
        )
        for extension, in_c in zip(self.extensions, translated, strict=True):
            extension.sources = in_c.sources
        super().build_extensions()


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
        depends=DEPENDS,
        extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-pthread", *more_flags],
        extra_link_args=["-pthread"],
    )


setup(
    packages=find_packages("src"),
    package_dir={"": "src"},
    package_data={"ringbuf": ["*.pxd", "*.pyi", "py.typed"], "ringbuf.inject": ["site/*.py"]},
    include_package_data=False,
    ext_modules=[extension("_core", *tls_model()), extension("_decode")],
    cmdclass={"build_ext": build_ext, "build_py": build_py},
)
