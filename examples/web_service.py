"""A web service with four workers, of which one is killed; and a page that tells what was slow, who died, what is lost.

    python examples/web_service.py build/web-trace build/web-report.html

Where to look first:

1. `serve` and what it calls run in the workers: a span for each request, and for each part of one;
2. `run` starts the workers, sends requests to them, and kills one in the middle of a payment;
3. open the page: the answers to the three questions are its first lines, and in its time line.

What goes wrong here goes wrong on purpose: a query without an index, a worker that is killed, and somebody who
records every row of a table in full, which is more than the buffers take.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import ringbuf

WORKERS = 4
REQUESTS = 160
VICTIM = 2  # the worker that is killed
PATHS = ("/", "/orders", "/", "/search?q=ring", "/orders", "/")


# ---- in the workers ----


class Service:
    """What a worker does; each part of a request is a span within the request's."""

    def __init__(self, tracer: ringbuf.Tracer, number: int) -> None:
        self.number = number
        self.request = tracer.span_type("request", path="str", worker="u32")
        self.query = tracer.span_type("query", table="str", index="bool")
        self.render = tracer.span_type("render", template="str")
        self.charge = tracer.span_type("charge card", order="u64")
        self.row = tracer.event("row", number="u32", text="str")

    def answer(self, path: str) -> None:
        with self.request(path, self.number):
            if path.startswith("/search"):
                self.read("articles", 0.004)
            elif path == "/slow":
                self.read("articles", 0.35, index=False)
            elif path == "/pay":
                self.read("orders", 0.003)
                with self.charge(4711):
                    time.sleep(60)  # the bank does not answer
            elif path == "/export":
                self.export()
            elif path == "/broken":
                with self.query("customers", True):
                    raise LookupError("no such customer")
            else:
                self.read("orders", 0.002)
            with self.render(path.strip("/").partition("?")[0] or "index"):
                time.sleep(0.001)

    def read(self, table: str, seconds: float, index: bool = True) -> None:
        with self.query(table, index):
            time.sleep(seconds)

    def export(self) -> None:
        text = "a row of many columns " * 160
        with self.query("everything", False):
            for number in range(6_000):
                self.row(number, text)


def serve(tracer: ringbuf.Tracer, number: int, listening: socket.socket) -> None:
    """Answer one request after another, each on a connection of its own; an empty one is the end."""
    service = Service(tracer, number)
    while True:
        connection, _ = listening.accept()
        with connection:
            path = connection.recv(1000).decode()
            if not path:
                return
            try:
                service.answer(path)
                connection.sendall(b"200")
            except LookupError:
                connection.sendall(b"404")


# ---- who starts them, and asks ----


def ask(port: int, path: str) -> str:
    """The status of a request, or what became of it."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(path.encode())
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(10).decode() or "no answer"
    except ConnectionError:
        return "no answer"


def run(directory: str) -> dict:
    """Record the service while it is used; who was killed, and how many requests had which answer."""
    processes = get_context("fork")
    tracer = ringbuf.Tracer("web", mode="discard", contexts=["vpid", "vtid", "procname", "thread_name"],
                            subbuf_size=64 * 1024, n_subbufs=4)  # fmt: skip
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(WORKERS)]
    ports = [one.getsockname()[1] for one in sockets]
    workers = [processes.Process(target=serve, args=(tracer, number, sockets[number])) for number in range(WORKERS)]
    answers: dict[str, int] = {}

    def use(path: str, port: int) -> None:
        status = ask(port, path)
        answers[status] = answers.get(status, 0) + 1

    with tracer.record(directory):
        for worker in workers:
            worker.start()
        with ThreadPoolExecutor(WORKERS) as clients:
            for number in range(REQUESTS):
                clients.submit(use, PATHS[number % len(PATHS)], ports[number % WORKERS])
        for path, number in (("/broken", 0), ("/slow", 1), ("/export", 3)):
            use(path, ports[number])
        payment = threading.Thread(target=use, args=("/pay", ports[VICTIM]))
        payment.start()
        time.sleep(0.25)
        os.kill(workers[VICTIM].pid, signal.SIGKILL)
        payment.join()
        living = [number for number in range(WORKERS) if number != VICTIM]
        with ThreadPoolExecutor(WORKERS) as clients:
            for number in range(REQUESTS // 4):
                clients.submit(use, PATHS[number % len(PATHS)], ports[living[number % len(living)]])
        for number in living:
            ask(ports[number], "")
        for worker in workers:
            worker.join()
    return {"killed": workers[VICTIM].pid, "answers": answers, "lost": tracer.stats().records_lost}


def main() -> None:
    directory, page = sys.argv[1:3] if len(sys.argv) == 3 else ("build/web-trace", "build/web-report.html")
    found = run(directory)
    with ringbuf.open_trace(directory) as trace:
        trace.report(page)
    print(f"worker {found['killed']} was killed; {found['lost']} records were lost; answers: {found['answers']}")
    print(f"file://{os.path.abspath(page)}")


if __name__ == "__main__":
    main()
