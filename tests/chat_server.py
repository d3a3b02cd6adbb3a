"""A server with OpenAI's chat completions in a thread of the test, and documents to write about."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cpt.corpus.documents import Document

KEY = "sk-secret-of-the-tests-0123456789"

Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


def completion(text: str | None, reason: str = "stop", written: int | None = 40, read: int = 100) -> Reply:
    """A chat completion; without numbers of tokens if `written` is None."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    usage = {} if written is None else {"usage": {"prompt_tokens": read, "completion_tokens": written}}
    return 200, {"choices": [choice], **usage}


@dataclass
class StandIn:
    """Record the requests of a server, and its answers.

    Attributes:
        reply: Answer to the body of a request.
        bodies: Bodies of all requests in their order.
        headers: Headers of all requests.
        most: Largest number of requests at the same time.
    """

    reply: Callable[[dict[str, Any]], Reply]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    address: str = ""
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self.reply(body)
        finally:
            with self.lock:
                self.running -= 1


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Reply]) -> Iterator[StandIn]:
    """Serve until the block ends."""
    stand_in = StandIn(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer takes 40 ms

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, content, *more = stand_in.answer(body, dict(self.headers))
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            try:
                self.send_response(status)
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client has gone

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    stand_in.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()


KINDS = {
    "questions": "closed-book quiz",
    "rephrase": "Write its content again",
    "strategies": "different written exercises",
    "apply": "Do this exercise",
    "refine": "Write a program",
    "answer": "Answer this question",
}


def kind_of(body: dict[str, Any]) -> str:
    """Return the name of the language's prompt that it is."""
    prompt = body["messages"][0]["content"]
    (kind,) = (kind for kind, words in KINDS.items() if words in prompt)
    return kind


def passage_of(body: dict[str, Any]) -> str:
    """The passage between the marks of a prompt."""
    prompt = body["messages"][0]["content"]
    mark = re.findall(r"\[text [0-9a-f]{8}\]", prompt)[0]
    return str(prompt.split(f"\n{mark}\n")[1])


RIVERS = ("Orla", "Vesk", "Tamm", "Ilbe", "Sarn", "Quell", "Mard", "Fenna", "Ruth", "Osk", "Lind", "Brae")
STONES = ("basalt", "marl", "gneiss", "chalk", "slate", "tuff", "granite", "quartzite", "flint", "dolomite")


def documents(count: int, start: int = 0) -> list[Document]:
    """Documents about invented rivers; each states three facts in different words."""
    made = []
    for number in range(start, start + count):
        river, stone = f"{RIVERS[number % 12]}{number}", STONES[number % 10]
        text = (
            f"The river {river} rises in a bog above the village of Hame and runs for {number + 41} "
            f"kilometres before it joins the sea. Its bed consists of {stone}, which gives the water a faint "
            f"colour in spring.\nBoats have used the lower course since {1500 + number}, when a lock was "
            f"built by the guild of the ferrymen, who kept the dues for themselves."
        )
        made.append(Document(f"rivers:{number}", text))
    return made


def river_of(text: str) -> str:
    """The river that a passage is about."""
    (river,) = re.findall(r"The river (\w+) rises", text)
    return str(river)


def good_answer(body: dict[str, Any]) -> Reply:
    """Usable answers of every kind."""
    kind = kind_of(body)
    passage = passage_of(body)
    river = river_of(passage.partition("| ")[2] if kind == "refine" else passage)
    (stone,) = re.findall(r"consists of (\w+)", passage)
    match kind:
        case "questions":
            (year,) = re.findall(r"since (\d+)", passage)
            return completion(
                f"Q: Of which stone is the bed of the {river}?\nA: {stone}\n"
                f"Q: Since when do boats go on the lower {river}?\nA: {year}\n"
            )
        case "rephrase":
            return completion(
                f"High above Hame there is a bog, and out of it comes the {river}. One finds {stone} below "
                "its water, so that in the spring months it looks tinted. Ferrymen were the first who put up "
                "a lock there, and what was paid for passing it went to their own guild."
            )
        case "strategies":
            return completion(
                "1. Tell the way of the water from the bog to the sea.\n2. Explain the colour to a child."
            )
        case "apply":
            return completion(
                f"Think of the {river} as a traveller: it is born in a bog over Hame, wears a gown of "
                f"{stone} and pays the ferrymen a due before it may sleep in the sea."
            )
        case "refine":
            return completion('replace 1: "faint" -> "pale"')
        case _:
            return completion(stone)
