"""The names of the sources of a corpus, which probes, gates, limits and reports use as well."""

from __future__ import annotations

DOMAIN = "domain"
"""Text of the new domain: trained on, and a part of it held out."""

REPLAY = "replay"
"""Text like that of the base model's training, mixed into training against forgetting."""

GENERAL = "general"
"""Held-out general text: never trained on, read by the probe of forgetting."""

DOCUMENTS = "documents"
"""Part of a domain with study documents that is its own documents."""

READING, QUESTIONS, SHUFFLED = "reading", "questions", "shuffled"
STUDY = (READING, QUESTIONS, SHUFFLED)
"""Parts that are made of them: passages with tasks, questions alone, sentences in another order."""

PART = "."
"""Separator of a source's name and the name of a part of it: replay.books."""

WITHOUT_LOSS = "tokens_without_loss"
"""Key of a source with loss weights: number of its tokens whose weight is 0."""
