"""What recording does to the latency of a service under load: two of them, one as it is and one with everything on.

    .venv/bin/python bench/service.py [--rate 200] [--seconds 20] [--rounds 5]

Both run all the time. Requests go to them in turns, at fixed times whether or not those before were answered, and each
latency counts from the time at which its request was due. So what else the machine does meets both alike. With
everything on: a flight recorder of functions and logs, spans, a histogram, and triggers for exceptions and slow spans.
The median over the rounds of (99th percentile with, divided by without) is what is asked for: 1.05 at most, else the
exit status is 1.
"""

import argparse
import contextlib
import http.client
import json
import logging
import os
import queue
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LIMIT = 1.05
CLIENTS = 8
BASKET = json.dumps({"items": [{"name": f"item {n}", "price": n, "count": n % 3} for n in range(40)]})

log = logging.getLogger("shop")
instruments = None  # the span type and the histogram, with everything on


# ---- the service ----


def price(item):
    return item["price"] * item["count"]


def total(items):
    return sum(price(item) for item in items)


def store(database, amount):
    database.execute("insert into orders values (?)", (amount,))
    return database.execute("select count(*), avg(amount) from orders where amount >= ?", (amount // 2,)).fetchone()


def order(database, body):
    amount = total(json.loads(body)["items"])
    count, mean = store(database, amount)
    log.info("order of %d", amount)
    return json.dumps({"amount": amount, "count": count, "mean": mean}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    local = threading.local()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not hasattr(self.local, "database"):
            self.local.database = sqlite3.connect(":memory:", isolation_level=None)
            self.local.database.execute("create table orders (amount int)")
        with instruments[0](self.path) if instruments else contextlib.nullcontext():
            begin = time.perf_counter()
            answer = order(self.local.database, body)
            if instruments:
                instruments[1](time.perf_counter() - begin)
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        """Nothing for each request on standard error."""


def serve(is_recorded: bool, directory: str) -> None:
    """Until standard input is closed; the port goes to standard output."""
    global instruments
    logging.basicConfig(level=logging.INFO, filename=f"{directory}/{is_recorded}.log")
    if is_recorded:
        import ringbuf

        tracer = ringbuf.Tracer("shop")
        tracer.watch(f"{directory}/incidents", on="exception,over=5,log=CRITICAL,loss,memory=8G")
        instruments = tracer.span_type("request", path="str"), tracer.histogram("took", "s")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def service(is_recorded: bool, directory: str):
    """Its port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGBUF")}
    if is_recorded:
        environment |= {"RINGBUF": "flight,functions,logging", "RINGBUF_DIR": directory}
    command = [sys.executable, __file__, "--serve", "on" if is_recorded else "off", directory]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as started:
        try:
            yield int(started.stdout.readline())
        finally:
            started.stdin.close()


# ---- the load ----


def client(requests: queue.SimpleQueue, ports: list[int], found: list[list[float]]) -> None:
    """Sends what is due, by connections that stay."""
    connections = [http.client.HTTPConnection("127.0.0.1", port) for port in ports]
    while (request := requests.get()) is not None:
        due, which = request
        connections[which].request("POST", "/order", BASKET)
        answer = connections[which].getresponse()
        answer.read()
        assert answer.status == 200
        found[which].append(time.perf_counter() - due)


def one_round(ports: list[int], rate: float, seconds: float) -> list[list[float]]:
    """Latencies of each service, in seconds."""
    found: list[list[float]] = [[], []]
    requests: queue.SimpleQueue = queue.SimpleQueue()
    clients = [threading.Thread(target=client, args=(requests, ports, found)) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    begin = time.perf_counter()
    for n in range(int(2 * rate * seconds)):
        due = begin + n / (2 * rate)
        time.sleep(max(0.0, due - time.perf_counter()))
        requests.put((due, n % 2))
    for _ in clients:
        requests.put(None)
    for one in clients:
        one.join()
    return found


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200, help="requests a second to each service (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0] == "on", args.serve[1])
        return 0
    ratios = []
    with tempfile.TemporaryDirectory() as directory, service(False, directory) as off, service(True, directory) as on:
        one_round([off, on], args.rate, min(2.0, args.seconds))  # caches, threads, connections
        for _ in range(args.rounds):
            without, recorded = one_round([off, on], args.rate, args.seconds)
            ratios.append(quantile(recorded, 0.99) / quantile(without, 0.99))
            told = [f"{1e3 * quantile(one, share):.3f}" for share in (0.5, 0.99) for one in (without, recorded)]
            print(f"p50 {told[0]} -> {told[1]} ms, p99 {told[2]} -> {told[3]} ms: p99 x {ratios[-1]:.3f}", flush=True)
        assert list(Path(directory).glob("*.ringbuf")), "the recorded service has no flight recorder"
    median = statistics.median(ratios)
    print(f"p99 with everything on: x {median:.3f} (at most {LIMIT})")
    return int(median > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
