"""What /proc says of who has a file open."""

import os
import subprocess
import sys

from ringbuf.record import processes


def test_users_are_those_that_have_the_file_and_no_other_file_is_asked_for(tmp_path, monkeypatch):
    path, other = tmp_path / "flight.ring", tmp_path / "served.txt"
    for one in (path, other):
        one.write_bytes(b"")
    code = "import sys; files = [open(p) for p in sys.argv[1:]]; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, path, other]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        user.stdout.readline()
        asked, stat = [], os.stat
        monkeypatch.setattr(os, "stat", lambda name, **more: asked.append(os.readlink(name)) or stat(name, **more))
        fd = os.open(path, os.O_RDONLY)
        try:
            assert processes.users_of(fd) == [user.pid]
            assert set(asked) == {str(path)}
            os.rename(path, tmp_path / "renamed.ring")  # /proc shows the new name for all
            assert processes.users_of(fd) == [user.pid]
            os.unlink(tmp_path / "renamed.ring")
            assert processes.users_of(fd) == [user.pid]
        finally:
            os.close(fd)
        user.stdin.close()
