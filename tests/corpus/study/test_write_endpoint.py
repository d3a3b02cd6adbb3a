"""A model at an address: answers, attempts, errors, and the key, which is seen by the server alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from chat_server import KEY, Reply, StandIn, completion, serving

from cpt.corpus.study.write import endpoint
from cpt.corpus.study.write.endpoint import Endpoint
from cpt.corpus.study.write.requests import Answer, Request
from cpt.corpus.study.write.settings import WriteSettings
from cpt.errors import StageFailed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def ask(server: StandIn | str, count: int = 1, **settings: Any) -> list[Answer]:
    """Answers to prompts "0", "1", …, in this order."""
    address = server if isinstance(server, str) else server.address
    given = {"model": address, "name": "writer", "tokens": 1, "key_variable": "OPENAI_API_KEY", **settings}
    writer = Endpoint(WriteSettings.model_validate(given))
    requests = [Request(str(number), "", 50 + number, "", number) for number in range(count)]
    found = dict(writer.answers(requests))
    return [found[number] for number in range(count)]


def failure(server: StandIn | str, **settings: Any) -> str:
    """The message of what stops the stage."""
    with pytest.raises(StageFailed) as caught:
        ask(server, **settings)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None or KEY not in repr(caught.value.__cause__)
    return str(caught.value)


def first_fails(failures: int, reply: Reply) -> Callable[[dict[str, Any]], Reply]:
    """Fail so often, then answer with the prompt."""
    left = [failures]

    def answer(body: dict[str, Any]) -> Reply:
        left[0] -= 1
        return reply if left[0] >= 0 else completion(body["messages"][0]["content"])

    return answer


def test_a_request_has_the_settings_and_the_key() -> None:
    with serving(lambda body: completion("Well.", written=7, read=9)) as server:
        made = ask(server, temperature=0.25, fields={"top_p": 0.5, "seed": None})
    assert made == [Answer("Well.", 9, 7)]
    assert server.bodies == [
        {
            "model": "writer",
            "messages": [{"role": "user", "content": "0"}],
            "temperature": 0.25,
            "max_tokens": 50,
            "top_p": 0.5,
        }
    ]
    assert {name.lower(): value for name, value in server.headers[0].items()}[
        "authorization"
    ] == f"Bearer {KEY}"


def test_the_key_is_that_of_the_variable_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    with serving(lambda body: completion("Well.")) as server:
        ask(server, key_variable="MY_KEY")
        ask(server, key_variable="NO_SUCH_KEY")
        ask(server, key_variable=None)  # OPENAI_API_KEY is set, and is not for this server
    sent = [
        {name.lower(): value for name, value in each.items()}.get("authorization") for each in server.headers
    ]
    assert sent == ["Bearer sk-mine", None, None]


def test_what_goes_to_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda body: (500, "a proxy")) as proxy, serving(lambda body: completion("Well.")) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.address.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", "")
        assert [each.text for each in ask(server)] == ["Well."]
    assert proxy.bodies == []


def test_requests_go_out_together_and_come_back_in_their_places() -> None:
    together = threading.Barrier(4, timeout=10)

    def answer(body: dict[str, Any]) -> Reply:
        together.wait()
        time.sleep(0.01 * (4 - body["seed"] % 4))
        return completion(f"answer to {body['messages'][0]['content']}")

    with serving(answer) as server:
        made = ask(server, count=8, at_once=4)
    assert [each.text for each in made] == [f"answer to {number}" for number in range(8)]
    assert server.most == 4
    assert [body["seed"] for body in sorted(server.bodies, key=lambda body: body["seed"])] == list(range(8))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with serving(first_fails(3, (status, {"error": {"message": "later"}}))) as server:
        assert [each.text for each in ask(server)] == ["0"]
    assert len(server.bodies) == 4


def test_what_does_not_pass_is_one_clear_error() -> None:
    with serving(lambda body: (503, {"error": {"message": "overloaded"}})) as server:
        said = failure(server, at_once=1)
    assert len(server.bodies) == endpoint.ATTEMPTS
    assert "gave no answer: status 503: overloaded" in said
    assert "The finished answers are kept" in said


def test_a_limit_of_requests_is_explained() -> None:
    with serving(lambda body: (429, {"error": {"message": "rate limit"}})) as server:
        assert "Lower at_once" in failure(server)


def test_a_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    with serving(first_fails(1, (429, "slower", {"retry-after": "0.2"}))) as server:
        assert [each.text for each in ask(server)] == ["0"]
        assert time.monotonic() - begun >= 0.2
    monkeypatch.setattr(endpoint, "LONGEST_PAUSE", 0.01)
    begun = time.monotonic()
    with serving(first_fails(1, (429, "slower", {"retry-after": "3600"}))) as server:
        assert [each.text for each in ask(server)] == ["0"]
    assert time.monotonic() - begun < 60
    with serving(first_fails(1, (429, "slower", {"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}))) as server:
        assert [each.text for each in ask(server)] == ["0"]


def test_nobody_at_the_address_is_one_clear_error() -> None:
    with serving(lambda body: completion("Well.")) as server:
        address = server.address
    assert "ConnectError" in failure(address)


def test_a_server_that_is_too_slow_is_tried_once_more() -> None:
    def slow(body: dict[str, Any]) -> Reply:
        time.sleep(0.5)
        return completion("late")

    with serving(slow) as server:
        assert "ReadTimeout" in failure(server, timeout=0.02)
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {"error": {"message": f"Incorrect key {KEY}."}}), "Incorrect key [key]."),
        ((403, {"detail": "not for you"}), "not for you"),
        ((402, {"error": "pay first"}), "pay first"),
        ((404, {"message": "no such model\x1b[2J"}), r"no such model\x1b[2J"),
        ((307, "", {"location": "http://127.0.0.1:9/v1"}), "status 307"),
        ((200, "<html>login</html>"), "no chat completion: <html>login"),
        ((200, {"choices": []}), "no chat completion"),
        ((200, {"choices": [{"text": "old form"}]}), "no chat completion"),
        ((200, ["what"]), "no chat completion"),
    ],
    ids=str,
)
def test_what_no_attempt_changes_is_asked_once(reply: Reply, message: str) -> None:
    with serving(lambda body: reply) as server:
        assert message in failure(server)
    assert len(server.bodies) == 1


def test_an_error_names_the_variable_of_the_key() -> None:
    with serving(lambda body: (401, {})) as server:
        assert "The key is that of the environment variable OPENAI_API_KEY" in failure(server)
        assert "There is no key in the environment variable NO_SUCH" in failure(
            server, key_variable="NO_SUCH"
        )
        assert "No key was sent: name the environment variable" in failure(server, key_variable=None)


@pytest.mark.parametrize("key", ["sk two words", "sk-\u00e9t\u00e9", "sk\nline"])
def test_a_key_that_is_none_is_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(StageFailed, match="holds no key") as caught:
        ask("http://127.0.0.1:9/v1")
    assert key not in str(caught.value)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_stops_no_other(status: int) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][0]["content"]
        return (status, {"error": {"message": "too long"}}) if prompt == "1" else completion(prompt)

    with serving(answer) as server:
        made = ask(server, count=3)
    assert [(each.text, each.failed) for each in made] == [("0", ""), ("", "refused"), ("2", "")]
    assert made[1].detail == f"status {status}: too long"
    assert len(server.bodies) == 3


def test_after_a_failure_no_request_begins_and_those_on_their_way_are_awaited() -> None:
    first = threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        if body["messages"][0]["content"] == "1":
            first.wait(10)
            return 404, "gone"
        first.set()
        time.sleep(0.1)
        return completion("paid")

    with serving(answer) as server:
        settings = {"model": server.address, "name": "writer", "tokens": 1, "at_once": 2}
        writer = Endpoint(WriteSettings.model_validate(settings))
        found = writer.answers([Request(str(number), "", 9, "", number) for number in range(20)])
        assert next(found) == (0, Answer("paid", 100, 40))
        with pytest.raises(StageFailed, match="gone"):
            next(found)
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (completion("It was", "length"), Answer("It was", 100, 40, cut=True)),
        (completion(None), Answer("", 100, 40, failed="empty")),
        (completion(" \n"), Answer(" \n", 100, 40, failed="empty")),
        (completion("", "content_filter"), Answer("", 100, 40, failed="filtered")),
        (completion("a" * 40, written=None), Answer("a" * 40, 1, 10)),
        (
            completion([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]),
            Answer("in parts", 100, 40),
        ),  # type: ignore[arg-type]
        (completion("\ud800"), Answer("\ud800", 100, 40)),
    ],
    ids=str,
)
def test_answers_are_read_as_servers_give_them(reply: Reply, expected: Answer) -> None:
    with serving(lambda body: reply) as server:
        assert ask(server) == [expected]
