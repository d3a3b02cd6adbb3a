"""Guards: a sound change passes, and each kind of damage is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from piece_models import NEW_TEXTS, OLD_TEXTS, UNIGRAMS, WORDPIECES
from safetensors.torch import load_file, save_file
from tiny_architectures import ARCHITECTURES, write_architecture
from tokenizers import Tokenizer, processors
from vocabulary_kinds import (
    KINDS,
    add_tokens,
    byte_level,
    edit,
    model_of,
    sentence_piece_bpe,
    unigram,
    word_piece,
)

from cpt.errors import StageFailed
from tokenizer_tools.resize_model import write_model
from tokenizer_tools.transfer import Transfer, plan_transfer
from tokenizer_tools.validation import (
    ADVERSARIAL,
    TokenizerChecks,
    check_extended,
    check_model,
    check_pruned,
    check_replaced,
)

SAMPLES = ["the hearts of the others, 1234", "many hearts"]
Folders = tuple[Path, Path]


def copied(old: Path, new: Path) -> Path:
    shutil.copytree(old, new)
    return new


def change(folder: Path, **parts: Any) -> Path:
    """Change parts of tokenizer.json."""
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))
    return folder


def configure(folder: Path, **settings: Any) -> Path:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def byte_level_without_hearts(folder: Path) -> Path:
    return byte_level(folder, size=335)


def extend(folder: Path) -> Path:
    """Add "hearts", by hand."""
    model = model_of(folder)
    if model["type"] == "Unigram":
        return edit(folder, vocab=[*model["vocab"], ["▁hearts", -3.5]])
    if model["type"] == "WordPiece":
        return edit(folder, vocab={**model["vocab"], "hearts": len(model["vocab"])})
    heart = "Ġheart" if "Ġheart" in model["vocab"] else "▁heart"
    vocabulary = {**model["vocab"], f"{heart}s": len(model["vocab"])}
    return edit(folder, vocab=vocabulary, merges=[*model["merges"], [heart, "s"]])


@pytest.fixture(params=list(KINDS))
def extended(request: pytest.FixtureRequest, tmp_path: Path) -> Folders:
    write = {**KINDS, "byte-level BPE": byte_level_without_hearts}[request.param]
    old = write(tmp_path / "old")
    return old, extend(copied(old, tmp_path / "new"))


def test_a_sound_extension_passes(extended: Folders) -> None:
    report = check_extended(*extended, SAMPLES)
    assert report.reachable == 1
    assert report.round_trips == len(ADVERSARIAL) + len(SAMPLES)
    assert report.changed_stretches == 2


def test_the_same_tokenizer_passes(extended: Folders) -> None:
    old, _ = extended
    report = check_extended(old, old, SAMPLES)
    special = len(Tokenizer.from_file(str(old / "tokenizer.json")).get_added_tokens_decoder())
    assert report == TokenizerChecks(0, len(ADVERSARIAL) + len(SAMPLES), 0, special)
    assert check_pruned(old, old, SAMPLES).changed_stretches == 0


def test_a_new_token_without_a_merge_is_out_of_reach(tmp_path: Path) -> None:
    old = byte_level(tmp_path / "old")
    new = copied(old, tmp_path / "new")
    vocabulary = model_of(new)["vocab"]
    edit(new, vocab={**vocabulary, "Ġhearth": len(vocabulary)}, ignore_merges=True)
    with pytest.raises(StageFailed, match=r"'Ġhearth' .* cannot be reached"):
        check_extended(old, new)


def test_a_piece_of_a_low_score_is_out_of_reach(tmp_path: Path) -> None:
    old = unigram(tmp_path / "old")
    new = copied(old, tmp_path / "new")
    edit(new, vocab=[*model_of(new)["vocab"], ["▁hearts", -7.9]])
    with pytest.raises(StageFailed, match=r"'▁hearts' .* cannot be reached"):
        check_extended(old, new)


def test_an_added_token_is_no_extension(tmp_path: Path) -> None:
    """AddedToken is matched before words are cut, also inside them."""
    old = byte_level(tmp_path / "old")
    new = add_tokens(copied(old, tmp_path / "new"), "earth")
    with pytest.raises(StageFailed, match=r"'earth' .* cannot be reached"):
        check_extended(old, new)


def test_moved_tokens_are_named(extended: Folders) -> None:
    old, new = extended
    model = model_of(new)
    if model["type"] == "Unigram":
        edit(new, vocab=[*model["vocab"][:-3], *model["vocab"][-2:], model["vocab"][-3]])
    else:
        first, *_, last = [token for token in model["vocab"] if token[0] not in "<["]
        ids = model["vocab"]
        edit(new, vocab={**ids, first: ids[last], last: ids[first]})
    with pytest.raises(StageFailed, match="moved from id"):
        check_extended(old, new)


def test_a_lost_merge_changes_text_without_reason(tmp_path: Path) -> None:
    old = byte_level(tmp_path / "old")
    new = extend(copied(old, tmp_path / "new"))
    merges = [merge for merge in model_of(new)["merges"] if merge != ["Ġ", "o"]]
    assert len(merges) == len(model_of(new)["merges"]) - 1
    edit(new, merges=merges)
    with pytest.raises(StageFailed, match=r"became \[.*which the change does not explain"):
        check_extended(old, new, SAMPLES)


def test_a_merge_that_comes_before_old_ones_is_seen(tmp_path: Path) -> None:
    old = sentence_piece_bpe(tmp_path / "old")
    new = copied(old, tmp_path / "new")
    model = model_of(new)
    ids, merges = {**model["vocab"], "rt": len(model["vocab"])}, [["r", "t"], *model["merges"]]
    edit(new, vocab=ids, merges=merges)
    with pytest.raises(StageFailed, match="which the change does not explain"):
        check_extended(old, new, SAMPLES)


def test_merges_whose_product_was_a_token_explain_text_without_new_tokens(tmp_path: Path) -> None:
    """ "ab" was out of reach; then the older merge (ab, c) applies too. Two stretches are in ADVERSARIAL."""
    old = byte_level(tmp_path / "old")
    bytes_ = {token: token_id for token, token_id in model_of(old)["vocab"].items() if len(token) == 1}
    vocabulary = {token: token_id for token_id, token in enumerate(["<s>", "</s>", *bytes_, "ab", "abc"])}
    edit(old, vocab=vocabulary, merges=[["ab", "c"]])
    new = edit(copied(old, tmp_path / "new"), merges=[["ab", "c"], ["a", "b"]])
    assert check_extended(old, new, ["abc abx"]).changed_stretches == 4


def test_other_scores_change_text_without_reason(tmp_path: Path) -> None:
    old = unigram(tmp_path / "old")
    new = copied(old, tmp_path / "new")
    edit(
        new, vocab=[[piece, -9.5 if piece == "▁heart" else score] for piece, score in model_of(new)["vocab"]]
    )
    with pytest.raises(StageFailed, match=r"\['▁heart'\] became \['▁', 'heart'\]"):
        check_extended(old, new, SAMPLES)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "decoder": (lambda new: change(new, decoder={"type": "Fuse"}), "is decoded as"),
    "role": (lambda new: configure(new, eos_token="<s>"), "special tokens are"),
    "chat": (lambda new: configure(new, chat_template="{{ bos_token }}!"), "the chat template makes"),
    "class": (lambda new: configure(new, tokenizer_class="BertTokenizer"), "transformers loads another"),
    "frame": (lambda new: change(new, post_processor=FRAME), "is framed as"),
    "flag": (
        lambda new: change(new, added_tokens=[{**token, "lstrip": True} for token in added_tokens(new)]),
        "lstrip=True",
    ),
}
FRAME = json.loads(processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)]).__getstate__())


def added_tokens(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return found


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("check", [check_extended, check_pruned])
def test_what_must_stay_is_watched(damage: str, check: Callable[..., Any], tmp_path: Path) -> None:
    old = configure(byte_level(tmp_path / "old"), chat_template="{{ messages[0].content }}")
    damaging, message = DAMAGES[damage]
    new = copied(old, tmp_path / "new")
    damaging(new)
    with pytest.raises(StageFailed, match=message):
        check(old, new)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    old = byte_level(tmp_path / "old")
    new = copied(old, tmp_path / "new")
    for name in ("role", "frame"):
        DAMAGES[name][0](new)
    with pytest.raises(StageFailed, match=r"(?s)special tokens are.*is framed as"):
        check_extended(old, new)


@pytest.mark.parametrize("write", [*UNIGRAMS.values(), *WORDPIECES.values()])
def test_tokenizers_of_pieces_pass_as_they_are(write: Callable[[Path], Path], tmp_path: Path) -> None:
    old = write(tmp_path / "old")
    check_extended(old, old, [*OLD_TEXTS, *NEW_TEXTS])


def test_a_pruned_tokenizer_has_no_gaps_and_nothing_new(tmp_path: Path) -> None:
    old = word_piece(tmp_path / "old")
    ids = model_of(old)["vocab"]
    new = edit(copied(old, tmp_path / "new"), vocab={t: i for t, i in ids.items() if t != "of"} | {"x": 99})
    with pytest.raises(StageFailed, match="'x' is new; the ids have gaps"):
        check_pruned(old, new)


def test_a_pruned_tokenizer_keeps_what_others_need(tmp_path: Path) -> None:
    """Without "▁hear", which is no leaf, no merge leads to "▁heart"."""
    old = sentence_piece_bpe(tmp_path / "old")
    model = model_of(old)
    kept = [token for token in model["vocab"] if token != "▁hear"]
    new = edit(
        copied(old, tmp_path / "new"),
        vocab={token: token_id for token_id, token in enumerate(kept)},
        merges=[merge for merge in model["merges"] if "▁hear" not in (merge[0], "".join(merge))],
    )
    with pytest.raises(StageFailed, match=r"'▁heart' cannot be reached any more.*does not explain"):
        check_pruned(old, new, SAMPLES)


@pytest.mark.parametrize("target", KINDS)
def test_a_replacement_that_works_passes(target: str, tmp_path: Path) -> None:
    old = configure(unigram(tmp_path / "old"), eos_token=None, bos_token=None)
    new = KINDS[target](tmp_path / "new")
    report = check_replaced(old, new)
    assert report.roles >= 2
    if "BPE" in target:
        assert report.round_trips == report.exact_round_trips == len(ADVERSARIAL)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda new: configure(new, eos_token=None), "no eos token"),
        (lambda new: configure(new, chat_template="{{ nothing.at_all }}"), "chat template fails: Undefined"),
        (lambda new: configure(new, tokenizer_class="BertTokenizer"), "transformers loads another"),
        (
            lambda new: change(
                new, normalizer={"type": "Replace", "pattern": {"String": "two"}, "content": "twotwo"}
            ),
            "which it made of text",
        ),
    ],
)
def test_a_replacement_that_does_not_work_is_refused(
    damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    old, new = byte_level(tmp_path / "old"), byte_level(tmp_path / "new")
    damage(new)
    with pytest.raises(StageFailed, match=message):
        check_replaced(old, new)


@pytest.fixture(params=["tied decoder", "output bias", "masked encoder", "untied encoder-decoder"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Transfer]:
    return written(request.param, tmp_path)


def written(kind: str, tmp_path: Path) -> tuple[Path, Path, Transfer]:
    """A model, and the same in an extended vocabulary, with padding."""
    old = byte_level_without_hearts(tmp_path / "old")
    rows = Tokenizer.from_file(str(old / "tokenizer.json")).get_vocab_size()
    new = extend(copied(old, tmp_path / "new"))
    write_architecture(old, kind, rows, ids={"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 5})
    transfer = plan_transfer(old, new, model=old)
    write_model(new, transfer, lambda rows, role: rows[:1] + 1, pad_to_multiple_of=64)
    return old, new, transfer


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sound_models_pass(kind: str, tmp_path: Path) -> None:
    old, new, transfer = written(kind, tmp_path)
    report = check_model(old, new, transfer)
    tokens = len(transfer.target.tokens)
    assert (report.rows, report.copied_rows, report.new_rows) == (-(-tokens // 64) * 64, tokens - 1, 1)
    assert report.suppressed_rows in (0, report.rows - tokens)
    assert report.token_ids >= 1


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (7, 9.0, "1 copied rows of .* differ, such as 7"),
        (-1, 0.0, "zero or not"),
        (-1, torch.nan, "zero or not"),
    ],
)
def test_damaged_rows_are_named(
    row: int, value: float, message: str, models: tuple[Path, Path, Transfer]
) -> None:
    old, new, transfer = models
    file = new / "model.safetensors"
    tensors = load_file(file)
    rows = check_model(old, new, transfer).rows
    for tensor in (tensor for tensor in tensors.values() if tensor.shape[0] == rows and tensor.dim() == 2):
        tensor[row if row > 0 else len(transfer.target.tokens) + row] = value
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(StageFailed, match=message):
        check_model(old, new, transfer)


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    old, new, transfer = written("tied decoder", tmp_path)
    for file, changes, message in (
        ("config.json", {"eos_token_id": 5000}, r"eos_token_id is \[5000\], which names no token"),
        ("config.json", {"eos_token_id": 7}, r"the tokenizer's eos token is 1"),
        (
            "generation_config.json",
            {"eos_token_id": [7, 8]},
            r"config.json: eos_token_id is \[7, 8\]",
        ),
        ("generation_config.json", {"suppress_tokens": None}, "have no token and may be sampled"),
    ):
        content = (new / file).read_text()
        (new / file).write_text(json.dumps({**json.loads(content), **changes}))
        with pytest.raises(StageFailed, match=message):
            check_model(old, new, transfer)
        (new / file).write_text(content)
    check_model(old, new, transfer)


def test_embeddings_that_were_tied_must_stay_tied(tmp_path: Path) -> None:
    old, new, transfer = written("tied decoder", tmp_path)
    tensors = load_file(new / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageFailed, match="tied=False"):
        check_model(old, new, transfer)


def test_a_model_with_too_few_rows_is_refused(tmp_path: Path) -> None:
    old, new, transfer = written("tied decoder", tmp_path)
    shutil.rmtree(new)
    with pytest.raises(StageFailed, match="ids up to"):
        check_model(old, old, transfer)


def test_a_decoder_needs_its_start(tmp_path: Path) -> None:
    kind = "tied encoder-decoder"
    old, new, transfer = written(kind, tmp_path)
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": 5}))
    with pytest.raises(StageFailed, match="decoder cannot start"):
        check_model(old, new, transfer)
