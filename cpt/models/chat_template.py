"""Conversations rendered by a model's chat template, which is a program in the folder and may never end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import CptError, ModelError
from cpt.models import chat_worker

SECONDS = 1
"""Processor time of one rendering; the system adds up to a second. Large templates take milliseconds."""

MEGABYTES = 512
"""Memory of one rendering, beside what the process itself takes."""


class TemplateRefused(CptError):
    """The template fails at a conversation: says why. `by_itself` if it raised the error on purpose."""

    def __init__(self, message: str, *, by_itself: bool) -> None:
        super().__init__(message)
        self.by_itself = by_itself


class ChatTemplate:
    """A folder's chat template, rendered as transformers does it, but in a process with bounded resources.

    The process starts with the first rendering (1 second), answers until this object is gone, and ends alone
    if this process dies: then its input ends. The bounds are the system's, so they hold in any thread.
    """

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        """Take the template of a tokenizer of transformers.

        Args:
            folder: where the tokenizer is from, for messages.
        """
        self._process: subprocess.Popen[str] | None = None
        self._folder = folder
        try:
            self._template: str = tokenizer.get_chat_template()
        except ValueError as error:  # several named templates and none by default
            raise TemplateRefused(str(error), by_itself=False) from error
        self._special: Mapping[str, Any] = {
            name: str(token) for name, token in tokenizer.special_tokens_map.items()
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process; a pipe would fill
        self._lock = threading.Lock()

    def render(self, messages: Sequence[Mapping[str, str]], *, to_be_continued: bool) -> str:
        """Render a conversation.

        Args:
            to_be_continued: the model's turn comes next; otherwise its last message is to be continued.

        Raises:
            TemplateRefused: the template fails at this conversation.
            ModelError: the template takes more time or memory than any needs.
            CptError: the process that renders ended by itself.
        """
        return self._render(messages, prompt=to_be_continued, cut=not to_be_continued)

    def render_whole(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Render a finished conversation, to its end: to train on.

        Args:
            messages: with `role`, `content`, and whatever else the template knows.

        Raises:
            as `render`.
        """
        return self._render(messages, prompt=False, cut=False)

    def _render(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool, cut: bool) -> str:
        asked = {
            "conversations": [[dict(message) for message in messages]],
            "chat_template": self._template,
            "add_generation_prompt": prompt,
            "continue_final_message": cut,
            **self._special,
        }
        with self._lock:
            answer = self._ask(json.dumps(asked) + "\n")
        if "error" in answer:
            raise TemplateRefused(str(answer["error"]), by_itself=bool(answer["refused"]))
        return str(answer["text"])

    def _ask(self, line: str) -> dict[str, Any]:
        if self._process is None:
            words = [sys.executable, "-P", chat_worker.__file__, str(SECONDS), str(MEGABYTES * 2**20)]
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            answered = self._process.stdout.readline()
        except BrokenPipeError:
            answered = ""
        if not answered.endswith("\n"):
            code = self._process.wait()  # its output is closed, so it is ending
            self.close()
            if code > 0 and code != chat_worker.OUT_OF_MEMORY:  # the system's limits end it by a signal
                why = f"exit code {code}: {self._last_error()}"
                raise CptError(f"the process that renders chat templates ended by itself, with {why}")
            raise ModelError(
                f"the chat template in {self._folder} takes too long: more than {SECONDS} s of computing or "
                f"{MEGABYTES} MB for one conversation",
                hint="Correct or remove chat_template.jinja, or `chat_template` in tokenizer_config.json.",
            )
        found: dict[str, Any] = json.loads(answered)
        return found

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def close(self) -> None:
        """End the process; another rendering starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def __del__(self) -> None:
        self.close()
