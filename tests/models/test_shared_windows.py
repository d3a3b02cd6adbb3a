"""Windows that hold the same bytes for every tokenizer."""

import json
import math
import random
from functools import cache

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from cpt.errors import DataError
from cpt.models.bits_per_byte import tokenise_text
from cpt.models.shared_windows import (
    Reader,
    SharedText,
    WindowBytes,
    encoded,
    shared_documents,
    tokenise_shared,
)

LONG = "Die Nieren liegen hinter dem Bauchfell; größere Gefäße führen hin. 腎臓は二つある。 " * 12
TEXTS = [LONG, "The heart of the matter is the heart. " * 20, "naïve façade", "x"]


@cache
def byte_level(size: int) -> Tokenizer:
    """Byte-level BPE; with 256 tokens every byte is one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size + 1, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([LONG] * 3 + TEXTS, trainer)
    return tokenizer


@cache
def words() -> Tokenizer:
    """Words and runs of spaces, each a token."""
    found = {word for text in TEXTS for word in text.split(" ")} | {" "}
    vocabulary = {word: number for number, word in enumerate(["<s>", "<unk>", *sorted(found - {""})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "isolated")
    return tokenizer


@cache
def dropping() -> Tokenizer:
    """Words without the spaces between them, in lower case without accents."""
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@cache
def whole_text() -> Tokenizer:
    """One token for any text."""
    return Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1}, unk_token="<unk>"))


def pieces(text: SharedText, which: int, tokenizer: Tokenizer, original: str) -> list[bytes]:
    """What is scored of the first document in each window, as bytes, for a byte-level tokenizer."""
    found = []
    for ids, context in zip(text.texts[which].windows, text.texts[which].context, strict=True):
        tokens = (tokenizer.id_to_token(int(token)) for token in ids[context:])
        found.append(b"".join(spelt(token) for token in tokens))
    assert original.encode().endswith(b"".join(found))
    return found


@cache
def alphabet() -> dict[str, int]:
    """Byte of each character that stands for one in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


def spelt(token: str | None) -> bytes:
    assert token is not None
    return bytes(alphabet()[character] for character in token)


@pytest.mark.parametrize("start", ["<s>", None])
@pytest.mark.parametrize("overlap", [0, 5])
def test_byte_and_word_tokenizers_score_the_same_stretches(start: str | None, overlap: int) -> None:
    fine, coarse = byte_level(256), byte_level(400)
    text = tokenise_shared([Reader.of(each, 64, start, overlap) for each in (fine, coarse)], [LONG])
    scored = [pieces(text, which, each, LONG) for which, each in enumerate((fine, coarse))]
    assert scored[0] == scored[1]
    assert len(scored[0]) > 10
    assert all(len(window) <= 64 for each in text.texts for window in each.windows)
    assert text.texts[0].bytes.tolist() == text.texts[1].bytes.tolist()
    total = len(b"".join(scored[0]))
    assert text.texts[0].bytes.tolist() == [total]
    assert total == len(LONG.encode()) if start else total > len(LONG.encode()) - 30
    assert text.bytes.unaligned == 0
    for piece in scored[0]:
        piece.decode()  # whole characters


def test_windows_are_the_longest_that_fit() -> None:
    readers = [Reader.of(byte_level(256), 64, "<s>"), Reader.of(words(), 64, "<s>")]
    fine = pieces(tokenise_shared(readers, [LONG]), 0, byte_level(256), LONG)
    stretches = [word.encode() for word in LONG.split(" ")]
    spaced = b" ".join(stretches)
    at = 0
    for piece in fine[:-1]:
        rest = spaced[at + len(piece) :]
        following = 1 if rest.startswith(b" ") else len(rest.split(b" ")[0])
        assert len(piece) <= 63 < len(piece) + following
        at += len(piece)


@pytest.mark.parametrize("start", ["<s>", None])
@pytest.mark.parametrize("size", [8, 16, 1000])
def test_one_tokenizer_is_cut_as_ever(start: str | None, size: int) -> None:
    for tokenizer in (byte_level(256), byte_level(400), words(), dropping()):
        if tokenizer is words() and start is None:
            continue
        expected = tokenise_text(tokenizer, TEXTS, size, start)
        twin = Tokenizer.from_str(tokenizer.to_str())
        for readers in ([tokenizer], [tokenizer, twin]):
            shared = tokenise_shared([Reader.of(each, size, start) for each in readers], TEXTS)
            for found in shared.texts:
                assert [ids.tolist() for ids in found.windows] == [ids.tolist() for ids in expected.windows]
                assert found.context.tolist() == expected.context.tolist()
                assert found.document.tolist() == expected.document.tolist()
                assert found.bytes.tolist() == expected.bytes.tolist()


@pytest.mark.parametrize("start", ["<s>", None])
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_one_tokenizer_with_overlap_is_cut_as_ever(start: str | None, overlap: int) -> None:
    reader = Reader.of(byte_level(400), 16, start, overlap)
    (encoding,) = encoded([reader], [LONG])[0]
    (document,) = shared_documents([reader], [LONG])
    first = 0 if start else 1
    expected = list(reader.windows.cut(np.asarray(encoding.ids), first))
    assert [ids.tolist() for ids, _ in document.windows[0]] == [ids.tolist() for ids, _ in expected]
    assert [context for _, context in document.windows[0]] == [context for _, context in expected]


def test_a_model_whose_loss_depends_only_on_bytes_has_equal_bits_per_byte() -> None:
    tokenizers = (byte_level(256), byte_level(400), words())
    shared = tokenise_shared([Reader.of(each, 40, "<s>") for each in tokenizers], TEXTS)
    levels = []
    for tokenizer, text in zip(tokenizers, shared.texts, strict=True):
        scored = [
            len((tokenizer.id_to_token(int(token)) or "").encode())
            if tokenizer is words()
            else len(spelt(tokenizer.id_to_token(int(token))))
            for ids, context in zip(text.windows, text.context, strict=True)
            for token in ids[context:]
        ]
        levels.append(8 * sum(scored) / text.bytes.sum())
    assert levels == [8.0, 8.0, 8.0]


def test_context_is_the_same_bytes_and_is_recorded() -> None:
    """Brute force: a loss that falls with the bytes before it, which windows in tokens would make unequal."""
    tokenizers = (byte_level(256), byte_level(400))
    means = []
    for tokenizer in tokenizers:
        alone = tokenise_shared([Reader.of(tokenizer, 64, "<s>")], [LONG])
        means.append(alone.bytes.as_json()["mean_context_bytes"])
    assert means[1] > 1.5 * means[0]
    shared = tokenise_shared([Reader.of(each, 64, "<s>", 16) for each in tokenizers], [LONG])
    for which, tokenizer in enumerate(tokenizers):
        before, held, least = [], [], []
        for number, (ids, context) in enumerate(
            zip(shared.texts[which].windows, shared.texts[which].context, strict=True)
        ):
            lengths = [len(spelt(tokenizer.id_to_token(int(token)))) for token in ids[1:]]
            back = sum(lengths[: context - 1])
            before += [back + place for place in range(sum(lengths[context - 1 :]))]
            held.append(sum(lengths))
            least += [back] if number else []
        found = shared.bytes.as_json()
        assert found["mean_context_bytes"] == pytest.approx(np.mean(before))
        assert found["bytes_per_window"] == pytest.approx(np.mean(held))
        assert found["least_context_bytes"] == min(least) > 0
        assert found["unaligned_bytes"] == 0


@pytest.mark.parametrize("start", ["<s>", None])
def test_random_text_loses_nothing(start: str | None) -> None:
    chance = random.Random(3)
    tokenizers = (byte_level(256), byte_level(300), byte_level(400))
    for _ in range(300):
        text = "".join(chance.choices("aeh größ腎臓👩\u0301\n", k=chance.randint(1, 90)))
        size, overlap = chance.randint(10, 40), chance.randint(0, 6)
        readers = [Reader.of(each, size + n, start, overlap) for n, each in enumerate(tokenizers)]
        (document,) = shared_documents(readers, [text])
        if document.size == 0:
            assert start is None
            continue
        spelt_out = [
            [b"".join(spelt(t.id_to_token(int(i))) for i in ids[context:]) for ids, context in windows]
            for t, windows in zip(tokenizers, document.windows, strict=True)
        ]
        assert len({b"".join(each) for each in spelt_out}) == 1
        scored = b"".join(spelt_out[0])
        assert text.encode().endswith(scored)
        assert document.size == len(scored)
        assert start is None or scored == text.encode()
        assert document.bytes.scored == len(scored)
        if document.bytes.unaligned == 0:
            assert spelt_out[0] == spelt_out[1] == spelt_out[2]
        for windows, reader in zip(document.windows, readers, strict=True):
            assert all(1 <= context < len(ids) <= reader.windows.size for ids, context in windows)


@pytest.mark.parametrize("start", ["<s>", None])
def test_segmentations_that_never_meet_are_cut_near_the_same_byte_and_counted(start: str | None) -> None:
    text = "ab" * 100 + "a"
    odd = Tokenizer(models.WordLevel({"<s>": 0, "ab": 1, "a": 2}, unk_token="a"))
    odd.pre_tokenizer = pre_tokenizers.Split(Regex("ab"), "isolated")
    even = Tokenizer(models.WordLevel({"<s>": 0, "ba": 1, "a": 2}, unk_token="a"))
    even.pre_tokenizer = pre_tokenizers.Split(Regex("ba"), "isolated")
    (document,) = shared_documents([Reader.of(each, 10, start, 2) for each in (odd, even)], [text])
    if start is None:  # the first point where both have read as much is the end
        assert document.size == 0
        return
    assert document.size == len(text)
    assert document.bytes.unaligned == len(text)
    ends = []
    for windows, tokenizer in zip(document.windows, (odd, even), strict=True):
        scored = ["".join(tokenizer.id_to_token(int(i)) or "" for i in ids[c:]) for ids, c in windows]
        assert "".join(scored) == text
        assert all(len(ids) <= 10 for ids, _ in windows)
        ends.append(np.cumsum([len(each) for each in scored]))
    assert len(ends[0]) == len(ends[1])
    assert (abs(ends[0] - ends[1]) <= 1).all()


def test_a_token_longer_than_another_models_window() -> None:
    readers = [Reader.of(byte_level(256), 16, "<s>", 4), Reader.of(whole_text(), 16, "<s>", 4)]
    (document,) = shared_documents(readers, [LONG])
    assert document.size == len(LONG.encode()) == document.bytes.unaligned
    assert [len(windows) for windows in document.windows][1] == 1
    assert sum(len(ids) - context for ids, context in document.windows[0]) == document.size


def test_text_that_one_tokenizer_drops_is_counted_for_all() -> None:
    text = tokenise_shared([Reader.of(each, 20, "<s>") for each in (dropping(), byte_level(400))], TEXTS)
    expected = [len(each.encode()) for each in TEXTS]
    assert [each.bytes.tolist() for each in text.texts] == [expected, expected]
    alone = tokenise_shared([Reader.of(dropping(), 20, "<s>")], TEXTS)
    assert alone.texts[0].bytes.sum() < sum(expected)


def test_a_model_without_start_token_decides_what_all_score() -> None:
    readers = [Reader.of(byte_level(256), 32, "<s>"), Reader.of(byte_level(400), 32, None)]
    (document,) = shared_documents(readers, [LONG])
    scored = [
        b"".join(spelt(r.tokenizer.id_to_token(int(i))) for ids, c in windows for i in ids[c:])
        for r, windows in zip(readers, document.windows, strict=True)
    ]
    first = readers[1].tokenizer.encode(LONG).offsets[0][1]
    assert scored == [LONG.encode()[first:]] * 2


def test_a_document_that_one_model_cannot_score_is_left_out_for_all() -> None:
    readers = [Reader.of(byte_level(256), 32, None), Reader.of(whole_text(), 32, "<s>")]
    assert tokenise_shared(readers[1:], ["x", "yz"]).texts[0].bytes.tolist() == [1, 2]
    with pytest.raises(DataError, match="no text to score"):
        tokenise_shared(readers, ["x", "yz"])


def test_window_bytes_add_up() -> None:
    parts = [WindowBytes(2, 30, 25, 100.0, 4), WindowBytes(1, 10, 10, 45.0, None, 10)]
    assert sum(parts, WindowBytes()) == WindowBytes(3, 40, 35, 145.0, 4, 10)
    assert json.loads(json.dumps(WindowBytes().as_json()))["bytes_per_window"] is None
    assert not math.isnan(parts[0].as_json()["mean_context_bytes"])
