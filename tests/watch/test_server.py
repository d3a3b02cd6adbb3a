"""The server: this machine only, one address, and no more work than there is news."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from cpt.errors import UsageError
from cpt.report.page import LiveState
from cpt.watch.server import HOST, Pages, Server


class Source:
    """A run whose version is set by hand."""

    def __init__(self) -> None:
        self.now, self.looks = "1", 0

    def version(self) -> str:
        return self.now

    def snapshot(self) -> tuple[None, LiveState]:
        self.looks += 1
        return None, LiveState(f"run {self.now}", self.now, "waiting")


@contextmanager
def serving(source: Source, port: int | None = 0) -> Iterator[Server]:
    with Server(source, port) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def source() -> Source:
    return Source()


@pytest.fixture(scope="module")
def server(source: Source) -> Iterator[Server]:
    with serving(source) as server:
        yield server


def ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    port = server.server_address[1]
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{port}"} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read().decode()


def test_the_page_is_served_with_its_policy(server: Server) -> None:
    answer, page = ask(server, "/")
    assert answer.status == 200
    assert "<h1>run 1</h1>" in page
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Server"].strip() == "cpt"


def test_nothing_is_sent_to_who_has_the_newest(server: Server) -> None:
    answer, page = ask(server, "/?since=1")
    assert (answer.status, page) == (204, "")
    assert ask(server, "/?since=0")[0].status == 200


def test_only_this_machine_can_reach_it(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "0.0.0.0"]
)
def test_another_name_is_turned_away(server: Server, host: str) -> None:
    answer, page = ask(server, "/", Host=host)
    assert (answer.status, page) == (421, "")


def test_localhost_is_a_name_of_its_own(server: Server) -> None:
    assert ask(server, "/", Host=f"LocalHost:{server.server_address[1]}")[0].status == 200


def test_a_request_without_a_name_is_turned_away(server: Server) -> None:
    with socket.create_connection(server.server_address, timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 421")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2fetc%2fpasswd",
        "//etc/passwd",
        "/run.json",
        "/.lock",
        "/index.html",
        "http://evil.example/",
        "http://[",
        "file:///etc/passwd",
        "*",
    ],
)
def test_there_are_no_other_paths(server: Server, path: str) -> None:
    answer, page = ask(server, path)
    assert (answer.status, page) == (404, "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent_to_it(server: Server, method: str) -> None:
    assert ask(server, "/", method)[0].status == 501


def test_a_port_that_is_taken_is_told_and_the_usual_one_gives_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = server.server_address[1]
    with pytest.raises(UsageError, match=f"port {taken} cannot be used"):
        Server(Source(), taken)
    monkeypatch.setattr("cpt.watch.server.PORT", taken)
    with serving(Source(), None) as other:
        assert other.server_address[1] != taken
        assert ask(other, "/")[0].status == 200


def test_a_page_is_made_only_if_something_changed_and_not_too_often() -> None:
    now, source = 0.0, Source()
    pages = Pages(source, clock=lambda: now, spent=lambda: 0.0)
    assert pages.newer() is not None
    now = 100
    assert pages.newer("1") is None
    assert source.looks == 1
    source.now = "2"
    assert "run 2" in str(pages.newer("1"))
    source.now = "3"
    now += 1
    assert pages.newer("2") is None  # too early
    assert "run 2" in str(pages.newer())  # a reader who has nothing gets what there is
    assert source.looks == 2
    now += 1.5
    assert "run 3" in str(pages.newer("2"))


def test_a_page_that_is_much_work_is_made_more_rarely() -> None:
    now, spent, source = 0.0, iter([0.0, 3.0]), Source()
    pages = Pages(source, clock=lambda: now, spent=lambda: next(spent, 3.0))
    pages.newer()
    source.now = "2"
    now = 29.9
    assert pages.newer("1") is None
    now = 30.1
    assert pages.newer("1") is not None
