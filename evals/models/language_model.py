"""A causal language model for lm-eval, with requests packed instead of padded.

lm-eval's own `HFLM` pads every batch and computes the logits of all positions over the whole vocabulary. Here
requests stand end to end, a shared beginning (the question of several choices, the examples of a few-shot
prompt) goes through the model once, and only scored positions are projected to the vocabulary.

Contexts that do not fit lose their beginning, as in lm-eval; `truncated` has the keys of these requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel
from cpt.models.prefix_trees import PrefixTree, TreeBatch, batches, grow
from evals.models.generation import GenerationRequest, generate
from evals.models.prompting import StartTokens
from evals.models.request_cache import request_key

BATCH_TOKENS = 4096
"""Number of tokens that go through the model at once; a longer sequence is a batch of its own."""

LogLikelihood = tuple[float, bool]


class PackedLM(TemplateLM):
    """lm-eval model that scores continuations and whole texts, and generates greedily."""

    backend = "causal"

    def __init__(
        self,
        model: PackedLanguageModel,
        tokenizer: Tokenizer,
        *,
        start_token: str | StartTokens | None,
        end_token: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: Model with packed attention.
            tokenizer: Tokenizer of the model.
            start_token: Token before every question, as it preceded every training document; or the start
                tokens of `evals.models.prompting`.
            end_token: The tokenizer's end token, at which generation stops as at the model's own end tokens.
            on_progress: Function of the requests done and of all requests.
            batch_tokens: Number of tokens that go through the model at once; `BATCH_TOKENS` by default.
        """
        super().__init__()
        self._packed = model
        self._tokenizer = tokenizer
        self._start = _start(tokenizer, start_token, model)
        self._end_token = end_token
        self._on_progress = on_progress
        self._batch_tokens = batch_tokens or BATCH_TOKENS
        self._max_length = context_length(model)
        self._model_device = next(model.parameters()).device
        self._encoded: dict[str, list[int]] = {}
        self.truncated: set[str] = set()
        """Keys of the requests that were longer than the model reads and lost their beginning."""

    @property
    def eot_token_id(self) -> int:
        """Return the token that stands for an empty context."""
        return self._start.empty

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the start token and the text's tokens; no start token if `add_special_tokens` is False.

        A rendered chat may begin with the start token itself: it does not get a second one.
        """
        ids = self._encoded.get(string)
        if ids is None:
            ids = self._tokenizer.encode(string, add_special_tokens=False).ids
        if add_special_tokens is False or tuple(ids[: len(self._start.tokens)]) == self._start.tokens:
            return ids
        return [*self._start.tokens, *ids]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[LogLikelihood]:
        """Return each continuation's log-likelihood in nats, and True if it is the greedy one."""
        self._encode_at_once(request.args for request in requests)
        scored: list[LogLikelihood] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scored

    def _encode_at_once(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Tokenise on all cores the texts that `_encode_pair` will need."""
        texts = list({text for context, rest in pairs for text in (context.rstrip(), context + rest)})
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        self._encoded = {text: encoding.ids for text, encoding in zip(texts, encodings, strict=True)}

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[LogLikelihood]:
        """Score (text, context's tokens, continuation's tokens)."""
        self._encoded = {}
        results: list[LogLikelihood] = [(0.0, True)] * len(requests)

        def keep(number: int, result: LogLikelihood) -> None:
            results[number] = result
            self.cache_hook.add_partial("loglikelihood", requests[number][0], result)

        for text, context, rest in requests:
            if not context or not rest:
                raise DataError(f"a request has no context or no continuation to score: {text!r:.200}")
            if len(context) + len(rest) > self._max_length + 1:
                self.truncated.add(request_key("loglikelihood", text))
        self._score([(context, rest) for _, context, rest in requests], keep)
        return results

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002
        """Return the log-likelihood in nats of whole texts, every token predicted once.

        Windows do not overlap, but the last is filled up with context to its full length.
        """
        windows: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            rolling = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self._start.empty, self._max_length, context_len=1
            )
            windows.extend(make_disjoint_window(window) for window in rolling)
            owners.extend([number] * (len(windows) - len(owners)))
        totals = np.zeros(len(requests))
        left = np.bincount(owners, minlength=len(requests))

        def keep(number: int, result: LogLikelihood) -> None:
            owner = owners[number]
            totals[owner] += result[0]
            left[owner] -= 1
            if not left[owner]:
                done = float(totals[owner])
                self.cache_hook.add_partial("loglikelihood_rolling", requests[owner].args, done)

        self._score(windows, keep)
        return [float(total) for total in totals]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002
        """Return greedy continuations (see `evals.models.generation`)."""
        wanted = [self._generation_request(*request.args) for request in requests]
        texts = [""] * len(requests)
        generated = generate(self._packed.model, self._tokenizer, wanted, self._end_token)
        for done, (number, text) in enumerate(generated, start=1):
            texts[number] = text
            self.cache_hook.add_partial("generate_until", requests[number].args, text)
            self._report(done, len(requests))
        return texts

    def _generation_request(self, context: str, options: dict[str, Any]) -> GenerationRequest:
        wanted = GenerationRequest.of(self.tok_encode(context), options, self._max_length)
        if wanted.truncated:
            self.truncated.add(request_key("generate_until", (context, options)))
        return wanted

    def _score(
        self, pairs: Sequence[tuple[list[int], list[int]]], keep: Callable[[int, LogLikelihood], None]
    ) -> None:
        """Pass the index and the score of each (context, continuation) to `keep`, batch by batch."""
        inputs = [(context + rest)[-(self._max_length + 1) :][:-1] for context, rest in pairs]
        distinct = sorted({tuple(ids) for ids in inputs})
        place = {ids: index for index, ids in enumerate(distinct)}
        asked: list[list[int]] = [[] for _ in distinct]
        for number, ids in enumerate(inputs):
            asked[place[tuple(ids)]].append(number)
        done = 0
        for batch in batches(grow(distinct, self._batch_tokens), self._batch_tokens):
            numbers, scores = self._batch_scores(batch, asked, pairs)
            for number, score in zip(numbers, scores, strict=True):
                keep(number, score)
            done += len(numbers)
            self._report(done, len(pairs))

    def _report(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total)

    def _batch_scores(
        self,
        batch: Sequence[PrefixTree],
        asked: Sequence[Sequence[int]],
        pairs: Sequence[tuple[list[int], list[int]]],
    ) -> tuple[list[int], list[LogLikelihood]]:
        """Return the indices and scores of the pairs of a batch's sequences."""
        numbers: list[int] = []
        places: list[np.ndarray] = []
        labels: list[list[int]] = []
        offset = 0
        for tree in batch:
            for sequence, path in tree.paths.items():
                for number in asked[sequence]:
                    rest = pairs[number][1][-len(path) :]
                    numbers.append(number)
                    places.append(offset + path[len(path) - len(rest) :])
                    labels.append(rest)
            offset += len(tree.tokens)
        nodes, wanted = np.concatenate(places), np.concatenate(labels).astype(np.int64)
        order = np.argsort(nodes, kind="stable")
        asked_of = TreeBatch.of(batch, nodes[order], wanted[order]).to(self._model_device)
        nats, likeliest = (x.cpu().numpy() for x in self._packed.score(asked_of))
        back = np.argsort(order)
        ends = np.cumsum([len(each) for each in labels])[:-1]
        sums = [float(part.sum(dtype=np.float64)) for part in np.split(nats[back], ends)]
        greedy = [bool(part.all()) for part in np.split(likeliest[back], ends)]
        return numbers, list(zip(sums, greedy, strict=True))


def context_length(model: PackedLanguageModel) -> int:
    """Return the number of tokens that the model can read at once."""
    return int(model.model.config.get_text_config().max_position_embeddings)


def _start(tokenizer: Tokenizer, start: str | StartTokens | None, model: PackedLanguageModel) -> StartTokens:
    if isinstance(start, StartTokens):
        return start
    token = None if start is None else tokenizer.token_to_id(start)
    if start is not None and token is None:
        raise DataError(f"the tokenizer has no token {start!r}")
    if token is not None:
        return StartTokens((token,), token)
    end = model.model.config.eos_token_id
    return StartTokens((), int(end[0] if isinstance(end, list) else end))
