"""A model that is asked only for answers that the cache lacks, and loaded only if there are any."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

from cpt.errors import CptError, ModelError, StageFailed
from evals.models.prompting import Prompting
from evals.models.request_cache import Answer, RequestCache, request_key


class CachedLM(LM):
    """lm-eval model that puts a cache before another lm-eval model.

    Attributes:
        truncated: Number of requests that lost their beginning because they were too long, by task.
        asked: Number of requests so far.
        answered: Number of requests that the cache answered.
    """

    def __init__(
        self, load: Callable[[], LM], cache: RequestCache, folder: Path, prompting: Prompting | None = None
    ) -> None:
        """Wrap a model.

        Args:
            load: Function that loads the model, called at the first request that is not in the cache. The
                model gives its `cache_hook` each answer at once, and adds the requests it shortened to
                `truncated`.
            cache: Cache of answers.
            folder: Folder of the model.
            prompting: Chat template of the model; None for one that is asked without.
        """
        super().__init__()
        self._load, self._cache, self._folder, self._prompting = load, cache, folder, prompting
        self._model: LM | None = None
        self.truncated: Counter[str] = Counter()
        self.asked = self.answered = 0

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return (log-likelihood, greedy) of each request."""
        return [(float(nats), bool(greedy)) for nats, greedy in self._answers("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return the log-likelihood of each text."""
        return [float(nats) for nats in self._answers("loglikelihood_rolling", requests)]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return each prompt's continuation."""
        return [str(text) for text in self._answers("generate_until", requests)]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation in the model's template."""
        if self._prompting is None:
            raise TypeError("the model was wrapped without its chat template")
        return self._prompting.render(chat_history, to_be_continued=add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """Return the name of the tokenizer, for lm-eval's own records."""
        return self._folder.name

    def _answers(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        keys = [request_key(kind, request.args) for request in requests]
        known = self._cache.find(keys)
        self.asked += len(keys)
        self.answered += sum(key in known for key in keys)
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        if missing:
            known |= self._ask(kind, missing)
        for key in keys:
            self._require_number(known[key].value)
        for key, request in zip(keys, requests, strict=True):
            self.truncated[request.task_name] += known[key].truncated
        return [known[key].value for key in keys]

    def _require_number(self, value: Any) -> None:
        """Raise for an answer that is no number and cannot be scored.

        Raises:
            ModelError: Names the model's folder.
        """
        nats = value[0] if isinstance(value, tuple | list) else value
        if isinstance(nats, float) and math.isnan(nats):
            raise ModelError(
                f"the model in {self._folder} answers with NaN: it cannot be scored",
                hint="Its weights are damaged, or too large for their data type: try --precision fp32.",
            )

    def _ask(self, kind: str, requests: dict[str, Any]) -> dict[str, Answer]:
        """Ask the model, and keep its answers as they come."""
        model = self._loaded()
        truncated: set[str] = model.truncated
        hook = _Hook(self._cache, truncated, self._require_number)
        model.set_cache_hook(hook)
        try:
            values = getattr(model, kind)(list(requests.values()))
            for key, value in zip(requests, values, strict=True):
                hook.keep(key, value)
        except CptError:
            raise
        except Exception as error:
            raise StageFailed(f"the model fails at {kind} requests: {error}") from error
        finally:
            self._cache.write()
        return {key: Answer(value, key in truncated) for key, value in zip(requests, values, strict=True)}

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                self._model = self._load()
            except CptError:
                raise
            except Exception as error:
                raise StageFailed(f"the model cannot be loaded: {error}") from error
        return self._model


class _Hook:
    """Receiver of each answer of an lm-eval model."""

    def __init__(self, cache: RequestCache, truncated: set[str], check: Callable[[Any], None]) -> None:
        self._cache, self._truncated, self._check = cache, truncated, check
        self._kept: set[str] = set()

    def add_partial(self, kind: str, arguments: Sequence[Any], value: Any) -> None:
        self.keep(request_key(kind, arguments), value)

    def keep(self, key: str, value: Any) -> None:
        """Keep an answer that passes the check, unless it is kept already."""
        if key not in self._kept:
            self._check(value)
            self._kept.add(key)
            self._cache.keep(key, Answer(value, key in self._truncated))
