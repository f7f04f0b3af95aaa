"""A bounded part of `make model` and `make mutants`: every model for a moment, and a few mutants that are noticed."""

import re
import subprocess
from pathlib import Path

import needs
import pytest

HERE = Path(__file__).parent
NAMES = re.findall(r'^\s*\{"(\w+)",', "\n".join(path.read_text() for path in sorted(HERE.glob("*.cc"))), re.M)
SECONDS = 0.25  # of processor time, for each model

# Killed within a fraction of a second each, by models that are quick to find it.
MUTANTS = {
    "commit.h ringbuf_count rmw acq_rel -> acquire": "producers_third_discard",
    "commit.h ringbuf_count rmw acq_rel -> release": "producers_third_discard",
    "commit.h ringbuf_deliver rmw seq_cst -> acq_rel": "wait_reader",
    "discard.h ringbuf_roll_back rmw release -> relaxed": "discard_roll_back",
    "channel.h ringbuf_close_stream rmw release -> relaxed": "finalize_producer",
    "reader.h ringbuf_find_packet load seq_cst -> acquire": "wait_reader",
    "switch.h ringbuf_slot_is_free load acquire -> relaxed": "producers_full_overwrite",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]


@pytest.fixture(scope="session")
def mutants():
    """The script as a module."""
    needs.command("g++")
    needs.tool("relacy")
    return pytest.importorskip("mutants")


@pytest.fixture(scope="session")
def program(mutants):
    return mutants.build()


@pytest.fixture(scope="session")
def sites(mutants):
    return {site.name: site for site in mutants.sites()}


def run(program, *args):
    return subprocess.run([program, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def test_every_model_of_the_source_is_in_the_program(program):
    assert sorted(run(program, "--list").stdout.split()) == sorted(NAMES) and len(NAMES) > 100


@pytest.mark.parametrize("name", NAMES)
def test_the_model_holds(program, name):
    done = run(program, f"--seconds={SECONDS}", name)
    assert done.returncode == 0 and done.stdout.count(" ok\n") == 2, done.stdout


@pytest.mark.parametrize("name", MUTANTS)
def test_a_weaker_order_is_noticed(program, sites, name):
    site, _, order = name.partition(" -> ")
    done = run(program, "--seconds=10", f"--mutant={sites[site].number}:{order}", MUTANTS[name])
    assert done.returncode == 1 and done.stdout.count(" FAILED\n") == 1, done.stdout


def test_every_order_was_judged(mutants, sites):
    """Each order that is weakened in `make mutants` was killed by some model, or is argued away."""
    known = {**mutants.read_table(mutants.HINTS), **mutants.argued()}
    open_ = []
    for site in sites.values():
        killed = {order for order in site.weaker() if f"{site.name} -> {order}" in known}
        left = [order for order in site.weaker() if order not in killed and not mutants.implies(order, killed)]
        if left and site.name not in known:
            open_.append(f"{site.name} -> {', '.join(left)}")
    assert not open_, open_
    gone = {name for name in known if name.partition(" -> ")[0] not in sites} - set(mutants.PAIRS)
    assert not {name for name in gone if not re.match(r"\w+\.h: ", name)}


def test_every_patch_fits_its_header(mutants):
    texts = {header: (mutants.INCLUDE / "ringbuf" / header).read_text() for header, *_ in mutants.PATCHES.values()}
    assert not [name for name, (header, old, _) in mutants.PATCHES.items() if texts[header].count(old) != 1]


def test_a_model_that_cannot_be_run_has_noticed_nothing(mutants, tmp_path):
    (tmp_path / "models").write_text("not executable")
    with pytest.raises(OSError, match="did not run"):
        mutants.output_of(tmp_path / "models")
