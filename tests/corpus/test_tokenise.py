"""A whole corpus folder: every training document can be put together again from the shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from cpt.corpus import TrainingStream, open_source, read_documents, read_index, retokenise
from cpt.corpus import documents as documents_module
from cpt.corpus.build import write_source
from cpt.corpus.document_columns import ListedSources
from cpt.corpus.document_tokenizer import DocumentTokenizer
from cpt.corpus.documents import Document, documents_path
from cpt.corpus.heldout import Always, ByHash
from cpt.corpus.index import CorpusIndex
from cpt.corpus.shards import ShardWriter
from cpt.corpus.texts import former_tokenizer
from cpt.corpus.tokenise import tokenise, tokenizer_sha256
from cpt.errors import DataError
from cpt.models.batch import IGNORED, pack
from cpt.models.tokenizer import load_tokenizer

START, END = 0, 1
LENGTH = 16


@pytest.fixture
def corpus(tmp_path: Path, model_folder: Path) -> Path:
    """Domain documents of 1 to some 80 tokens, with a held-out part and general text."""
    random = np.random.default_rng(1)
    words = ["heart", "fever", "the", "night", "of", "\u00e4rzte", "\u65e5\u672c", "x"]
    documents = [
        Document(
            f"d{number}", f"{number} " + " ".join(random.choice(words, size=int(random.integers(0, 25))))
        )
        for number in range(150)
    ]
    folder, heldout = tmp_path / "corpus", set()
    index = CorpusIndex(sequence_length=LENGTH, start_token="<s>", end_token="</s>", tokenizer="")
    general = [Document(f"g{number}", f"general text {number} " * 4) for number in range(5)]
    index.sources["general"] = write_source(folder, "general", general, Always("heldout"), heldout)
    index.sources["domain"] = write_source(folder, "domain", documents, ByHash(0.1, 17), heldout)
    tokenise(folder, index, model_folder)
    return folder


def stored_pieces(corpus: Path) -> Counter[str]:
    """Every piece of every sequence, with "." if a document ends with it and "..." if it goes on."""
    source = open_source(corpus, "domain")
    pieces: Counter[str] = Counter()
    for number in range(len(source)):
        row = source.sequence(number)
        assert len(row.tokens) <= LENGTH
        for piece in np.split(row.tokens, np.cumsum(row.piece_lengths)[:-1]):
            assert piece[0] == START
            content = piece[1:-1] if piece[-1] == END else piece[1:]
            pieces[f"{content.tolist()}{'.' if piece[-1] == END else '...'}"] += 1
    return pieces


def pieces_of_documents(corpus: Path, model: Path) -> Counter[str]:
    """The same, straight from the documents, by the definition of pieces."""
    tokenizer = load_tokenizer(model)
    pieces: Counter[str] = Counter()
    for document in read_documents(corpus, "domain", "train"):
        tokens, room = tokenizer.encode(document.text, add_special_tokens=False).ids, LENGTH - 1
        assert tokenizer.decode(tokens) == document.text
        while len(tokens) >= room:
            taken = room - 1 if len(tokens) == room else room
            pieces[f"{tokens[:taken]}..."] += 1
            tokens = tokens[taken:]
        pieces[f"{tokens}."] += 1
    return pieces


def test_every_training_document_is_in_the_shards_exactly_once(corpus: Path, model_folder: Path) -> None:
    assert stored_pieces(corpus) == pieces_of_documents(corpus, model_folder)


def test_the_index_counts_what_is_there(corpus: Path, model_folder: Path) -> None:
    index, source = read_index(corpus), open_source(corpus, "domain")
    train, heldout = (index.sources["domain"].splits[side] for side in ("train", "heldout"))
    assert index.tokenizer == tokenizer_sha256(model_folder)
    assert train.tokens == source.sequence_lengths.sum()
    assert train.sequences == len(source)
    assert train.pieces == sum(len(source.sequence(n).piece_lengths) for n in range(len(source)))
    assert train.documents + heldout.documents == index.sources["domain"].documents_in == 150
    assert heldout.sequences == 0
    assert '"sequences"' not in (corpus / "corpus.json").read_text().split('"heldout"')[1].split("}")[0]
    texts = [document.text for document in read_documents(corpus, "domain", "heldout")]
    tokenizer = load_tokenizer(model_folder)
    plain = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    assert heldout.bytes == sum(len(text.encode()) for text in texts)
    assert heldout.tokens == plain + heldout.pieces + heldout.documents
    assert index.bytes_per_token("domain", "heldout") == pytest.approx(heldout.bytes / plain)


def test_held_out_text_is_not_tokenised_to_disk(corpus: Path) -> None:
    assert sorted(path.name for path in (corpus / "tokens").iterdir()) == ["domain"]
    with pytest.raises(DataError, match="no train documents of source 'general'"):
        list(read_documents(corpus, "general", "train"))


def test_retokenise_keeps_documents_and_changes_tokens(
    corpus: Path, model_folder: Path, tmp_path: Path, new_model_folder: Callable[..., Path]
) -> None:
    other = new_model_folder("other", merges=0)
    before, output = read_index(corpus), tmp_path / "again"
    (corpus / "examples.jsonl").write_text("{}\n")
    after = retokenise(corpus, other, output, former=model_folder)
    assert (output / "examples.jsonl").read_text() == "{}\n"
    assert after == read_index(output)
    assert after.tokenizer == tokenizer_sha256(other) != before.tokenizer
    for name, split in (("domain", "train"), ("domain", "heldout"), ("general", "heldout")):
        old, new = documents_path(corpus, name, split), documents_path(output, name, split)
        assert old.samefile(new)
        was, now = before.sources[name].splits[split], after.sources[name].splits[split]
        assert (was.documents, was.bytes) == (now.documents, now.bytes)
        assert now.tokens > was.tokens
    assert after.bytes_per_token("domain", "heldout") == pytest.approx(1.0)
    assert stored_pieces(output) == pieces_of_documents(output, other)
    assert read_index(corpus) == before


def test_retokenise_keeps_the_first_tokenizer_of_all(
    corpus: Path, model_folder: Path, tmp_path: Path, new_model_folder: Callable[..., Path]
) -> None:
    second, third = (new_model_folder(name, merges=merges) for name, merges in (("b", 5), ("c", 0)))
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert former_tokenizer(corpus) is None
    for of, model, output, former in ((corpus, second, once, model_folder), (once, third, twice, second)):
        index = retokenise(of, model, output, former=former)
        assert read_index(output) == index
        assert index.former_start_token == read_index(corpus).start_token
        kept = former_tokenizer(output)
        assert kept is not None
        assert tokenizer_sha256(kept) == read_index(corpus).tokenizer


def test_retokenise_with_the_same_tokenizer_is_bit_equal(
    corpus: Path, tmp_path: Path, model_folder: Path
) -> None:
    retokenise(corpus, model_folder, tmp_path / "again", former=model_folder)
    for path in (corpus / "tokens").rglob("*.npy"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(corpus)).read_bytes()


def test_retokenise_refuses_a_tokenizer_without_the_marks(
    corpus: Path, model_folder: Path, tmp_path: Path, new_model_folder: Callable[..., Path]
) -> None:
    other = new_model_folder("other")
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace("</s>", "</t>"))
    with pytest.raises(DataError, match="no token '</s>'"):
        retokenise(corpus, other, tmp_path / "again", former=model_folder)


def test_a_missing_or_damaged_index_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"corpus\.json: No such file"):
        read_index(tmp_path)
    (tmp_path / "corpus.json").write_text('{"sequence_length": "long"}')
    with pytest.raises(DataError, match="not a corpus index"):
        read_index(tmp_path)


def _replay(folder: Path, model_folder: Path) -> tuple[Path, CorpusIndex]:
    """Replay documents shorter and longer than a sequence: odd ones end, even ones were cut off."""
    documents = [
        Document(f"r{number}", f"{number} " + "fever heart " * (number % 12 + 1), ended=number % 2 == 1)
        for number in range(60)
    ]
    index = CorpusIndex(sequence_length=LENGTH, start_token="<s>", end_token="</s>", tokenizer="")
    index.sources["replay"] = write_source(folder, "replay", documents, Always("train"), set())
    return folder, tokenise(folder, index, model_folder)


def _ends(corpus: Path) -> int:
    source = open_source(corpus, "replay")
    return sum(int((source.sequence(number).tokens == END).sum()) for number in range(len(source)))


def test_only_documents_that_ended_have_the_end_token(tmp_path: Path, model_folder: Path) -> None:
    corpus, index = _replay(tmp_path / "cut", model_folder)
    tokenizer = DocumentTokenizer(model_folder, LENGTH, "<s>", "</s>")
    stored = list(read_documents(corpus, "replay", "train"))
    assert [document.ended for document in stored] == [number % 2 == 1 for number in range(60)]
    for document, pieces in zip(stored, tokenizer.pieces(stored), strict=True):
        assert (pieces[-1][-1] == END) == document.ended
        assert all(END not in piece[:-1] for piece in pieces)
        assert all(piece[-1] != END for piece in pieces[:-1])
    assert _ends(corpus) == 30
    counts = index.sources["replay"].splits["train"]
    assert counts.cut == 30
    text = sum(len(document.text.encode()) for document in stored)
    ids = sum(
        len(load_tokenizer(model_folder).encode(each.text, add_special_tokens=False)) for each in stored
    )
    assert index.bytes_per_token("replay", "train") == text / ids


def _weighted(number: int) -> Document:
    """A document of which some words count 0 or a half, shorter or longer than a sequence."""
    text = f"{number} " + "fever heart " * (number % 12 + 1)
    weights = ((6, 0.0), (11, 0.5), (len(text), 1.0)) if number % 3 else ()
    return Document(f"w{number}", text, marked=True, loss_weights=weights)


def test_weights_follow_their_tokens_through_packing(
    tmp_path: Path, model_folder: Path, new_model_folder: Callable[..., Path]
) -> None:
    documents = [_weighted(number) for number in range(40)]
    index = CorpusIndex(sequence_length=LENGTH, start_token="<s>", end_token="</s>", tokenizer="")
    index.sources["replay"] = write_source(tmp_path / "a", "replay", documents, Always("train"), set())
    assert list(read_documents(tmp_path / "a", "replay", "train")) == documents
    tokenise(tmp_path / "a", index, model_folder)
    other = new_model_folder("other", merges=5)
    retokenise(tmp_path / "a", other, tmp_path / "b", former=model_folder)
    for corpus, model in ((tmp_path / "a", model_folder), (tmp_path / "b", other)):
        _check_weights(corpus, load_tokenizer(model), documents)
        source = open_source(corpus, "replay")
        assert source.has_weights
        counts = read_index(corpus).sources["replay"].splits["train"]
        assert counts.tokens > counts.tokens_without_loss == source.sums[0, 2] > 0
    assert not open_source(_replay(tmp_path / "plain", model_folder)[0], "replay").has_weights


def test_parts_tell_their_tokens_without_loss(tmp_path: Path, model_folder: Path) -> None:
    documents = [replace(_weighted(number), part="ab"[number < 20]) for number in range(40)]
    index = CorpusIndex(sequence_length=LENGTH, start_token="<s>", end_token="</s>", tokenizer="")
    index.sources["domain"] = write_source(tmp_path, "domain", documents, Always("train"), set())
    parts = tokenise(tmp_path, index, model_folder).sources["domain"].parts
    stream = TrainingStream({"domain": open_source(tmp_path, "domain")}, 0.0, 1, 17)
    once = stream.available_steps(1)
    found = stream.parts(once)["domain"]
    whole = stream.ledger(once)["domain"]["tokens_without_loss"]
    assert sum(part["tokens_without_loss"] for part in found.values()) == whole
    for name, part in found.items():
        assert part["tokens_without_loss"] == parts[name.partition(".")[2]].tokens_without_loss > 0


def _check_weights(corpus: Path, tokenizer: Tokenizer, documents: list[Document]) -> None:
    """Compare the weights of each document's pieces with those of its characters."""
    found: dict[int, list[float]] = {}
    for path in sorted((corpus / "tokens" / "replay").glob("*.weights.npy")):
        load = {
            part: np.load(path.with_name(path.name.replace("weights", part)))
            for part in ("weights", "pieces", "documents")
        }
        for piece, document in enumerate(load["documents"].tolist()):
            weights = load["weights"][slice(*load["pieces"][piece : piece + 2])]
            found.setdefault(document, []).extend(weights[1:].tolist())  # without the start token
    for number, document in enumerate(documents):
        spans = tokenizer.encode(document.text, add_special_tokens=False).offsets
        by_character = [1.0] * len(document.text)
        for (begin, _), (end, weight) in zip(
            [(0, 0), *document.loss_weights], document.loss_weights, strict=False
        ):
            by_character[begin:end] = [weight] * (end - begin)
        expected = [max(by_character[begin:end]) for begin, end in spans] + [
            by_character[len(document.text.rstrip()) - 1]
        ]
        assert found[number] == expected


def test_parts_count_conversations_and_hold_no_empty_facts(tmp_path: Path, model_folder: Path) -> None:
    documents = [
        Document(f"r{number}", f"fever {number}", marked=number < 3, part="a") for number in range(9)
    ]
    documents += [Document(f"s{number}", f"heart {number}", part="b") for number in range(4)]
    index = CorpusIndex(sequence_length=LENGTH, start_token="<s>", end_token="</s>", tokenizer="")
    index.sources["replay"] = write_source(tmp_path, "replay", documents, Always("train"), set())
    facts = tokenise(tmp_path, index, model_folder).facts()["sources"]["replay"]
    assert facts["splits"]["train"]["marked"] == facts["parts"]["a"]["marked"] == 3
    assert not {"marked", "listed"} & set(facts["parts"]["b"])


def test_a_document_that_was_cut_off_stays_so_with_another_tokenizer(
    tmp_path: Path, model_folder: Path, new_model_folder: Callable[..., Path]
) -> None:
    corpus, _ = _replay(tmp_path / "cut", model_folder)
    other = new_model_folder("other", merges=0)
    index = retokenise(corpus, other, tmp_path / "again", former=model_folder)
    assert index.sources["replay"].splits["train"].cut == 30
    assert _ends(tmp_path / "again") == 30


def test_no_loss_is_taken_on_an_end_after_cut_text_nor_on_the_next_document(
    tmp_path: Path, model_folder: Path
) -> None:
    """In every packed row: what the last token of a document is to predict is nothing at all."""
    corpus, _ = _replay(tmp_path / "cut", model_folder)
    source = open_source(corpus, "replay")
    targets = 0
    for number in range(len(source)):
        row = source.sequence(number)
        lasts = np.cumsum(row.piece_lengths) - 1
        batch = pack(np.split(row.tokens, lasts[:-1] + 1))
        assert not set(batch.target_positions.tolist()) & set(lasts.tolist())
        assert (batch.labels[lasts] == IGNORED).all()
        targets += int((batch.labels[batch.target_positions] == END).sum())
    assert targets == 30


@pytest.mark.parametrize("rows_of_a_group", [7, 1000])
def test_tokens_of_listed_sources_are_counted_by_what_was_read(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, rows_of_a_group: int
) -> None:
    monkeypatch.setattr(documents_module, "_ROWS_OF_A_GROUP", rows_of_a_group)
    monkeypatch.setattr(ShardWriter, "__init__", partialmethod(ShardWriter.__init__, shard_tokens=300))
    documents = [
        Document(f"r{number}", f"{number} " + "fever heart " * (number % 9 + 1), source="ab"[number % 3 == 0])
        for number in range(60)
    ]
    index = CorpusIndex(sequence_length=LENGTH, start_token="<s>", end_token="</s>", tokenizer="")
    index.sources["replay"] = write_source(tmp_path, "replay", documents, Always("train"), set())
    tokenise(tmp_path, index, model_folder)
    listed = ListedSources(tmp_path, "replay", "train")
    rows = np.random.default_rng(1).permutation(60)
    assert [listed.names[group] for group in listed("replay", rows)] == [documents[at].source for at in rows]
    source = open_source(tmp_path, "replay")
    times = np.arange(len(source)) % 3
    expected, whole = Counter[str](), Counter[str]()
    files = sorted((tmp_path / "tokens" / "replay").glob("*.documents.npy"))
    assert len(files) > 2
    rows = np.concatenate([np.load(file) for file in files])
    at = 0
    for number in range(len(source)):
        for length in source.sequence(number).piece_lengths:
            expected[documents[rows[at]].source] += int(length * times[number])
            whole[documents[rows[at]].source] += int(length)
            at += 1
    found = source.tokens_by_group(listed, len(listed.names), lambda begin, stop: times[begin:stop])
    assert [dict(zip(listed.names, each, strict=True)) for each in found.tolist()] == [expected, whole]
