"""Load a model for lm-eval: packed, or by lm-eval's own class where it cannot be packed, or by vLLM."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cpt.errors import StageFailed, UsageError
from evals.models.prompting import AUTO_START, Prompting
from evals.models.request_cache import request_key

if TYPE_CHECKING:
    from lm_eval.api.model import LM

Backend = Literal["hf", "vllm"]
Precision = Literal["auto", "bf16", "fp32"]

_FALLBACK_BATCH = 8


def dtype_name(precision: Precision) -> str:
    """Return the name of the weights' data type; the hardware is asked only for "auto"."""
    if precision != "auto":
        return {"bf16": "bfloat16", "fp32": "float32"}[precision]
    from cpt.models.packed_model import resolve_precision

    return str(resolve_precision(precision)).removeprefix("torch.")


def check_backend(backend: Backend, start_token: str | None) -> None:
    """Raise for a backend that cannot be used here.

    Raises:
        UsageError: vLLM is not installed, or cannot put the start token before texts.
    """
    if backend != "vllm":
        return
    if importlib.util.find_spec("vllm") is None:
        raise UsageError(
            "the backend vllm is not installed", hint='Install it with: pip install "cpt-workbench[vllm]"'
        )
    if start_token != AUTO_START:
        raise UsageError(
            "the backend vllm puts before texts what the tokenizer itself puts there, no other start token",
            hint=f"Use the start token {AUTO_START}, or the backend hf.",
        )


def load(
    backend: Backend,
    folder: Path,
    prompting: Prompting,
    *,
    dtype: str,
    start_token: str | None,
    batch_tokens: int | None,
    on_progress: Callable[[int, int], None] | None,
    on_message: Callable[[str], None],
) -> LM:
    """Load a model as lm-eval uses it, with a set `truncated` of the keys of requests that lost their
    beginning.

    Args:
        backend: Library that computes.
        folder: Model folder.
        prompting: Tokenizer and start token of the model.
        dtype: Name of the weights' data type.
        start_token: Start token as the user named it.
        batch_tokens: Number of tokens that go through the model at once.
        on_progress: Function of the requests done and of all requests.
        on_message: Function of a line of text for people.
    """
    if backend == "vllm":
        return _vllm(folder, dtype)
    try:
        return _packed(folder, prompting, dtype, batch_tokens, on_progress)
    except StageFailed as error:
        if start_token != AUTO_START:
            raise
        on_message(f"{error.message}: read by lm-eval's own class, padded and slower")
        return _padded(folder, dtype, error)


def _packed(
    folder: Path,
    prompting: Prompting,
    dtype: str,
    batch_tokens: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> LM:
    import torch

    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model
    from evals.models.language_model import PackedLM

    model = load_model(folder, getattr(torch, dtype))
    model.to(best_device())
    return PackedLM(
        PackedLanguageModel(model),
        prompting.tokenizer,
        start_token=prompting.start,
        end_token=prompting.end,
        on_progress=on_progress,
        batch_tokens=batch_tokens,
    )


def _padded(folder: Path, dtype: str, packing: StageFailed) -> LM:
    from lm_eval.models.huggingface import HFLM

    from cpt.models.packed_model import best_device, require_finite, sample_answers

    try:
        padded: LM = _recording_truncation(HFLM)(
            pretrained=str(folder),
            dtype=dtype,
            batch_size=_FALLBACK_BATCH,
            device=str(best_device()),
        )
    except Exception as error:  # the first reason says more than the error of the second class
        raise packing from error
    if not getattr(padded.model.config, "is_encoder_decoder", False):
        require_finite(padded.model, sample_answers(padded.model), folder)
    return padded


def _vllm(folder: Path, dtype: str) -> LM:
    from lm_eval.models.vllm_causallms import VLLM

    return _recording_truncation(VLLM)(pretrained=str(folder), dtype=dtype, batch_size="auto")


def _recording_truncation(kind: Any) -> Any:
    """Return one of lm-eval's model classes that also records the requests that it truncates."""

    class Recording(kind):
        def __init__(self, **options: Any) -> None:
            self.truncated: set[str] = set()
            super().__init__(**options)

        def _loglikelihood_tokens(self, requests: Any, *args: Any, **options: Any) -> Any:
            for text, context, rest in requests:
                if text is not None and len(context) + len(rest) > self.max_length + 1:
                    self.truncated.add(request_key("loglikelihood", text))
            return super()._loglikelihood_tokens(requests, *args, **options)

        def generate_until(self, requests: Any, *args: Any, **options: Any) -> Any:
            for request in requests:
                context, asked = request.args
                new = asked.get("max_gen_toks", self.max_gen_toks)
                if len(self.tok_encode(context)) > self.max_length - new:
                    self.truncated.add(request_key("generate_until", request.args))
            return super().generate_until(requests, *args, **options)

    return Recording
