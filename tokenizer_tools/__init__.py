"""Fit a model's tokenizer to a domain: measure it, change it, and give new tokens their embeddings.

    import tokenizer_tools

    tokenizer_tools.report("org/model", {"domain": texts})
    tokenizer_tools.extend("org/model", texts, "larger", tokens=2000, method="clp")

Texts are an iterable of strings or of paths to files, models are folders or hub ids. No recipe is needed.
"""

from tokenizer_tools.api import ChangedModel, extend, prune, replace, report, train, transliterate
from tokenizer_tools.texts import TextSource

__all__ = [
    "ChangedModel",
    "TextSource",
    "extend",
    "prune",
    "replace",
    "report",
    "train",
    "transliterate",
]
