"""What the sdist and the wheel carry, and that the wheel works away from the source tree."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
HEADERS = {path.name for path in (ROOT / "include" / "ringbuf").glob("*.h")}

pytestmark = pytest.mark.timeout(600)  # the first test builds everything


def run(*command, cwd, **environment):
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder of what `python -m build` makes. The wheel comes from the sdist, so the sdist has all it takes."""
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation, for the tests to need no network; build-system.requires is checked below.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def sdist(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {str(PurePosixPath(*PurePosixPath(member.name).parts[1:])) for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """A folder with the wheel unpacked as pip does it, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("installed")
    (path,) = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, path, cwd=folder)
    return folder


def sources(pattern):
    return {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").glob(pattern)}


def test_the_sdist_carries_sources_headers_tests_and_makefile(sdist):
    assert {f"include/ringbuf/{name}" for name in HEADERS} <= sdist
    for pattern in ("ringbuf/**/*.py", "ringbuf/**/*.py[xi]", "ringbuf/**/*.p[yx][dxi]", "ringbuf/**/py.typed"):
        assert {f"src/{name}" for name in sources(pattern)} <= sdist
    assert {"Makefile", "LICENSE", "setup.py", "pyproject.toml"} <= sdist
    assert {"tests/conftest.py", "tools/venv.sh", ".ci/run"} <= sdist


def test_the_sdist_carries_nothing_generated(sdist):
    generated = re.compile(r"\.(so|pyc|o)$|^(build|dist|\.venv)/|_(core|decode)\.c$")
    assert not [name for name in sdist if generated.search(name)]


def test_the_wheel_carries_what_python_looks_for_at_its_start(wheel, installed):
    assert {"_ringbuf_start.py", "ringbuf_trace.pth", "ringbuf_trace.start"} <= set(wheel)
    program = f"""
import os, site
os.environ["RINGBUF"] = "flight,logging,size=1M"
os.environ["RINGBUF_DIR"] = {str(installed / "flights")!r}
site.addsitedir({str(installed)!r})
print(os.listdir(os.environ["RINGBUF_DIR"]))
"""
    printed = run(sys.executable, "-S", "-c", program, cwd=installed)
    assert re.fullmatch(r"\['python-\d+-\w+.ringbuf'\]\n", printed)


def test_the_wheel_carries_every_header(wheel):
    assert {name for name in wheel if name.endswith(".h")} == {f"ringbuf/include/ringbuf/{name}" for name in HEADERS}


def test_the_wheel_carries_what_cython_and_type_checkers_need(wheel):
    assert "ringbuf/py.typed" in wheel
    declarations = sources("ringbuf/**/*.pxd") | sources("ringbuf/**/*.pyi")
    assert {"ringbuf/cringbuf.pxd", "ringbuf/_core.pyi"} <= declarations <= set(wheel)


def test_the_wheel_carries_modules_and_nothing_else(wheel):
    modules = {name for name in wheel if name.endswith(".py")}
    assert modules == sources("ringbuf/**/*.py") | sources("_ringbuf_*.py")
    extensions = {name.split(".")[0] for name in wheel if name.endswith(".so")}
    assert extensions == {"ringbuf/_core", "ringbuf/_decode"}
    page = {f"ringbuf/report/page/{path.name}" for path in (ROOT / "src/ringbuf/report/page").iterdir()}
    rest = {name for name in wheel if not re.search(r"\.(py|so|h|pxd|pyi)$|/py\.typed$|\.dist-info/", name)}
    assert rest == page | {"ringbuf_trace.pth", "ringbuf_trace.start"}


def test_the_metadata_names_the_distribution(wheel):
    (name,) = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel[name])
    assert metadata["Name"] == "ringbuf-trace"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert "numpy" in metadata.get_all("Requires-Dist")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_the_installed_package_works_away_from_the_source_tree(installed, tmp_path):
    code = "import ringbuf; print(ringbuf.__file__); print(ringbuf.get_include())"
    module, include = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert Path(module).parent == installed / "ringbuf"
    assert Path(include) == installed / "ringbuf" / "include"
    assert {path.name for path in Path(include, "ringbuf").iterdir()} == HEADERS


def test_a_tree_that_is_not_built_says_what_to_do(tmp_path):
    (tmp_path / "ringbuf").mkdir()
    for path in (ROOT / "src" / "ringbuf").glob("*.py"):
        shutil.copy(path, tmp_path / "ringbuf")
    command = [sys.executable, "-c", "import ringbuf"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("ImportError: ringbuf is not built: run `make`")


def test_get_include_of_the_source_tree_has_the_headers():
    import ringbuf

    assert {path.name for path in Path(ringbuf.get_include(), "ringbuf").glob("*.h")} == HEADERS


def test_the_installed_headers_compile_as_c(installed, tmp_path):
    (tmp_path / "user.c").write_text("#include <ringbuf/ringbuf.h>\n")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", installed / "ringbuf" / "include"]
    run(os.environ.get("CC", "cc"), *flags, "user.c", cwd=tmp_path)


def test_the_table_of_systems_has_each_interpreter_that_is_promised():
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    row = re.search(r"^\| CPython (3\.10.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)[1]
    assert row.split(", ") == promised


def test_the_makefile_builds_with_the_packages_that_pyproject_requires():
    listed = re.search(r"^BUILD_REQUIRES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    required = re.search(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert re.findall('"(.*?)"', listed) == re.findall('"(.*?)"', required)
