"""Servers on a port of this machine that stand in for the mirrors of a data set."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def mirror(answer):
    """Serve ``answer(handler)`` on a port of this machine; yield the address and what was asked."""
    asked = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.over = over
            with suppress(ConnectionError):
                answer(self)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def serve(files: dict[str, bytes]):
    """Answer with the file of ``files`` that is asked for, 404 if there is none."""

    def answer(handler) -> None:
        content = files.get(handler.path.rpartition("/")[2])
        handler.send_error(404) if content is None else send(handler, content)

    return answer


def stall(handler) -> None:
    handler.over.wait()


def stall_within(handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"\x1f\x8b")
    handler.over.wait()


def trickle(handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.over.wait(0.05):
        handler.wfile.write(b"x")


def endless(handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.over.is_set():
        handler.wfile.write(bytes(1 << 16))
