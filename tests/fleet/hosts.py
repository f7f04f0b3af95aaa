"""Machines as network namespaces: a network with delays between them, and clocks of their own.

A namespace of time sets a machine's CLOCK_MONOTONIC off by seconds, for all that the kernel says of it. A library
that is loaded before all others makes it drift. The network is a process that passes packets on, each some time later,
and not the same time in both directions.
"""

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

import needs
import pytest

NET = "10.77.0."
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 1, 0x1000

SKEW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>

/* CLOCK_MONOTONIC runs SKEW_PPB parts in 10^9 faster, from SKEW_START (of this machine, in ns) on. */
int
clock_gettime(clockid_t id, struct timespec *ts)
{
	static int64_t start, ppb;
	static int known;
	static int (*real)(clockid_t, struct timespec *);

	if (!known) {
		const char *s = getenv("SKEW_START"), *p = getenv("SKEW_PPB");

		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
		start = s ? atoll(s) : 0;
		ppb = p ? atoll(p) : 0;
		known = 1;
	}
	int result = real(id, ts);

	if (result == 0 && id == CLOCK_MONOTONIC) {
		int64_t ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;

		ns += (int64_t)((__int128)(ns - start) * ppb / 1000000000);
		ts->tv_sec = ns / 1000000000;
		ts->tv_nsec = ns % 1000000000;
	}
	return result;
}
"""


class Host:
    """A machine: its address, how far its clock is ahead (s), how fast it runs (ppb)."""

    def __init__(self, number, ahead=0.0, ppb=0):
        self.number, self.ahead, self.ppb = number, ahead, ppb
        self.name = f"ringbuf-test-{os.getpid()}-{number}"
        self.address = f"{NET}{number}"


class Hosts:
    """Several, with a network between them. A context manager."""

    def __init__(self, hosts, delays, tmp_path):
        """`delays`: from host to host (numbers), seconds from and to which a packet takes."""
        if os.geteuid() != 0:
            pytest.skip("network namespaces need root")
        self.ip, self.unshare, cc = needs.command("ip"), needs.command("unshare"), needs.command("cc")
        self.hosts = {host.number: host for host in hosts}
        self._delays = delays
        self._stack = contextlib.ExitStack()
        self._library = tmp_path / "skew.so"
        self._tmp = tmp_path
        source = tmp_path / "skew.c"
        source.write_text(SKEW)
        subprocess.run([cc, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source), "-ldl"], check=True)
        self.start = time.monotonic_ns()

    def __enter__(self):
        try:
            tuns = {number: self._namespace(host) for number, host in self.hosts.items()}
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(BaseException):
                    _switch(tuns, self._delays)
                os._exit(0)
            self._stack.callback(_end, pid)
            for fd in tuns.values():
                os.close(fd)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    def _namespace(self, host):
        if not os.path.exists("/dev/net/tun") or self._run("netns", "add", host.name).returncode:
            pytest.skip("network namespaces are not permitted here")
        self._stack.callback(self._run, "netns", "del", host.name)
        fd = _tun_in(f"/run/netns/{host.name}")
        for what in (("addr", "add", f"{host.address}/24", "dev", "tun0"), ("link", "set", "tun0", "up"),
                     ("link", "set", "lo", "up")):  # fmt: skip
            assert self._run("-n", host.name, *what).returncode == 0, what
        return fd

    def _run(self, *arguments):
        return subprocess.run([self.ip, *arguments], check=False, stderr=subprocess.DEVNULL)

    def start_on(self, number, arguments, **options):
        """A process of Python on a host; ended with the hosts."""
        host = self.hosts[number]
        kernel_start = self.start + int(host.ahead * 1e9)
        environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "SKEW_PPB": str(host.ppb),
                       "SKEW_START": str(kernel_start)}  # fmt: skip
        if host.ppb:
            environment["LD_PRELOAD"] = str(self._library)
        command = [self.ip, "netns", "exec", host.name]
        if host.ahead:
            ahead = str(int(host.ahead))
            command += [self.unshare, "--time", "--fork", "--kill-child", "--monotonic", ahead, "--boottime", ahead]
        log = open(self._tmp / f"host-{number}-{len(os.listdir(self._tmp))}.log", "w")  # noqa: SIM115
        process = subprocess.Popen(
            [*command, sys.executable, *arguments], env=environment, start_new_session=True,
            **{"stdout": log, "stderr": log, **options},
        )  # fmt: skip
        log.close()
        self._stack.callback(_kill_group, process)
        return process

    def truth(self, number, ns):
        """This machine's CLOCK_MONOTONIC, of a time of the host's."""
        host = self.hosts[number]
        kernel_start = self.start + int(host.ahead * 1e9)
        # The inverse of what the library does.
        kernel = kernel_start + round((ns - kernel_start) * 1e9 / (1e9 + host.ppb))
        return kernel - int(host.ahead * 1e9)


def _kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def _end(pid):
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def _tun_in(namespace):
    """An interface of another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
        return fd
    finally:
        libc.setns(here, _CLONE_NEWNET)
        os.close(here)
        os.close(there)


def _switch(tuns, delays):
    """Pass packets on, each after the delay of its direction, in order."""
    chance = random.Random(1)
    numbers = {fd: number for number, fd in tuns.items()}
    waiting, count = [], 0
    newest = {}
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for fd in select.select(list(numbers), [], [], timeout)[0]:
            data = os.read(fd, 65536)
            target = data[19] if data[0] >> 4 == 4 else None
            if target not in tuns:
                continue
            way = numbers[fd], target
            low, high = delays.get(way, (0.0, 0.0))
            due = max(time.monotonic() + chance.uniform(low, high), newest.get(way, 0.0))
            newest[way] = due
            count += 1
            heapq.heappush(waiting, (due, count, target, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, data = heapq.heappop(waiting)
            with contextlib.suppress(OSError):
                os.write(tuns[target], data)


def answer_of(process, timeout):
    """The last line of a process's output, as JSON."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])
