"""Serve the live page of one run, to this machine only.

The only address is `/`; no files are served. Requests for another host name are refused, so that a foreign
page whose name was made to resolve to this machine (DNS rebinding) reads nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Lock
from typing import Any, Protocol
from urllib.parse import parse_qs

from cpt.errors import UsageError
from cpt.report.page import POLICY, LiveState, render_live
from cpt.report.schema import Facts

HOST = "127.0.0.1"
PORT = 8417
"""Default port of the page; if it is taken, any free port."""

_LEAST_PAUSE = 2.0
_PAUSES = 10.0
"""Minimum pause between two pages: in seconds, and in multiples of the last page's processor time.

Ten times the processor time limits the server to a tenth of a core beside the training.
"""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Source(Protocol):
    """A source of pages, such as `cpt.watch.run_watcher.RunWatcher`."""

    def version(self) -> str: ...

    def snapshot(self) -> tuple[Facts | None, LiveState]: ...


class Pages:
    """Cache of the newest page, rendered on request after a change, and not too often."""

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        """Take the source of the pages.

        Args:
            source: Source of facts and state.
            clock: Function that returns elapsed seconds.
            spent: Function that returns this thread's processor time, in seconds.
        """
        self._source, self._clock, self._spent = source, clock, spent
        self._lock = Lock()
        self._version, self._html = "", ""
        self._next = float("-inf")

    def newer(self, than: str = "") -> str | None:
        """Return the page, or None if the reader already has this version."""
        with self._lock:
            if self._clock() >= self._next and self._source.version() != self._version:
                began = self._spent()
                facts, live = self._source.snapshot()
                self._version, self._html = live.version, render_live(facts, live)
                cost = self._spent() - began
                self._next = self._clock() + max(_LEAST_PAUSE, _PAUSES * cost)
            return None if self._version == than else self._html


class Server(ThreadingTCPServer):
    """HTTP server of the live page. (`HTTPServer` would ask the network for this machine's name.)"""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, source: Source, port: int | None = None) -> None:
        """Bind the port.

        Args:
            source: Source of the pages.
            port: Port to listen on; 0 for any free one; None for `PORT`, or any free one if it is taken.

        Raises:
            UsageError: The port is taken or not permitted.
        """
        self.pages = Pages(source)
        try:
            super().__init__((HOST, PORT if port is None else port), _Handler)
        except OSError as error:
            if port is not None:
                hint = "Choose another, or leave --port out."
                raise UsageError(f"port {port} cannot be used: {error.strerror}", hint=hint) from None
            super().__init__((HOST, 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors, except a client that closes the connection early."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Return the address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    @property
    def names(self) -> set[str]:
        """Return the host names by which a browser on this machine may address the server."""
        return {f"{host}:{self.server_address[1]}" for host in (HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "cpt", ""
    timeout = 30

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if self.headers.get("Host", "").lower() not in self.server.names:
            self._answer(HTTPStatus.MISDIRECTED_REQUEST)
        elif path != "/":
            self._answer(HTTPStatus.NOT_FOUND)
        else:
            page = self.server.pages.newer(than=parse_qs(query).get("since", [""])[0])
            self._answer(HTTPStatus.NO_CONTENT if page is None else HTTPStatus.OK, page)

    def _answer(self, status: HTTPStatus, page: str | None = None) -> None:
        body = (page if page is not None else "").encode()
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
