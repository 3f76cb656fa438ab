"""A web server that takes what runnerd posts, in threads: it works, fails, refuses or hangs, as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

HANG = -1
"""A status: no answer at all until the receiver is closed."""


class Post(NamedTuple):
    """One request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def delivery(self) -> str:
        return self.headers["X-Runnerd-Delivery"]

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """`answer` is the status for each post; it may do more before it says so."""

    def __init__(self, answer: Callable[[Post], int]) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        self.url = ""
        self.is_closed = threading.Event()

    @property
    def ids(self) -> list[int]:
        """The calls whose results came, in their order."""
        return [post.json["id"] for post in self.posts]


@contextmanager
def receiving(answer: Callable[[Post], int] = lambda _: 200) -> Iterator[Receiver]:
    """A receiver on loopback for the length of the block."""
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            post = Post(dict(self.headers.items()), body)
            receiver.posts.append(post)
            status = receiver.answer(post)
            if status == HANG:
                receiver.is_closed.wait()
                self.close_connection = True
                return
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # who asked was killed
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        host, port = server.server_address[:2]
        receiver.url = f"http://{host!s}:{port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.is_closed.set()
            server.shutdown()
            thread.join()
