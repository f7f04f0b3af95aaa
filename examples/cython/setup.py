"""Builds the example: `python setup.py build_ext --inplace`, with cython, setuptools and ringbuf installed."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import ringbuf

sampler = Extension(
    "sampler",
    ["sampler.pyx"],
    include_dirs=[ringbuf.get_include()],  # the C headers; Cython finds ringbuf/cringbuf.pxd by itself
    extra_compile_args=["-std=gnu11", "-pthread"],
    extra_link_args=["-pthread"],
)

setup(name="ringbuf-example-sampler", ext_modules=cythonize([sampler], build_dir="build", language_level=3))
