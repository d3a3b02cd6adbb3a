"""Labels by the likelihood of their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Likelihoods = Sequence[tuple[float, bool]]
"""Of every choice: log-likelihood in nats, and whether it is what the model would write."""


def by_label(doc: Mapping[str, Any], results: Likelihoods) -> dict[str, Any]:
    """The likeliest of the choices against the right one (index in `gold`)."""
    return _scores(doc["gold"], results)


def by_stance(doc: Mapping[str, Any], results: Likelihoods) -> dict[str, Any]:
    """The likeliest of the choices against the right one (index in `label`)."""
    return _scores(doc["label"], results)


def by_tag(doc: Mapping[str, Any], results: Likelihoods) -> dict[str, Any]:
    """The same for headlines, with the tag that an item is about."""
    scores = _scores(doc["gold"], results)
    return {"acc": scores["acc"], "mean_weighted_f1": (doc["label_type"], *scores["weighted_f1"])}


def one_tag_of_each_headline(docs: Any) -> Any:
    """Examples in an order that takes the first tag of the first headline, the second of the second …

    In the data all tags of a headline follow each other, so that the first few examples would be of one.
    """
    headlines = {text: number for number, text in enumerate(dict.fromkeys(docs["text"]))}
    tags = {tag: number for number, tag in enumerate(dict.fromkeys(docs["label_type"]))}
    places = [
        ((tags[tag] - headlines[text]) % len(tags), headlines[text])
        for text, tag in zip(docs["text"], docs["label_type"], strict=True)
    ]
    return docs.select(sorted(range(len(places)), key=places.__getitem__))


def _scores(gold: int, results: Likelihoods) -> dict[str, Any]:
    predicted = int(np.argmax([likelihood for likelihood, _ in results]))
    return {"acc": float(predicted == gold), "weighted_f1": (int(gold), predicted)}
