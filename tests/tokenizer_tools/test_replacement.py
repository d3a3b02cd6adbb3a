"""Tokenizers that replace a model's own: another one, or one trained on text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from piece_models import NEW_TEXTS as MEDICAL
from piece_models import write_unigram, write_white_space_unigram, write_wordpiece
from tiny import clinical_texts
from tiny_architectures import write_architecture
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer
from vocabulary_kinds import KINDS, add_tokens, byte_level, model_of, save, sentence_piece_bpe

from cpt.errors import DataError, StageFailed
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.measure import bytes_per_token
from tokenizer_tools.replacement import replace_tokenizer, train_tokenizer
from tokenizer_tools.resize_model import write_model
from tokenizer_tools.transfer import plan_transfer
from tokenizer_tools.validation import ADVERSARIAL, check_model, check_replaced
from tokenizer_tools.vocabulary import read_vocabulary

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PLAIN = "{% for m in messages %}{{ bos_token }}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"


def configure(folder: Path, **settings: object) -> Path:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def template(folder: Path) -> str | None:
    found: str | None = AutoTokenizer.from_pretrained(folder).chat_template
    return found


@pytest.mark.parametrize("target", KINDS)
def test_the_target_takes_the_place_of_the_source(target: str, tmp_path: Path) -> None:
    """Also where the model is of a kind whose own tokenizer class would read the files otherwise."""
    source, output = byte_level(tmp_path / "source"), tmp_path / "output"
    write_architecture(source, "untied decoder", 340, ids={"bos_token_id": 0, "eos_token_id": 1})
    other = KINDS[target](tmp_path / "target")
    if target == "WordPiece":
        configure(other, eos_token="[SEP]")
    replace_tokenizer(source, other, output)
    assert load_tokenizer(output).to_str() == load_tokenizer(other).to_str()
    check_replaced(source, output)
    transfer = plan_transfer(source, output, model=source)
    write_model(output, transfer, lambda rows, role: rows[: len(transfer.new)] + 0.1)
    check_model(source, output, transfer)
    loaded, expected = AutoTokenizer.from_pretrained(output), load_tokenizer(other)
    for text in ADVERSARIAL:
        assert (
            loaded.encode(text, add_special_tokens=False)
            == expected.encode(text, add_special_tokens=False).ids
        )


def test_the_targets_own_template_is_kept(tmp_path: Path) -> None:
    source = configure(byte_level(tmp_path / "source"), chat_template=PLAIN)
    target = configure(sentence_piece_bpe(tmp_path / "target"), chat_template=CHATML)
    replace_tokenizer(source, target, tmp_path / "output")
    assert template(tmp_path / "output") == CHATML


@pytest.mark.parametrize("at", ["config", "file"])
def test_a_template_of_tokens_that_the_target_has_is_taken_along(at: str, tmp_path: Path) -> None:
    source, target = byte_level(tmp_path / "source"), sentence_piece_bpe(tmp_path / "target")
    for given, chat in ((PLAIN, ()), (CHATML, ("<|im_start|>", "<|im_end|>"))):
        output = tmp_path / f"output {len(chat)}"
        for folder in (source, target):
            add_tokens(folder, *chat, special=True)
        if at == "config":
            configure(source, chat_template=given)
        else:
            (source / "chat_template.jinja").write_text(given)
        replace_tokenizer(source, target, output)
        assert template(output) == given
        text = AutoTokenizer.from_pretrained(output).apply_chat_template(
            [{"role": "user", "content": "one"}], tokenize=False
        )
        assert "one" in text


@pytest.mark.parametrize("given", [CHATML, "{{ raise_exception('no') }}"])
def test_a_template_that_does_not_go_with_the_target_is_left_out(given: str, tmp_path: Path) -> None:
    source = add_tokens(byte_level(tmp_path / "source"), "<|im_start|>", "<|im_end|>", special=True)
    configure(source, chat_template=given)
    replace_tokenizer(source, sentence_piece_bpe(tmp_path / "target"), tmp_path / "output")
    assert template(tmp_path / "output") is None
    check_replaced(source, tmp_path / "output")


def test_no_code_comes_along(tmp_path: Path) -> None:
    target = configure(byte_level(tmp_path / "target"), auto_map={"AutoTokenizer": ["x.Y", None]})
    replace_tokenizer(target, target, tmp_path / "output")
    assert "auto_map" not in (tmp_path / "output" / "tokenizer_config.json").read_text()


def test_a_target_without_a_fast_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        replace_tokenizer(byte_level(tmp_path / "source"), tmp_path, tmp_path / "output")


LLAMA_3 = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
NEW_TEXTS = [*MEDICAL, *clinical_texts()]
TRAINED: dict[str, tuple[Callable[[Path], Path], int]] = {
    "byte-level BPE": (byte_level, 340),
    "Llama 3": (
        lambda folder: byte_level(folder, pattern=LLAMA_3),
        340,
    ),
    "Llama 2": (sentence_piece_bpe, 380),
    "Metaspace": (lambda folder: sentence_piece_bpe(folder, scheme="first"), 380),
    "Unigram": (write_unigram, 145),
    "XLM-R": (write_white_space_unigram, 145),
    "WordPiece": (write_wordpiece, 160),
}


def data_of(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Tokenizer.from_file(str(folder / "tokenizer.json")).to_str())
    return data


@pytest.mark.parametrize("kind", TRAINED)
def test_only_the_vocabulary_is_new(kind: str, tmp_path: Path) -> None:
    write, size = TRAINED[kind]
    old, new = write(tmp_path / "old"), tmp_path / "new"
    train_tokenizer(old, iter(NEW_TEXTS), new, tokens=size)
    before, after = read_vocabulary(old), read_vocabulary(new)
    assert 0.9 * size <= len(after.tokens) <= size
    assert len(after.tokens) == size or kind in ("Unigram", "XLM-R")
    assert None not in after.tokens
    assert (after.kind, after.special.keys(), after.roles.keys()) == (
        before.kind,
        before.special.keys(),
        before.roles.keys(),
    )
    was, now = data_of(old), data_of(new)
    for part in ("normalizer", "pre_tokenizer", "decoder", "truncation"):
        assert now[part] == was[part]
    learnt = {"vocab": None, "merges": None, "unk_id": None}
    assert {**now["model"], **learnt} == {**was["model"], **learnt}
    check_replaced(old, new)


@pytest.mark.parametrize("kind", TRAINED)
def test_it_fits_the_text(kind: str, tmp_path: Path) -> None:
    write, size = TRAINED[kind]
    old, new = write(tmp_path / "old"), tmp_path / "new"
    train_tokenizer(old, NEW_TEXTS, new, tokens=size)
    was, now = (load_tokenizer(folder) for folder in (old, new))
    assert bytes_per_token(now, NEW_TEXTS) > bytes_per_token(was, NEW_TEXTS)
    assert "liver" in "".join(now.get_vocab())


@pytest.mark.parametrize("kind", ["byte-level BPE", "Llama 3", "Llama 2"])
def test_no_text_is_lost_where_bytes_are_tokens(kind: str, tmp_path: Path) -> None:
    write, size = TRAINED[kind]
    old, new = write(tmp_path / "old"), tmp_path / "new"
    train_tokenizer(old, NEW_TEXTS, new, tokens=size)
    tokenizer = load_tokenizer(new)
    for text in ADVERSARIAL:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_tokens_stay_within_words_where_nothing_cuts_text(tmp_path: Path) -> None:
    old, new = sentence_piece_bpe(tmp_path / "old"), tmp_path / "new"
    train_tokenizer(old, ["one two three four"] * 50, new, tokens=283)
    assert "▁three" in model_of(new)["vocab"]
    assert not [token for token in model_of(new)["vocab"] if "▁" in token.lstrip("▁")]


def test_added_tokens_frames_and_the_chat_template_are_kept(tmp_path: Path) -> None:
    old = add_tokens(byte_level(tmp_path / "old"), "<think>", special=False)
    add_tokens(old, "<|im_end|>", special=True)
    tokenizer = Tokenizer.from_file(str(old / "tokenizer.json"))
    end = tokenizer.token_to_id("<|im_end|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A <|im_end|>", special_tokens=[("<|im_end|>", end)]
    )
    save(tokenizer, old, {"eos": "<|im_end|>"})
    (old / "chat_template.jinja").write_text("{{ messages[0].content }}{{ eos_token }}")
    train_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=320)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert loaded.convert_tokens_to_ids(["<s>", "</s>", "<think>", "<|im_end|>"]) == [0, 1, 2, 3]
    assert loaded("x<think>")["input_ids"][-2:] == [2, 3]
    assert loaded.eos_token_id == 3
    assert loaded.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "x<|im_end|>"


def test_the_first_special_tokens_keep_their_ids(tmp_path: Path) -> None:
    """As RoBERTa needs, whose positions are counted from the padding token's id."""
    old = write_wordpiece(tmp_path / "old")
    train_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=120)
    assert read_vocabulary(tmp_path / "new").special == read_vocabulary(old).special


def test_the_same_text_makes_the_same_bpe(tmp_path: Path) -> None:
    for name in "ab":
        train_tokenizer(byte_level(tmp_path / "old"), NEW_TEXTS, tmp_path / name, tokens=340)
    assert model_of(tmp_path / "a") == model_of(tmp_path / "b")


@pytest.mark.parametrize("tokens", [100, 5000])
def test_a_size_that_the_text_does_not_yield_is_refused(tokens: int, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=f"{tokens:,} were asked for"):
        train_tokenizer(byte_level(tmp_path / "old"), NEW_TEXTS, tmp_path / "new", tokens=tokens)
    assert not (tmp_path / "new").exists()
