"""Resolve references to models and data: hub, local path, GGUF file, a file inside a wheel, Python's prose.

A *reference* is one string in a recipe:

    org/name[@revision]                            a model on the Hugging Face hub
    hub:datasets/org/name/path/in/repo[@revision]  one file of a hub repository (or hub:models/...)
    hub:datasets/org/name[@revision]               a whole data set, read by `datasets`
    data/medical.jsonl, models/mine, base.gguf     a local file or folder
    run:NAME, runs/NAME                            the newest model of a run
    data/*.jsonl, data/**/*.md                     the local files that match a pattern
    s3://bucket/folder, https://host/file          files of a store that fsspec reaches
    wheel:NAME==VERSION/path/inside                one file of a wheel on the package index
    python:pydoc_data.topics                       the prose in a module of the standard library

A model's reference is also its tokenizer's; so is one to a tokenizer folder or to a tokenizer's own file
(tokenizer.json, a SentencePiece or tiktoken model, tekken, vocab.txt), which is converted once.

`#sha256=HEX` at the end of a reference to a file pins its content.
"""

from cpt.references.cache import cache_folder
from cpt.references.prose import read_python_prose
from cpt.references.resolve import (
    check,
    fingerprint,
    fingerprints,
    locate,
    require_read,
    resolve_file,
    resolve_files,
    resolve_model,
    resolve_tokenizer,
    unchanged,
)
from cpt.references.syntax import Reference, parse
from cpt.references.wheel import PINNED_SHA256

__all__ = [
    "PINNED_SHA256",
    "Reference",
    "cache_folder",
    "check",
    "fingerprint",
    "fingerprints",
    "locate",
    "parse",
    "read_python_prose",
    "require_read",
    "resolve_file",
    "resolve_files",
    "resolve_model",
    "resolve_tokenizer",
    "unchanged",
]
