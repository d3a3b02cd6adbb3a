"""Ask a server with OpenAI's chat completions, several requests at once; try again where that may help.

The key comes from an environment variable that the settings name. It goes into the header of requests and
nowhere else: a server may repeat it in its messages, so it is taken out of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from cpt.corpus.study.write.requests import REFUSED, Answer, Request
from cpt.corpus.study.write.settings import WriteSettings
from cpt.errors import StageFailed
from cpt.escaping import escape_line

CLIENTS = ("httpx2", "httpx")
"""Modules of the HTTP client; huggingface_hub brings one of them."""

ATTEMPTS = 6
FIRST_PAUSE = 1.0
"""Seconds before the second attempt; they double each time. With six attempts a server may be away for 31."""

_FOR_A_TIMEOUT = 3
"""Attempts that a late answer counts as: it takes long, and the server may ask to be paid for it."""

LONGEST_PAUSE = 60.0
_SHOWN = 300
_LATER = "The finished answers are kept: the same command asks only for the others."
_KEY = re.compile(r"[\x21-\x7e]+")


def client_name() -> str | None:
    """Return the module of an HTTP client that is installed; None if there is none."""
    return next((name for name in CLIENTS if importlib.util.find_spec(name) is not None), None)


class Endpoint:
    """A model at an address."""

    def __init__(self, settings: WriteSettings) -> None:
        """Read the key.

        Raises:
            StageFailed: There is no HTTP client, or the variable holds no key.
        """
        name = client_name()
        if name is None:
            raise StageFailed("no HTTP client is installed", hint=f"pip install {CLIENTS[0]}")
        self._settings, self._http = settings, importlib.import_module(name)
        self._url = f"{settings.model}/chat/completions"
        self._key = os.environ.get(settings.variable, "").strip() if settings.variable else ""
        if self._key and not _KEY.fullmatch(self._key):
            raise StageFailed(
                f"{settings.variable} holds no key: it has spaces, or characters beyond ASCII",
                hint="Set the variable again.",
            )
        self._client = self._http.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=settings.timeout,
            limits=self._http.Limits(max_connections=settings.at_once),
            follow_redirects=False,  # the key is for this address alone
            trust_env=not settings.is_local,  # a proxy would read what does not leave this machine
        )

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the index and the answer of each request, as they finish.

        After a failure no further request begins. Those on their way are awaited, for they are paid for.

        Raises:
            StageFailed: The server cannot be reached, or takes no requests of ours.
        """
        waiting: SimpleQueue[int] = SimpleQueue()
        for number in range(len(requests)):
            waiting.put(number)
        done: SimpleQueue[tuple[int, Answer] | Exception | None] = SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    number = waiting.get_nowait()
                    done.put((number, self._answer(requests[number], stop)))
            except Empty:
                pass
            except Exception as error:
                done.put(error)  # first, for whoever sees the stop fails as well
                stop.set()
            finally:
                done.put(None)

        working = min(self._settings.at_once, len(requests))
        for _ in range(working):  # daemons, so that Ctrl-C waits for no answer
            threading.Thread(target=work, daemon=True).start()
        failure: Exception | None = None
        try:
            while working:
                found = done.get()
                if found is None:
                    working -= 1
                elif isinstance(found, Exception):
                    failure = failure or found
                else:
                    yield found
        finally:
            stop.set()
        if failure is not None:
            raise failure

    def _answer(self, request: Request, stop: threading.Event) -> Answer:
        """Return the answer to a request, after several attempts if need be."""
        trouble, pause, left = "", 0.0, ATTEMPTS
        while left > 0 and not stop.wait(min(pause, LONGEST_PAUSE)):
            pause = FIRST_PAUSE * 2 ** (ATTEMPTS - left)
            left -= 1
            try:
                response = self._client.post(self._url, json=self._body(request))
            except self._http.RequestError as error:
                trouble = f"{type(error).__name__}: {self._said(str(error))}"
                if isinstance(error, self._http.ReadTimeout):
                    left -= _FOR_A_TIMEOUT - 1
                continue
            status = response.status_code
            if status == 200:
                return self._read(response, request)
            said = self._said(_message(response))
            if status in (400, 413, 422):
                return Answer(failed=REFUSED, detail=f"status {status}: {said}")
            if status < 500 and status not in (408, 409, 425, 429):
                raise self._refusal(status, said)
            trouble, pause = f"status {status}: {said}", max(pause, _retry_after(response))
        limited = trouble.startswith("status 429")
        more = "Lower at_once, or wait for the account's limit." if limited else "Check that it is running."
        raise StageFailed(f"{self._url} gave no answer: {trouble}", hint=f"{more} {_LATER}")

    def _body(self, request: Request) -> dict[str, Any]:
        body = {
            "model": self._settings.name,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": self._settings.temperature,
            "max_tokens": request.most,
            "seed": request.seed,
            **self._settings.fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _read(self, response: Any, request: Request) -> Answer:
        """Return the answer in a response.

        Raises:
            StageFailed: It is no chat completion.
        """
        try:
            content = response.json()
            choice = content["choices"][0]
            text, reason = choice["message"].get("content"), choice.get("finish_reason")
            usage = content.get("usage") or {}
            read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise StageFailed(
                f"{self._url} answers with no chat completion: {self._said(response.text)}", hint=_CHECK
            ) from None
        if isinstance(text, list):  # some servers give the parts of a message
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        text = text if isinstance(text, str) else ""
        return Answer(
            text=text,
            read=read if isinstance(read, int) else _about(request.prompt),
            written=written if isinstance(written, int) else _about(text),
            cut=reason == "length",
            failed="filtered" if reason == "content_filter" else "" if text.strip() else "empty",
        )

    def _refusal(self, status: int, said: str) -> StageFailed:
        """Return the error of a status that another attempt does not change."""
        variable = self._settings.variable
        if status in (401, 403):
            held = "The key is that of" if self._key else "There is no key in"
            hint = f"{held} the environment variable {variable}."
            if variable is None:
                hint = "No key was sent: name the environment variable that holds it (key_variable)."
            message = f"{self._url} takes no requests with this key (status {status}): {said}"
            return StageFailed(message, hint=f"{hint} {_LATER}")
        if status == 402:
            return StageFailed(f"{self._url} asks for a payment (status 402): {said}", hint=_LATER)
        return StageFailed(f"{self._url} takes no requests (status {status}): {said}", hint=_CHECK)

    def _said(self, message: str) -> str:
        """Return a server's message as one short line without the key."""
        hidden = message.replace(self._key, "[key]") if self._key else message
        return escape_line(" ".join(hidden.split())[:_SHOWN]) or "no message"


_CHECK = "Check the address (mostly it ends in /v1) and the name of the model."


def _message(response: Any) -> str:
    """Return the message of an error in the forms that servers have."""
    try:
        content = response.json()
    except ValueError:
        return str(response.text)
    for name in ("error", "detail", "message"):
        found = content.get(name) if isinstance(content, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str):
            return found
    return str(response.text)


def _retry_after(response: Any) -> float:
    try:
        return float(response.headers.get("retry-after", "0"))
    except ValueError:  # a date
        return 0.0


def _about(text: str) -> int:
    """Return the usual number of tokens of a text, for servers that count none."""
    return max(1, len(text.encode("utf-8", "replace")) // 4)
