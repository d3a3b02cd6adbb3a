"""Another tokenizer's files, and the chat template that goes with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_architectures import write_architecture
from transformers import AutoTokenizer
from vocabulary_kinds import KINDS, add_tokens, byte_level, sentence_piece_bpe

from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.replacement import replace_tokenizer
from tokenizer_tools.resize_model import write_model
from tokenizer_tools.transfer import plan_transfer
from tokenizer_tools.validation import ADVERSARIAL, check_model, check_replaced

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
