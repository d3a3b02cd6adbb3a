"""Latin letters for text of any script, and tokens for such text (TransMI)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from bpe_models import read_json, write_byte_level
from piece_models import (
    OLD_TEXTS,
    encode,
    load,
    random_words,
    save,
    write_toy_unigram,
    write_toy_wordpiece,
    write_unigram,
    write_wordpiece,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from cpt.errors import DataError, StageFailed
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools import transliteration
from tokenizer_tools.embeddings import method
from tokenizer_tools.transfer import plan_transfer
from tokenizer_tools.transliteration import (
    Form,
    Romaniser,
    Transliteration,
    latin_forms,
    speller,
    token_forms,
    transliterate_tokenizer,
)
from tokenizer_tools.unigram_file import read_unigram
from tokenizer_tools.vocabulary import read_vocabulary

LETTERS = dict.fromkeys("abcdefghijklmnopqrstuvwxyz,'<>", -9.0)
PIECES = {
    "▁": -3.0,
    **LETTERS,
    **dict.fromkeys("дамиртноδα", -12.0),
    "▁да": -5.0,  # "da", as Greek below
    "▁δα": -7.0,
    "да": -6.0,
    "▁мир": -8.0,
    "▁ти": -8.5,  # "ti"; "ty" in Ukrainian
    "▁no": -6.0,
    "▁но": -4.0,  # "no", a piece already
    "ъ": -9.0,  # nothing at all
    "ж": -30.0,  # "zh", dearer than "z" and "h"
    "、": -8.0,  # ", ", a piece already but for the white space
}
TEXTS = ["da mir, net no damir", "add a tin to the mirror", "да мир δα", "zh < mask> <mask>", "naïve ☃ 漢字"]


def transliterated(folder: Path, **settings: Any) -> tuple[Path, Transliteration]:
    output = folder.parent / "latin"
    return output, transliterate_tokenizer(folder, output, **settings)


# Forms


def test_forms_are_the_same_for_every_kind(tmp_path: Path) -> None:
    unigram = read_vocabulary(write_toy_unigram(tmp_path / "u", {"▁мир": -1.0, "мир": -1.0}))
    wordpiece = read_vocabulary(write_toy_wordpiece(tmp_path / "w", ["мир", "##мир", "."]))
    bpe = read_vocabulary(write_byte_level(tmp_path / "b"))
    assert token_forms(unigram) == {1: Form(True, "мир"), 2: Form(False, "мир")}
    assert token_forms(wordpiece) == {1: Form(True, "мир"), 2: Form(False, "мир"), 3: Form(True, ".")}
    for vocabulary in (unigram, wordpiece, bpe):
        spell = speller(vocabulary)
        found = token_forms(vocabulary)
        assert [spell(form) for form in found.values()] == [vocabulary.tokens[token_id] for token_id in found]


def test_latin_forms_are_those_that_are_no_tokens_yet(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(write_toy_unigram(tmp_path, PIECES))
    found = latin_forms(vocabulary, Romaniser().romanise)
    spell = speller(vocabulary)
    ids = {piece: token_id for token_id, (piece, _) in enumerate([("<unk>", 0), *PIECES.items()])}
    assert {spell(form): sources for form, sources in found.items()} == {
        "▁da": [ids["▁да"], ids["▁δα"]],
        "da": [ids["да"]],
        "▁mir": [ids["▁мир"]],
        "▁ti": [ids["▁ти"]],
        "zh": [ids["ж"]],
    }


# Unigram


@pytest.mark.parametrize(("merge", "score"), [("max", -5.0), ("min", -7.0), ("average", -6.0)])
def test_scores_are_the_sources_merged(merge: Any, score: float, tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path / "old", PIECES)
    output, result = transliterated(folder, merge=merge)
    scores = dict(read_unigram(output).pieces)
    assert scores.items() >= PIECES.items()
    assert {token.token: scores[token.token] for token in result.tokens} == {
        "▁da": score,
        "da": -6.0,
        "▁mir": -8.0,
        "▁ti": -8.5,
    }
    rules = {token.token: token.rule for token in result.tokens}
    assert rules.pop("▁da") == merge
    assert set(rules.values()) == {"unique"}


def test_pieces_are_appended_by_falling_score_and_no_id_moves(tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path / "old", {**PIECES, "m": -9.0}, behind=["<mask>"])
    output, result = transliterated(folder)
    before, after = load_tokenizer(folder), load_tokenizer(output)
    old_ids = before.get_vocab(with_added_tokens=True)
    new = {token.token: token.token_id for token in result.tokens}
    assert after.get_vocab(with_added_tokens=True) == {**old_ids, **new}
    assert list(new.values()) == list(range(len(old_ids), len(old_ids) + len(new)))
    scores = dict(read_unigram(output).pieces)
    assert all(scores[left] >= scores[right] for left, right in pairwise(new))
    for token in result.tokens:
        assert [piece.id for piece in after.model.tokenize(token.token)] == [token.token_id]
        assert token.sources


@pytest.mark.parametrize("seed", range(3))
def test_pieces_that_are_left_out_would_never_have_won(seed: int, tmp_path: Path) -> None:
    """The published rule appends them all, "zh" among them; no text is cut otherwise by it."""
    folder = write_toy_unigram(tmp_path / "old", PIECES)
    output, _ = transliterated(folder)
    file = read_unigram(folder)
    published = {"▁da": -5.0, "da": -6.0, "▁mir": -8.0, "▁ti": -8.5, "zh": -30.0}
    ours, theirs = load_tokenizer(output), load(file.extended(published.items()))
    for word in random_words("damirtizh,ж ", count=300, longest=12, seed=seed):
        assert encode(ours, word) == encode(theirs, word)


def test_segmentation_changes_only_where_new_pieces_win(tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path / "old", PIECES, behind=["<mask>"])
    output, result = transliterated(folder)
    before, after, scores = load_tokenizer(folder), load_tokenizer(output), dict(read_unigram(output).pieces)
    new = {token.token for token in result.tokens}
    for word in [*random_words("damirtno", count=300, longest=9, seed=0), *" ".join(TEXTS).split()]:
        old, now = encode(before, word), encode(after, word)
        if new.isdisjoint(now):
            assert old == now
        elif all(piece in scores for piece in old):
            assert sum(map(scores.__getitem__, now)) >= sum(map(scores.__getitem__, old))
    assert encode(after, "da mir") == ["▁da", "▁mir"]


def test_the_language_and_the_limit(tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path / "old", PIECES)
    _, result = transliterated(folder, language="ukr")
    assert "▁ty" in {token.token for token in result.tokens}
    _, result = transliterated(folder, limit=2)
    assert [token.token for token in result.tokens] == ["▁da", "da"]


# WordPiece


def test_wordpiece_gets_forms_at_words_starts_and_within_words(tmp_path: Path) -> None:
    pieces = [*"dami", "##a", "##m", "да", "##да", "мир", "δα", "##、", "Да"]
    output, result = transliterated(write_toy_wordpiece(tmp_path / "old", pieces))
    ids = {piece: token_id for token_id, piece in enumerate(pieces, start=1)}
    assert [(token.token, token.sources) for token in result.tokens] == [
        ("da", (ids["да"], ids["δα"])),
        ("##da", (ids["##да"],)),
        ("mir", (ids["мир"],)),
        ("Da", (ids["Да"],)),
    ]
    assert encode(load_tokenizer(output), "da mirda dam") == ["da", "mir", "##da", "da", "##m"]


def test_forms_that_the_normalizer_changes_are_left_out(tmp_path: Path) -> None:
    """BERT's normalizer writes lower case and takes accents away, so no text has "Da" in it."""
    folder = write_wordpiece(tmp_path / "old", behind=["[MASK]"])
    data = read_json(folder)
    data["model"]["vocab"] |= {"Да": 900, "да": 901}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    _, result = transliterated(folder)
    tokens = {token.token: token.sources for token in result.tokens}
    assert tokens["da"] == (901,)
    assert "Da" not in tokens


# BPE


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    """A byte-level BPE with Russian and English words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=370,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" сердце печень сердечный"] * 3 + OLD_TEXTS, trainer)
    folder = write_byte_level(tmp_path / "old")
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_bpe_reaches_forms_by_merges_of_its_own_tokens(byte_level: Path) -> None:
    output, result = transliterated(byte_level)
    before, after = load_tokenizer(byte_level), load_tokenizer(output)
    new = {token.token: token for token in result.tokens}
    source = before.model.token_to_id(encode(before, " сердце")[0])
    assert new["Ġserdtse"].sources == (source,)
    assert encode(after, " serdtse") == ["Ġserdtse"]
    assert {token.rule for token in result.tokens if not token.sources} == {"part"}
    old_ids = before.get_vocab(with_added_tokens=True)
    assert after.get_vocab(with_added_tokens=True) == {
        **old_ids,
        **{token.token: token.token_id for token in result.tokens},
    }
    for token in result.tokens:
        assert [piece.id for piece in after.model.tokenize(token.token)] == [token.token_id]
    assert result.merges >= len(result.tokens)


def test_bpe_cuts_text_without_new_tokens_as_before(byte_level: Path) -> None:
    output, result = transliterated(byte_level)
    before, after = load_tokenizer(byte_level), load_tokenizer(output)
    new = {token.token for token in result.tokens}
    words = [
        *random_words("serdtspchnyi ", count=400, longest=9, seed=1),
        *" ".join(OLD_TEXTS + TEXTS).split(),
    ]
    changed = 0
    for word in words:
        old, now = encode(before, word), encode(after, word)
        assert len(now) <= len(old)
        assert old == now or not new.isdisjoint(now)
        assert before.decode(before.encode(word).ids) == after.decode(after.encode(word).ids)
        changed += old != now
    assert 0 < changed < len(words)


@pytest.mark.parametrize("limit", [1, 5, 12])
def test_bpes_limit_counts_the_tokens_in_between(limit: int, byte_level: Path) -> None:
    _, result = transliterated(byte_level, limit=limit)
    assert len(result.tokens) <= limit


def test_a_sentencepiece_bpe_that_cuts_no_words_gets_forms_too(tmp_path: Path) -> None:
    tokens = ["<unk>", *"▁милmilca", "▁м", "▁ми", "▁мил", "▁m"]
    merges = [("▁", "м"), ("▁м", "и"), ("▁ми", "л"), ("▁", "m")]
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])
    folder = save(tokenizer, tmp_path / "old", unk_token="<unk>")
    output, result = transliterated(folder)
    assert [(token.token, token.sources) for token in result.tokens] == [
        ("▁mi", (ids["▁ми"],)),
        ("▁mil", (ids["▁мил"],)),
    ]
    assert encode(load_tokenizer(output), "mil mi camil") == ["▁mil", "▁mi", "▁", "c", "a", "m", "i", "l"]


# All kinds


@pytest.mark.parametrize("write", [write_unigram, write_wordpiece])
def test_transformers_loads_the_result(write: Any, tmp_path: Path) -> None:
    output, result = transliterated(write(tmp_path / "old"))
    assert result.tokens
    loaded, tokenizer = (
        AutoTokenizer.from_pretrained(output),
        Tokenizer.from_file(str(output / "tokenizer.json")),
    )
    for text in [*TEXTS, *OLD_TEXTS]:
        assert loaded(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text).ids


# Embeddings

ROWS = torch.arange(200.0)[:, None] * torch.tensor([1.0, -0.1, 0.37])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("merge", ["max", "min", "average"])
def test_rows_are_copied_from_the_sources(merge: Any, kind: torch.dtype, tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path / "old", PIECES)
    output, result = transliterated(folder, merge=merge)
    transfer = plan_transfer(folder, output, model=folder)
    transmi = method("transmi")
    rule = transmi.prepare(transfer, transmi.parameters.model_validate({"merge": merge}))
    matrix_VH = ROWS[: len(PIECES) + 1].to(kind)
    rows_NH = rule(matrix_VH, "input")
    assert rows_NH.dtype == kind
    by_id = dict(zip(transfer.new.tolist(), rows_NH, strict=True))
    for token in result.tokens:
        high, low = token.sources[0], token.sources[-1]
        expected = {
            "max": matrix_VH[high],
            "min": matrix_VH[low],
            "average": ((matrix_VH[high].float() + matrix_VH[low].float()) / 2).to(kind),
        }[merge]
        assert torch.equal(by_id[token.token_id], expected)


def test_tokens_without_a_source_get_the_mean_of_their_pieces(byte_level: Path) -> None:
    output, result = transliterated(byte_level)
    transfer = plan_transfer(byte_level, output, model=byte_level)
    transmi, mean = method("transmi"), method("subtoken-mean")
    matrix_V1 = torch.randn(len(transfer.source.tokens), 1, generator=torch.Generator().manual_seed(0))
    rows = transmi.prepare(transfer, transmi.parameters())(matrix_V1, "bias")
    means = mean.prepare(transfer, mean.parameters())(matrix_V1, "bias")
    sources = {token.token_id: token.sources for token in result.tokens}
    assert any(not ids for ids in sources.values())
    for token_id, row, average in zip(transfer.new.tolist(), rows, means, strict=True):
        expected = matrix_V1[min(sources[token_id])] if sources[token_id] else average
        assert torch.allclose(row, expected)


def test_the_language_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path / "old", PIECES)
    output, result = transliterated(folder, language="ukr")
    transfer = plan_transfer(folder, output, model=folder)
    transmi = method("transmi")
    rule = transmi.prepare(transfer, transmi.parameters.model_validate({"language": "ukr"}))
    (token,) = (token for token in result.tokens if token.token == "▁ty")
    row = rule(ROWS[: len(PIECES) + 1], "tied")[transfer.new.tolist().index(token.token_id)]
    assert torch.equal(row, ROWS[token.sources[0]])


def test_a_tokenizer_that_cannot_get_new_tokens_is_refused(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path / "old")
    data = read_json(folder)
    data["model"]["dropout"] = 0.1
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="dropout"):
        transliterated(folder)


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("Привет, мир!", "Privet, mir!"),
        ("Ελλάδα", "Ellada"),
        ("한국어", "hangugeo"),
        ("हिन्दी", "hindii"),
        ("日本", "riben"),
        ("naïve Straße", "naive Strasse"),
        ("ъ", ""),
        ("", ""),
    ],
)
def test_scripts_become_latin(text: str, latin: str) -> None:
    assert Romaniser().romanise(text) == latin


def test_ascii_and_white_space_stay_as_they_are() -> None:
    text = "".join(map(chr, range(128))) + "\u00a0 \u3000\n\n  x\t"
    assert Romaniser().romanise(text) == text


def test_the_language_settles_how_letters_are_read() -> None:
    assert Romaniser().romanise("Київ, ти") == "Kiyiv, ti"
    assert Romaniser("ukr").romanise("Київ, ти") == "Kyiv, ty"
    assert Romaniser().romanise("Київ, ти") == "Kiyiv, ti"


def test_words_are_read_as_in_a_text_of_their_own() -> None:
    text = "Эти люди рождаются свободными и равными в своём достоинстве и правах.\nवे तर्क और अन्तरात्मा"
    romaniser = Romaniser()
    assert romaniser.romanise(text) == romaniser.romanise(text)
    assert romaniser.romanise(text).split() == [romaniser.romanise(word) for word in text.split()]


def test_a_missing_uroman_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transliteration, "find_spec", lambda name: None)
    transliteration._uroman.cache_clear()
    transliteration._word_romaniser.cache_clear()
    with pytest.raises(StageFailed, match=r"pip install 'cpt-workbench\[transliterate\]'"):
        Romaniser()
