"""Planted items are dropped or cut, others stay, and every byte is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from near_copies import unrelated

from cpt.corpus import read_documents
from cpt.corpus.build import check_sums, write_source
from cpt.corpus.decontamination import FILE, Cut, Drop, cut, decontaminate
from cpt.corpus.documents import Document
from cpt.corpus.heldout import Always
from cpt.corpus.index import SourceCounts
from cpt.errors import DataError
from cpt.progress import NullProgress
from evals.item_search import ItemSearch

GENERATOR = np.random.default_rng(0)
QUESTIONS = {str(number): text for number, text in enumerate(unrelated(GENERATOR, 40, 30))}
CLEAN = unrelated(GENERATOR, 40, 300)


def planted(text: str, question: str, every: int = 1) -> str:
    """Return the text with a question, in other case and punctuation, in its middle."""
    middle = text.index(" ", len(text) // 2)
    return f"{text[:middle]}\n{question.replace(' ', ', ').upper()}?\n{text[middle + 1 :]}" * every


def corpus(folder: Path, **texts: list[str]) -> dict[str, SourceCounts]:
    return {
        name: write_source(
            folder,
            name,
            [Document(f"{name}:{place}", text, ended=place % 2 == 0) for place, text in enumerate(documents)],
            Always("train"),
            set(),
        )
        for name, documents in texts.items()
    }


def texts_of(folder: Path, source: str) -> dict[str, str]:
    return {document.id: document.text for document in read_documents(folder, source, "train")}


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]


def test_planted_questions_are_dropped_and_nothing_else(tmp_path: Path) -> None:
    domain = [planted(text, QUESTIONS[str(n)]) if n < 15 else text for n, text in enumerate(CLEAN)]
    sources = corpus(tmp_path, domain=domain, replay=CLEAN[:5])
    before = {name: (counts.documents_in, counts.bytes_in) for name, counts in sources.items()}
    search = ItemSearch({"quiz": QUESTIONS}, 13)
    found, examples = decontaminate(tmp_path, sources, search, Drop(), NullProgress())
    assert set(texts_of(tmp_path, "domain")) == {f"domain:{n}" for n in range(15, 40)}
    assert list(texts_of(tmp_path, "replay").values()) == CLEAN[:5]
    removed = sources["domain"].removed["contaminated"]
    assert (removed.documents, removed.bytes) == (15, sum(len(text.encode()) for text in domain[:15]))
    for name, counts in sources.items():
        check_sums(counts)
        assert (counts.documents_in, counts.bytes_in) == before[name]
    assert sources["domain"].splits["train"].cut == 13  # documents without end stay so
    facts = found.facts(search)
    assert (facts["matches"], facts["listed"]) == (15, 15)
    assert facts["tasks"] == {"quiz": {"items": 40, "too_short": 0, "found": 15}}
    assert (facts["dropped"], facts["cut"]) == ({"domain": 15}, {})
    lines = lines_of(tmp_path)
    assert {(line["document"], line["task"], line["item"]) for line in lines} == {
        (f"domain:{n}", "quiz", str(n)) for n in range(15)
    }
    assert {(line["action"], line["words"]) for line in lines} == {("dropped", 30)}
    shown = list(examples[0])
    assert {(each.block, each.after) for each in shown} == {("contaminated", None)}
    assert shown[0].detail.startswith("30 words of quiz, item ")


def test_matches_are_cut_with_their_margins(tmp_path: Path) -> None:
    text = planted(CLEAN[0], QUESTIONS["0"])
    stretches, _ = ItemSearch({"quiz": QUESTIONS}, 13).matches(text)
    sources = corpus(tmp_path, domain=[text, CLEAN[1]])
    before = sources["domain"].bytes_in
    search = ItemSearch({"quiz": QUESTIONS}, 13)
    found, _ = decontaminate(tmp_path, sources, search, Cut(margin=100), NullProgress())
    left = texts_of(tmp_path, "domain")
    assert left["domain:1"] == CLEAN[1]
    first, second = left["domain:0"].split("\n\n")
    begin, end = stretches[0]
    assert text.startswith(first)
    assert text.endswith(second)
    for lost in (begin - len(first), len(text) - len(second) - end):
        assert 100 <= lost <= 100 + 6  # up to the next white space
    assert set(first.split()) | set(second.split()) <= set(CLEAN[0].split())
    counts = sources["domain"]
    assert counts.removed["contaminated"].documents == 0
    assert counts.removed["contaminated"].bytes == len(text) - len(left["domain:0"])
    assert counts.bytes_in == before
    check_sums(counts)
    assert (dict(found.cut), dict(found.dropped)) == ({"domain": 1}, {})
    assert search.contaminated(list(left.values())) == []


def test_cuts_merge_and_short_pieces_and_dirty_documents_go() -> None:
    text = " ".join(f"{number:04d}" for number in range(200))  # 5 characters a word
    assert cut(text, [], Cut()) == text
    at = [(500, 504), (520, 524)]
    merged = cut(text, at, Cut(margin=10, shortest=1))
    assert merged == f"{text[:489]}\n\n{text[535:]}"
    apart = cut(text, [(500, 504), (600, 604)], Cut(margin=10, shortest=1))
    assert apart == f"{text[:489]}\n\n{text[515:589]}\n\n{text[615:]}"
    assert cut(text, [(500, 504), (600, 604)], Cut(margin=10, shortest=80)) == f"{text[:489]}\n\n{text[615:]}"
    assert cut(text, [(500, 504)], Cut(margin=10, shortest=1000)) == ""
    assert cut(text, [(500, 504), (600, 604)], Cut(margin=10, most=1)) == ""
    assert cut(text, at, Cut(margin=10, most=1)) != ""
    assert cut(text, [(0, 4)], Cut(margin=0, shortest=1)) == text[5:]
    assert cut("x" * 1000, [(500, 504)], Cut(margin=10, shortest=1)) == f"{'x' * 390}\n\n{'x' * 386}"


def test_a_document_of_many_items_is_dropped_even_by_cutting(tmp_path: Path) -> None:
    quiz = "\n".join(f"{QUESTIONS[str(n)]}\n{CLEAN[n]}" for n in range(11))
    sources = corpus(tmp_path, domain=[quiz, CLEAN[20]])
    search = ItemSearch({"quiz": QUESTIONS}, 13)
    found, _ = decontaminate(tmp_path, sources, search, Cut(), NullProgress())
    assert list(texts_of(tmp_path, "domain")) == ["domain:1"]
    assert (found.matches, dict(found.dropped)) == (11, {"domain": 1})
    assert sources["domain"].removed["contaminated"].bytes == len(quiz)


def test_the_list_is_bounded_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.corpus.decontamination.MOST_LISTED", 4)
    sources = corpus(tmp_path, domain=[*(planted(CLEAN[n], QUESTIONS[str(n)]) for n in range(9)), CLEAN[9]])
    search = ItemSearch({"quiz": QUESTIONS}, 13)
    found, _ = decontaminate(tmp_path, sources, search, Drop(), NullProgress())
    assert (len(lines_of(tmp_path)), found.facts(search)["matches"], found.facts(search)["listed"]) == (
        4,
        9,
        4,
    )


def test_clean_text_is_left_as_it_is(tmp_path: Path) -> None:
    sources = corpus(tmp_path, domain=CLEAN)
    file = tmp_path / "documents" / "domain.train.parquet"
    before = file.read_bytes()
    found, _ = decontaminate(tmp_path, sources, ItemSearch({"quiz": QUESTIONS}, 13), Cut(), NullProgress())
    assert (found.matches, lines_of(tmp_path), file.read_bytes()) == (0, [], before)
    assert "contaminated" not in sources["domain"].removed


def test_a_source_of_items_alone_is_refused(tmp_path: Path) -> None:
    sources = corpus(tmp_path, domain=list(QUESTIONS.values()))
    with pytest.raises(DataError, match="domain: all 40 training documents have text of benchmark items"):
        decontaminate(tmp_path, sources, ItemSearch({"quiz": QUESTIONS}, 13), Drop(), NullProgress())


def test_a_document_that_loses_its_end_has_no_end_token_and_what_is_never_rewritten_is_dropped(
    tmp_path: Path,
) -> None:
    late = f"{CLEAN[0]} {QUESTIONS['0']}"
    early = f"{QUESTIONS['1']} {CLEAN[1]}"
    items = [
        Document("late", late),
        Document("early", early),
        Document("chat", f"{early} {CLEAN[2]}", marked=True),
        Document("asked", f"{early} {CLEAN[3]}", loss_weights=((9, 0.0), (len(f"{early} {CLEAN[3]}"), 1.0))),
    ]
    counts = write_source(tmp_path, "domain", items, Always("train"), set())
    search = ItemSearch({"quiz": QUESTIONS}, 13)
    decontaminate(tmp_path, {"domain": counts}, search, Cut(margin=10), NullProgress())
    assert {each.id: each.ended for each in read_documents(tmp_path, "domain", "train")} == {
        "late": False,
        "early": True,
    }
    assert counts.removed["contaminated"].documents == 2
