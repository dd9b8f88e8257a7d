"""A web address that takes what it is told, as a webhook of a team does."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class Told:
    """What was told, in order, and how often the receiver fails before it takes anything."""

    def __init__(self) -> None:
        self.contents, self.failures, self.url = list[dict[str, Any]](), 0, ""


@contextlib.contextmanager
def receiving() -> Iterator[Told]:
    """Take JSON at an address of this machine while the block runs."""
    found = Told()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.failures -= 1
            if found.failures < 0:
                found.contents.append(content)
            self.send_response(503 if found.failures >= 0 else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/hook?token=x"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
