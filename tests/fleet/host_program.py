"""Runs on the reference host of test_clocks_of_hosts.py: a cluster of Dask's, messages between its workers, snapshots.

host_program.py SCHEDULER DIRECTORY SET SECONDS
"""

import json
import socket
import sys
import time


def serve(port, n):
    """Answer so many messages, and record each: what arrives, then what leaves."""
    import ringbuf

    tracer = ringbuf.Tracer("messages", clock="monotonic")
    arrives, leaves = tracer.event("arrives", n="u32"), tracer.event("leaves", n="u32")
    with socket.create_server(("0.0.0.0", port)) as server:
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(n):
                assert connection.recv(1)
                arrives(2 * number)
                leaves(2 * number + 1)
                connection.send(b"x")
    time.sleep(3600)  # its ring stays as long as the cluster does


def call(address, port, n, seconds):
    import ringbuf

    tracer = ringbuf.Tracer("messages", clock="monotonic")
    arrives, leaves = tracer.event("arrives", n="u32"), tracer.event("leaves", n="u32")
    with _connected(address, port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(n):
            leaves(2 * number)
            connection.send(b"x")
            assert connection.recv(1)
            arrives(2 * number + 1)
            time.sleep(seconds / n)
    return tracer.channel.path


def _connected(address, port):
    while True:
        try:
            return socket.create_connection((address, port))
        except ConnectionRefusedError:
            time.sleep(0.05)


def main(scheduler, directory, path, seconds):
    import host_program
    from distributed import Client

    import ringbuf.dask

    with Client(scheduler, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        ringbuf.dask.install(client, directory=directory)
        names = {one["name"]: address for address, one in client.scheduler_info(n_workers=-1)["workers"].items()}
        n = 1000
        host = names["two"].split("://")[1].rpartition(":")[0]
        server = client.submit(host_program.serve, 7777, n, workers=[names["two"]], pure=False)
        client.submit(host_program.call, host, 7777, n, seconds, workers=[names["three"]], pure=False).result()
        manifest = ringbuf.dask.snapshot(client, path, last=None)
        server.cancel(force=True)
        print(json.dumps({"problems": [one.problem for one in manifest.members if one.problem]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]))
