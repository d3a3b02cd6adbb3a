"""HellaSwag: how a scene or an instruction goes on (Zellers et al. 2019, arXiv:1905.07830)."""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source

_LINES = 6
_BEGUN = re.compile(r'(?<=[.!?"]) +(?=[a-z][^.!?]*$)')
"""Where the sentence that is to be gone on with begins: in small letters, and without an end."""


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of Rowan/hellaswag: activity_label, ctx_a, ctx_b, endings, label.

    The file has six lines an item: label and context, the right ending's index, four endings; markup is
    taken out as lm-eval does. Where the context's last sentence is only begun, that is `ctx_b`.
    """
    del part
    file = files["validation"]
    lines = bz2.decompress(file.read_bytes()).decode("utf-8").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if len(lines) % _LINES:
        raise DataError(f"{file}: {len(lines)} lines are not {_LINES} for each item")
    return {"validation": [_row(lines[at : at + _LINES]) for at in range(0, len(lines), _LINES)]}


def _row(lines: list[str]) -> dict[str, object]:
    (whole, right), endings = lines[:2], lines[2:]
    activity, colon, context = whole.partition(": ")
    if not colon or right not in {"0", "1", "2", "3"}:
        raise DataError(f"not the first two lines of an item: {whole!r}, {right!r}")
    begun = _BEGUN.search(context)
    scene, rest = (context[: begun.start()], context[begun.end() :]) if begun else (context, "")
    return {"activity_label": activity, "ctx_a": scene, "ctx_b": rest, "endings": endings, "label": right}


SOURCE = Source(
    name="hellaswag",
    title="HellaSwag",
    licence="MIT",
    origin="https://github.com/klosax/hellaswag_text_data; Zellers et al. 2019, arXiv:1905.07830",
    files={"validation": "hellaswag_val_full.txt.bz2"},
    read=read,
)
