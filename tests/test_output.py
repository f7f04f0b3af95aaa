"""output.py and directory.h: files are made where they were asked for, and nobody leads them astray."""

import contextlib
import errno
import os
import stat
import tempfile

import pytest
from rings import in_fork

import ringbuf
from ringbuf.cli import main
from ringbuf.output import directory_of, own_directory, trace_directory
from ringbuf.record import files

STRANGER = 65534


@pytest.fixture
def theirs(tmp_path):
    """A directory that is another user's."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to somebody else")
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    os.chown(folder, STRANGER, STRANGER)
    return folder


@pytest.fixture
def flight():
    with ringbuf.Tracer("flight", subbuf_size=4096, n_subbufs=4, streams="global") as tracer:
        tracer.event("step", n="u32")(1)
        yield tracer


def modes(folder):
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()}


# ---- where ----


@pytest.mark.parametrize("before", ["nothing", "another trace"])
def test_a_change_of_directory_changes_nothing(tmp_path, monkeypatch, before):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    with ringbuf.Tracer("t", mode="discard", subbuf_size=4096, n_subbufs=4, streams="global") as tracer:
        event = tracer.event("e", n="u64")
        if before == "another trace":
            with tracer.record(tmp_path / "trace"):
                event(17)
        with tracer.record("trace") as recorder:
            os.chdir("..")
            event(1)
            tracer.event("declared later", n="u64")(2)
        assert recorder.directory == tmp_path / "a" / "trace"
    with ringbuf.open_trace(tmp_path / "a" / "trace") as trace:
        assert trace.count() == {"e": 1, "declared later": 1}
    if before == "another trace":
        with ringbuf.open_trace(tmp_path / "trace") as trace:
            assert [record.fields["n"] for record in trace] == [17]
    else:
        assert sorted(os.listdir(tmp_path)) == ["a"]


def test_a_directory_that_is_renamed_meanwhile_has_it_all(tmp_path, flight):
    with flight.record(tmp_path / "before"):
        os.rename(tmp_path / "before", tmp_path / "after")
        (tmp_path / "before").mkdir()
    assert os.listdir(tmp_path / "before") == []
    assert ringbuf.open_trace(tmp_path / "after").count() == {"step": 1}


def test_a_descriptor_that_was_closed_is_opened_again(tmp_path):
    with own_directory(tmp_path / "own") as directory:
        os.close(directory.fileno())
        with open(os.devnull) as stranger:  # has the number now
            directory.write("file", "text")
            assert (tmp_path / "own" / "file").read_text() == "text"
            directory.close()
            stranger.read()
    with own_directory(tmp_path / "own") as directory:
        os.close(directory.fileno())
        os.rename(tmp_path / "own", tmp_path / "elsewhere")
        (tmp_path / "own").mkdir()
        with pytest.raises(OSError) as caught:
            directory.write("file", "text")
        assert caught.value.errno == errno.ESTALE


# ---- whose ----


@pytest.mark.parametrize("use", ["snapshot", "record", "recover"])
def test_no_trace_is_written_into_a_directory_that_is_somebody_elses(use, theirs, tmp_path, flight):
    if use == "recover":
        with ringbuf.Tracer("t", path=tmp_path / "x.ringbuf", subbuf_size=4096) as tracer:
            tracer.event("step")()

    def write(folder):
        if use == "recover":
            return ringbuf.recover(tmp_path / "x.ringbuf", folder)
        return getattr(flight, use)(folder)

    with pytest.raises(PermissionError, match="somebody else's") as caught:
        write(theirs)
    assert caught.value.filename == str(theirs)
    assert os.listdir(theirs) == []
    done = write(theirs / "new")  # a new one in there was asked for, and is ours
    if use == "record":
        done.stop()
    assert (theirs / "new").stat().st_uid == os.geteuid()


def test_one_that_everybody_may_write_in_is_for_its_owner_alone():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = tempfile.mkdtemp()  # not below pytest's own, where a stranger does not get to
    os.chmod(folder, 0o777)
    own_directory(folder).close()

    def stranger():
        os.setuid(STRANGER)
        with pytest.raises(PermissionError, match="everybody may write in it"):
            own_directory(folder)

    in_fork(stranger)
    os.rmdir(folder)


def test_a_mark_is_not_written_where_a_stranger_could_have_planted_a_link(theirs, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (theirs / "x.ringbuf").write_bytes(b"")
    (theirs / "x.ringbuf.recovered").symlink_to(victim)
    files.mark_recovered(theirs / "x.ringbuf", tmp_path / "trace")
    assert victim.read_text() == "precious"
    assert (theirs / "x.ringbuf.recovered").is_symlink()


@pytest.mark.parametrize("planted", ["symlink", "hard link", "fifo", "file"])
@pytest.mark.parametrize("name", ["metadata", "flight", ".metadata.{pid}"])
def test_what_is_planted_is_not_followed(tmp_path, flight, planted, name):
    folder, victim = tmp_path / "trace", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    place = folder / name.format(pid=os.getpid())
    {
        "symlink": lambda: place.symlink_to(victim),
        "hard link": lambda: place.hardlink_to(victim),
        "fifo": lambda: os.mkfifo(place),
        "file": lambda: place.write_text("mine"),
    }[planted]()
    if name.startswith("."):
        flight.snapshot(folder)
    else:
        with pytest.raises(FileExistsError):
            flight.snapshot(folder)
    assert victim.read_text() == "precious"
    assert place.lstat()


@pytest.mark.parametrize("planted", ["symlink", "hard link", "fifo"])
def test_an_export_takes_the_place_of_a_link_and_does_not_follow_it(tmp_path, flight, planted):
    flight.snapshot(tmp_path / "trace")
    victim, place = tmp_path / "victim", tmp_path / "x.json"
    victim.write_text("precious")
    {
        "symlink": lambda: place.symlink_to(victim),
        "hard link": lambda: place.hardlink_to(victim),
        "fifo": lambda: os.mkfifo(place),
    }[planted]()
    ringbuf.open_trace(tmp_path / "trace").export(place)
    assert victim.read_text() == "precious"
    assert stat.S_ISREG(place.lstat().st_mode)


# ---- for whom ----


def test_files_and_directories_are_for_their_owner_alone_whatever_the_umask(tmp_path, flight):
    before = os.umask(0o022)
    try:
        (tmp_path / "there").mkdir()
        flight.snapshot(tmp_path / "there")
        flight.record(tmp_path / "made").stop()
        ringbuf.open_trace(tmp_path / "there").export(tmp_path / "x.json")
        assert main(["flame", str(tmp_path / "there"), "-o", str(tmp_path / "flame.json")]) == 0
        (tmp_path / "f.ringbuf").write_bytes(b"")
        files.mark_recovered(tmp_path / "f.ringbuf", "there")
    finally:
        os.umask(before)
    assert set(modes(tmp_path / "there").values()) == set(modes(tmp_path / "made").values()) == {0o600}
    assert modes(tmp_path)["made"] == 0o700
    assert {modes(tmp_path)[name] for name in ("x.json", "flame.json", "f.ringbuf.recovered")} == {0o600}


# ---- half-way ----


@contextlib.contextmanager
def full(disk):
    """A disk with so little room that no trace fits."""
    room = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize - 4096))
    yield
    (disk / "ballast").unlink()


@pytest.mark.parametrize("use", ["snapshot", "recover"])
@pytest.mark.parametrize("where", ["a new directory", "one that is there"])
def test_a_full_disk_leaves_nothing_and_the_next_try_works(tiny_disk, tmp_path, use, where):
    with ringbuf.Tracer("t", path=tmp_path / "t.ringbuf", subbuf_size=4096, n_subbufs=16, streams="global") as tracer:
        for n in range(2000):
            tracer.event("step", n="u32")(n)
        if where == "one that is there":
            (tiny_disk / "out").mkdir()
            (tiny_disk / "out" / ".notes").write_text("mine")

        def write():
            if use == "snapshot":
                return tracer.snapshot(tiny_disk / "out")["records"]
            return ringbuf.recover(tmp_path / "t.ringbuf", tiny_disk / "out", force=True).records

        with full(tiny_disk):
            with pytest.raises(OSError) as caught:
                write()
            assert caught.value.errno == errno.ENOSPC
            if where == "one that is there":
                assert os.listdir(tiny_disk / "out") == [".notes"]
            else:
                assert sorted(os.listdir(tiny_disk)) == ["ballast"]
        assert write() > 1000
        assert judged_count(tiny_disk / "out") > 1000


def judged_count(folder):
    return sum(ringbuf.open_trace(folder).count().values())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_draft_is_removed_by_any_exception(tmp_path, error):
    (tmp_path / "x").write_text("before")
    with pytest.raises(error), directory_of(tmp_path / "x") as folder, folder.replacing("x") as draft:
        draft.write(b"half")
        assert len(os.listdir(tmp_path)) == 2
        raise error
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "before"


def test_an_error_names_the_file_that_was_asked_for_and_nothing_else(tmp_path):
    with directory_of(tmp_path / "x") as folder:
        with pytest.raises(OSError) as caught, folder.replacing("x"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{tmp_path / 'x'}'"


def test_a_trace_directory_that_cannot_be_used_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr("ringbuf.output.Directory.has", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace_directory(tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_what_a_program_prints_does_not_get_into_a_draft(tmp_path):
    def without_standard_descriptors():
        os.closerange(0, 3)
        with directory_of(tmp_path / "x") as folder, folder.replacing("x") as draft:
            with contextlib.suppress(OSError):
                os.write(1, b"printed")
                os.write(2, b"printed")
            draft.write(b"text")
            assert min(draft.fileno(), folder.fileno()) > 2

    in_fork(without_standard_descriptors)
    assert (tmp_path / "x").read_bytes() == b"text"
