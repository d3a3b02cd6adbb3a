"""Score summaries as Golden Touchstone does: ROUGE of jieba's words and BLEU-4 of characters."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu  # type: ignore[import-untyped]

try:
    import jieba  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from rouge_chinese import Rouge  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:
    raise ImportError(
        "summaries of Golden Touchstone are scored with jieba and rouge-chinese, which are not installed; "
        'install them with: pip install "cpt-workbench[touchstone]"'
    ) from None

jieba.setLogLevel(logging.WARNING)

_ROUGE = {"rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l"}


def rouge_and_bleu(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score a summary by the F1 of ROUGE-1, ROUGE-2 and ROUGE-L, by BLEU-4, and by the mean of the four."""
    wanted, written = str(doc["output"]), results[0]
    scores = {**_rouge(wanted, written), "bleu": _bleu(wanted, written)}
    return {"rouge_bleu": sum(scores.values()) / len(scores), **scores}


def _rouge(wanted: str, written: str) -> dict[str, float]:
    right, found = (" ".join(jieba.cut(text)) for text in (wanted, written))
    if not right.split() or not found.split():
        return dict.fromkeys(_ROUGE, 0.0)
    [scores] = Rouge().get_scores(found, right)
    return {name: float(scores[theirs]["f"]) for name, theirs in _ROUGE.items()}


def _bleu(wanted: str, written: str) -> float:
    smoothing = SmoothingFunction().method3
    return float(sentence_bleu([list(wanted)], list(written), smoothing_function=smoothing))
