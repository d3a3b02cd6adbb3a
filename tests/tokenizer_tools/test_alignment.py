"""Alignment of token ids with another tokenizer's tokens of the same text, on hostile text and every kind."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from piece_models import write_unigram
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from vocabulary_kinds import KINDS, add_tokens, byte_level, save, sentence_piece_bpe, unigram, word_piece

from tokenizer_tools.alignment import Aligner, Alignment
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

MARK = "▁ is a space to some"
HOSTILE = [
    "the heart of the matter is the heart; the hearts of others",
    " leading space, the end ",
    "  two leading  and   three",
    "naïve façade — 心臓 and 心",
    "👩‍⚕️ said: the 🫀 heart",
    "\n\n\tindented\n    the code = 'x'\n",
    "e\u0301 ﬁ Ångström ²",
    "a",
    " ",
    "<0x41> and <s> and </s>",
    "\x00\x07\x1f",
    "thethethe" * 9,
    MARK,
]


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Vocabulary]:
    folder = tmp_path_factory.mktemp("kinds")
    found = {name: read_vocabulary(write(folder / name)) for name, write in KINDS.items()}
    found["byte-level, longer"] = read_vocabulary(byte_level(folder / "longer", size=420))
    found["byte-level, space first"] = read_vocabulary(byte_level(folder / "space", add_prefix_space=True))
    found["Metaspace first"] = read_vocabulary(sentence_piece_bpe(folder / "first", scheme="first"))
    found["Metaspace never"] = read_vocabulary(sentence_piece_bpe(folder / "never", scheme="never"))
    found["Unigram of bytes"] = read_vocabulary(write_unigram(folder / "bytes", byte_fallback=True))
    found["Unigram, white space"] = read_vocabulary(unigram(folder / "xlmr", white_space_split=True))
    return found


NAMES = [
    *KINDS,
    "byte-level, longer",
    "byte-level, space first",
    "Metaspace first",
    "Metaspace never",
    "Unigram of bytes",
    "Unigram, white space",
]


def random_texts(count: int) -> list[str]:
    """Words, runs of white space, characters of one to four bytes, combining ones, and spelt tokens."""
    draw = random.Random(7)
    parts = [
        "the",
        "heart",
        "s",
        "ing",
        "x",
        " ",
        "  ",
        "\n",
        "\t",
        "é",
        "e\u0301",
        "ﬁ",
        "心",
        "🫀",
        "\u200d",
    ]
    parts += ["▁", "<0x41>", "</s>", "\u00a0", "A", "12", ",", "##s", "\x00"]
    return ["".join(draw.choices(parts, k=draw.randint(1, 14))) for _ in range(count)]


EXACT = {"byte-level BPE", "byte-level, longer", "SentencePiece BPE", "Metaspace never"}
"""Tokenizers that keep every byte of every text."""


def encode(vocabulary: Vocabulary, text: str) -> np.ndarray:
    return np.array(vocabulary.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.uint32)


def spelt(vocabulary: Vocabulary, ids: np.ndarray) -> bytes:
    surfaces = [vocabulary.surfaces[token_id] for token_id in ids.tolist()]
    return b"".join(b"\xfe" if surface is None else surface for surface in surfaces)


def chunks(student: np.ndarray, found: Alignment) -> list[tuple[np.ndarray, np.ndarray]]:
    """The tokens of both sides of each chunk."""
    ends = zip(found.student_ends.tolist(), found.teacher_ends.tolist(), strict=True)
    return [(student[a:b], found.ids[c:d]) for (a, c), (b, d) in pairwise([(0, 0), *ends])]


def check(student: Vocabulary, teacher: Vocabulary, ids: np.ndarray, found: Alignment) -> None:
    """Chunks follow each other, cover both sides, and spell the same where they say so."""
    parts = chunks(ids, found)
    assert np.concatenate([mine for mine, _ in parts]).tolist() == ids.tolist()
    assert np.concatenate([its for _, its in parts]).tolist() == found.ids.tolist()
    for number, ((mine, its), usable, special) in enumerate(
        zip(parts, found.usable, found.special, strict=True)
    ):
        if not usable:
            continue
        assert len(mine)
        assert len(its)
        if special:
            assert student.surfaces[int(mine[0])] is None
            assert teacher.surfaces[int(its[0])] is None
            continue
        one, other = spelt(student, mine), spelt(teacher, its)
        starts = number == 0 or found.special[number - 1] or found.teacher_ends[number - 1] == 0
        # a space that a tokenizer puts before a text is no text
        assert one == other or (starts and (b" " + one == other or one == b" " + other))


@pytest.mark.parametrize("teacher", NAMES)
@pytest.mark.parametrize("student", NAMES)
def test_chunks_spell_the_same_bytes_on_both_sides(
    vocabularies: dict[str, Vocabulary], student: str, teacher: str
) -> None:
    mine, its = vocabularies[student], vocabularies[teacher]
    documents = [ids for text in HOSTILE + random_texts(40) if len(ids := encode(mine, text))]
    draw = random.Random(1)
    documents += [ids[draw.randrange(len(ids)) :] for ids in documents]  # which begin anywhere
    documents += [ids[: draw.randint(1, len(ids))] for ids in documents]
    for ids, found in zip(documents, Aligner(mine, its).align(documents), strict=True):
        check(mine, its, ids, found)


@pytest.mark.parametrize("teacher", sorted(EXACT))
@pytest.mark.parametrize("student", sorted(EXACT))
def test_nothing_is_left_out_where_both_keep_every_byte(
    vocabularies: dict[str, Vocabulary], student: str, teacher: str
) -> None:
    mine, its = vocabularies[student], vocabularies[teacher]
    texts = [text for text in HOSTILE + random_texts(40) if text.strip(" ") and "▁" not in text]
    for text, found in zip(texts, Aligner(mine, its).align([encode(mine, t) for t in texts]), strict=True):
        assert found.usable.all(), text
        if teacher == "SentencePiece BPE" != student:  # which itself puts a space before each text
            text = text.removeprefix(" ")
        assert found.ids.tolist() == encode(its, text).tolist()


def brute_force(mine: list[bytes], its: list[bytes]) -> list[tuple[int, int]]:
    """Every pair of numbers of tokens after which both have read the same bytes."""
    read = [[b"".join(tokens[:i]) for i in range(1, len(tokens) + 1)] for tokens in (mine, its)]
    return [
        (i + 1, j + 1) for i, one in enumerate(read[0]) for j, other in enumerate(read[1]) if one == other
    ]


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != " "])
def test_chunks_are_the_shortest(vocabularies: dict[str, Vocabulary], text: str) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies["byte-level, longer"]
    ids = encode(mine, text)
    (found,) = Aligner(mine, its).align([ids])
    surfaces = [
        [vocabulary.surfaces[i] or b"" for i in tokens.tolist()]
        for vocabulary, tokens in ((mine, ids), (its, found.ids))
    ]
    ends = zip(found.student_ends.tolist(), found.teacher_ends.tolist(), strict=True)
    assert list(ends) == brute_force(*surfaces)


def test_the_same_tokenizer_gives_a_chunk_for_each_token(vocabularies: dict[str, Vocabulary]) -> None:
    for name in sorted(EXACT):
        vocabulary = vocabularies[name]
        for text in HOSTILE:
            (found,) = Aligner(vocabulary, vocabulary).align([ids := encode(vocabulary, text)])
            assert found.ids.tolist() == ids.tolist()
            if text != " ":  # which may be the tokenizer's own
                assert found.student_ends.tolist()[-1] == len(ids)
                assert len(found.student_ends) >= len(ids) - 1


def framed(
    vocabulary: Vocabulary, text: str, start: str | None = "<s>", end: str | None = "</s>"
) -> np.ndarray:
    ids = encode(vocabulary, text).tolist()
    before, after = ([] if token is None else [vocabulary.special[token]] for token in (start, end))
    return np.array([*before, *ids, *after], dtype=np.uint32)


def pair(mine: Vocabulary, its: Vocabulary, token: str) -> tuple[int, int]:
    return mine.special[token], its.special[token]


@pytest.mark.parametrize("teacher", ["byte-level, longer", "SentencePiece BPE", "Unigram"])
@pytest.mark.parametrize("student", ["byte-level BPE", "Metaspace first", "Unigram of bytes"])
def test_start_and_end_are_chunks_of_their_own(
    vocabularies: dict[str, Vocabulary], student: str, teacher: str
) -> None:
    mine, its = vocabularies[student], vocabularies[teacher]
    ids = framed(mine, "the heart")
    start, end = pair(mine, its, "<s>"), pair(mine, its, "</s>")
    (found,) = Aligner(mine, its, start=start, end=end).align([ids])
    check(mine, its, ids, found)
    assert found.usable.all()
    assert np.flatnonzero(found.special).tolist() == [0, len(found.special) - 1]
    assert (found.ids[0], found.ids[-1]) == (start[1], end[1])
    assert found.ids[1:-1].tolist() == encode(its, "the heart").tolist()


def test_a_token_that_starts_and_ends_has_two_counterparts(vocabularies: dict[str, Vocabulary]) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies["SentencePiece BPE"]
    one = mine.special["</s>"]
    ids = framed(mine, "the heart", "</s>", "</s>")
    aligner = Aligner(mine, its, start=(one, its.special["<s>"]), end=(one, its.special["</s>"]))
    whole, alone = aligner.align([ids, ids[:1]])
    assert whole.ids[[0, -1]].tolist() == [its.special["<s>"], its.special["</s>"]]
    assert alone.ids.tolist() == [its.special["<s>"]]


def test_a_special_token_without_counterpart_is_left_out_and_the_text_goes_on(
    vocabularies: dict[str, Vocabulary], tmp_path: Path
) -> None:
    mine = read_vocabulary(add_tokens(byte_level(tmp_path / "mine"), "<|tool|>", special=True))
    its = vocabularies["byte-level, longer"]
    tool = mine.special["<|tool|>"]
    ids = np.concatenate([encode(mine, "the heart"), [tool], encode(mine, " of the")])
    (found,) = Aligner(mine, its, start=(0, None)).align([ids])
    check(mine, its, ids, found)
    assert found.usable.tolist() == (~found.special).tolist()
    assert found.ids.tolist() == [*encode(its, "the heart"), *encode(its, " of the")]


def test_a_teacher_without_start_token_reads_the_text_alone(vocabularies: dict[str, Vocabulary]) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies["byte-level, longer"]
    ids = framed(mine, "the heart", end=None)
    (found,) = Aligner(mine, its, start=(int(ids[0]), None)).align([ids])
    assert found.ids.tolist() == encode(its, "the heart").tolist()
    assert found.usable.tolist() == [False] + [True] * (len(found.usable) - 1)


def test_added_special_tokens_of_one_content_are_blocks_within_a_text(tmp_path: Path) -> None:
    mine, its = (
        read_vocabulary(add_tokens(write(tmp_path / name), "<|user|>", special=True))
        for name, write in (("mine", byte_level), ("its", sentence_piece_bpe))
    )
    user = mine.special["<|user|>"]
    ids = np.concatenate([[user], encode(mine, "the"), [user], encode(mine, "heart")])
    (found,) = Aligner(mine, its).align([ids])
    check(mine, its, ids, found)
    assert found.usable.all()
    places = np.flatnonzero(found.ids == its.special["<|user|>"])
    assert places.tolist() == (found.teacher_ends[found.special] - 1).tolist()


@pytest.mark.parametrize(("scheme", "space"), [("first", False), ("always", True), ("prepend", True)])
def test_a_text_after_a_special_token_has_a_space_before_it_where_the_tokenizer_puts_one(
    vocabularies: dict[str, Vocabulary], tmp_path: Path, scheme: str, space: bool
) -> None:
    mine = vocabularies["byte-level BPE"]
    its = read_vocabulary(sentence_piece_bpe(tmp_path, scheme=scheme))
    end = mine.special["</s>"]
    ids = np.concatenate([encode(mine, "the"), [end], encode(mine, "the")])
    (found,) = Aligner(mine, its).align([ids])
    assert found.usable.all()
    after = found.ids[found.ids.tolist().index(its.special["</s>"]) + 1 :]
    assert spelt(its, after) == (b" the" if space else b"the")


@pytest.mark.parametrize(("scheme", "text"), [("first", " heart"), ("always", "heart")])
def test_a_space_that_the_student_put_after_a_special_token_is_no_text(
    vocabularies: dict[str, Vocabulary], tmp_path: Path, scheme: str, text: str
) -> None:
    mine, its = read_vocabulary(sentence_piece_bpe(tmp_path, scheme=scheme)), vocabularies["byte-level BPE"]
    tokens = ["▁the", "</s>", "▁heart"]
    ids = np.array([mine.tokens.index(token) for token in tokens])
    (found,) = Aligner(mine, its).align([ids])
    assert found.ids.tolist() == [*encode(its, "the"), its.special["</s>"], *encode(its, text)]
    assert found.usable.all()


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize("teacher", ["byte-level, longer", "SentencePiece BPE", "Unigram of bytes"])
def test_a_document_cut_within_characters_keeps_what_is_whole(
    vocabularies: dict[str, Vocabulary], teacher: str, cut: int
) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies[teacher]
    ids = encode(mine, "心 the 🫀 heart")
    documents = [part for part in (ids[:cut], ids[cut:]) if len(part)]
    for document, found in zip(documents, Aligner(mine, its).align(documents), strict=True):
        check(mine, its, document, found)
        text = spelt(mine, document).decode(errors="ignore")
        assert spelt(its, found.ids).decode().removeprefix(" ") == text.removeprefix(" ")
        left_out = [
            mine for (mine, _), ok in zip(chunks(document, found), found.usable, strict=True) if not ok
        ]
        cut = spelt(mine, document).removeprefix(text.encode()).removesuffix(text.encode())
        assert b"".join(spelt(mine, tokens) for tokens in left_out) == cut


def test_bytes_that_are_no_text_are_left_out(vocabularies: dict[str, Vocabulary]) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies["SentencePiece BPE"]
    broken = [mine.surfaces.index(b"a"), mine.surfaces.index(b"\xff"), mine.surfaces.index(b"b")]
    (found,) = Aligner(mine, its).align([np.array(broken)])
    assert not found.usable.any()
    assert not len(found.ids)


def test_text_that_the_teacher_changes_is_left_out_and_the_rest_is_not(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(byte_level(tmp_path / "mine", size=420) / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    mine, its = (read_vocabulary(folder) for folder in (tmp_path / "mine", save(tokenizer, tmp_path / "its")))
    ids = encode(mine, "the Heart of ﬁ the matter")
    (found,) = Aligner(mine, its).align([ids])
    check(mine, its, ids, found)
    parts = chunks(ids, found)
    left_out = b"".join(spelt(mine, own) for (own, _), ok in zip(parts, found.usable, strict=True) if not ok)
    kept = b"".join(spelt(mine, own) for (own, _), ok in zip(parts, found.usable, strict=True) if ok)
    assert b"H" in left_out
    assert "ﬁ".encode() in left_out
    assert kept.startswith(b"the")
    assert kept.endswith(b" the matter")


def test_characters_that_a_side_does_not_know_are_left_out(vocabularies: dict[str, Vocabulary]) -> None:
    plain, knows_few = vocabularies["byte-level BPE"], vocabularies["Unigram"]
    text = "the 🫀 heart"
    for mine, its in ((plain, knows_few), (knows_few, plain)):
        ids = encode(mine, text)
        (found,) = Aligner(mine, its).align([ids])
        check(mine, its, ids, found)
        assert found.usable[0]
        assert found.usable[-1]
        assert not found.usable.all()


def test_a_document_of_one_token(vocabularies: dict[str, Vocabulary]) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies["byte-level, longer"]
    found = Aligner(mine, its).align([encode(mine, "a"), np.array([mine.special["</s>"]])])
    assert [(each.ids.tolist(), each.usable.tolist()) for each in found] == [
        (encode(its, "a").tolist(), [True]),
        ([its.special["</s>"]], [True]),
    ]
    assert Aligner(mine, its).align([]) == []


def test_what_the_teacher_cannot_read_has_no_chunks(vocabularies: dict[str, Vocabulary]) -> None:
    mine, its = vocabularies["byte-level BPE"], vocabularies["byte-level, longer"]
    ids = encode(mine, HOSTILE[0])
    (whole,), (short,) = (Aligner(mine, its, longest=longest).align([ids]) for longest in (None, 5))
    assert short.ids.tolist() == whole.ids[:5].tolist()
    count = len(short.teacher_ends)
    assert short.teacher_ends.tolist() == whole.teacher_ends[:count].tolist()
    assert whole.teacher_ends[count] > 5


@pytest.mark.parametrize("name", NAMES)
def test_boundaries_are_special_tokens_and_those_that_begin_with_white_space(
    vocabularies: dict[str, Vocabulary], name: str
) -> None:
    vocabulary = vocabularies[name]
    boundaries = set(Aligner(vocabulary, vocabulary).student_boundaries.tolist())
    expected = {
        token_id
        for token_id, surface in enumerate(vocabulary.surfaces)
        if (surface or b"x")[:1] in (b" ", b"\n", b"\t") or token_id in vocabulary.special.values()
    }
    assert boundaries == expected


def test_a_word_piece_teacher_spells_words_with_a_space(tmp_path: Path) -> None:
    mine, its = read_vocabulary(byte_level(tmp_path / "mine")), read_vocabulary(word_piece(tmp_path / "its"))
    ids = encode(mine, "the heart of a heart")
    (found,) = Aligner(mine, its).align([ids])
    check(mine, its, ids, found)
    assert found.usable.all()


def test_white_space_cut_off_by_a_pre_tokenizer_is_left_out(tmp_path: Path) -> None:
    mine = read_vocabulary(byte_level(tmp_path / "mine"))
    tokenizer = Tokenizer.from_file(str(unigram(tmp_path / "its") / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    its = read_vocabulary(save(tokenizer, tmp_path / "its"))
    ids = encode(mine, "the  heart\nthe heart")
    (found,) = Aligner(mine, its).align([ids])
    check(mine, its, ids, found)
    assert found.usable[0]
    assert found.usable[-1]
    assert not found.usable.all()
