"""Documents with too many listed words go; the list is the user's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import reason

from cpt.corpus.blocks.toxicity import Toxicity
from cpt.errors import CptError


@pytest.fixture
def listed(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("Fool\nutter fool\n\n馬鹿\nC++\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("You fool!", "1 of 2 words, first: fool"),
        ("An UTTER  fool, he said: FOOL.", "3 of 6 words, first: utter fool"),
        ("You foolish man, fools!", None),
        ("これは馬鹿だ", "2 of 6 words, first: 馬 鹿"),
        ("Clean text.", None),
        ("...", None),
    ],
)
def test_words_and_phrases(listed: str, text: str, detail: str | None) -> None:
    assert reason(Toxicity(words=listed), text) == detail


def test_the_share_is_of_all_words(listed: str) -> None:
    text = "The fool in the play speaks the truth to his king."  # 1 of 11 words
    assert reason(Toxicity(words=listed), text) == "1 of 11 words, first: fool"
    assert reason(Toxicity(words=listed, max_share=1 / 11), text) is None
    assert reason(Toxicity(words=listed, max_share=0.09), text) is not None


def test_the_list_is_part_of_the_fingerprint(listed: str) -> None:
    assert Toxicity(words=listed).files() == [listed]


def test_a_list_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n...\n")
    (tmp_path / "latin.txt").write_bytes(b"f\xfcr\n")
    for name, message in {
        "empty.txt": "without any word",
        "latin.txt": "not UTF-8",
        "missing.txt": "missing.txt",
        ".": "folder",
    }.items():
        with pytest.raises(CptError, match=message):
            Toxicity(words=str(tmp_path / name)).prepare()
