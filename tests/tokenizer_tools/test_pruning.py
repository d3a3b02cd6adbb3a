"""Pruned tokenizers: which tokens go, what must not change, and what the pruned model says."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from piece_models import OLD_TEXTS, UNIGRAMS, WORDPIECES
from tokenizers import Tokenizer, models, processors
from transformers import AutoModelForCausalLM, AutoTokenizer
from vocabulary_kinds import KINDS, TEXTS, add_tokens, byte_level, edit, model_of, save, sentence_piece_bpe

from cpt.errors import StageFailed
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.pruning import least_used, leaves, prune_tokenizer
from tokenizer_tools.resize_model import write_model
from tokenizer_tools.transfer import plan_transfer
from tokenizer_tools.validation import check_pruned

FOLDERS = {
    "byte-level BPE": byte_level,
    "SentencePiece BPE": sentence_piece_bpe,
    **{f"Unigram, {name}": write for name, write in UNIGRAMS.items()},
    **{f"WordPiece, {name}": write for name, write in WORDPIECES.items()},
}
OTHER = ["the heart of many", "a kidney, the matter; hearts and other kidneys"]


def naive_leaves(model: Mapping[str, Any], uses: Mapping[str, int]) -> Iterator[str]:
    """Look at all merges again after every removal."""
    merges, counts, ids = list(model["merges"]), dict(uses), model["vocab"]
    while True:
        parts = {part for merge in merges for part in merge}
        found = {left + right for left, right in merges} - parts
        if not found:
            return
        leaf = min(found, key=lambda token: (counts[token], -ids[token]))
        yield leaf
        for part in next(merge for merge in merges if "".join(merge) == leaf):
            counts[part] += counts[leaf]
        merges = [merge for merge in merges if "".join(merge) != leaf]


def random_bpe(seed: int) -> tuple[dict[str, Any], dict[str, int]]:
    """A model in which some tokens have several merges, and uses of its tokens."""
    draw = random.Random(seed)
    tokens, merges = list("abcd"), []
    for _ in range(30):
        left, right = draw.choices(tokens, k=2)
        if len(left + right) < 9 and (left, right) not in merges:
            merges.append((left, right))
            tokens += [] if left + right in tokens else [left + right]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    return {"vocab": vocabulary, "merges": merges}, {token: draw.randint(0, 5) for token in tokens}


@pytest.mark.parametrize("seed", range(20))
def test_leaves_go_in_the_order_of_the_naive_algorithm(seed: int) -> None:
    model, uses = random_bpe(seed)
    expected = list(naive_leaves(model, uses))
    assert list(leaves(model, uses, model["vocab"])) == expected
    assert set(expected) == model["vocab"].keys() - set("abcd")


def test_uses_of_a_leaf_become_uses_of_its_parts() -> None:
    """abc and ab are used once, cd twice; without abc ab is used twice too, and cd has the higher id."""
    model = {
        "vocab": {token: token_id for token_id, token in enumerate(["a", "b", "c", "d", "ab", "abc", "cd"])},
        "merges": [("a", "b"), ("ab", "c"), ("c", "d")],
    }
    none = dict.fromkeys(model["vocab"], 0)
    assert list(leaves(model, none | {"abc": 1, "ab": 1, "cd": 2}, model["vocab"])) == ["abc", "cd", "ab"]
    assert list(leaves(model, none | {"abc": 1, "cd": 1}, model["vocab"])) == ["cd", "abc", "ab"]


def test_a_token_that_must_stay_keeps_its_parts() -> None:
    model = {
        "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4},
        "merges": [("a", "b"), ("ab", "c")],
    }
    none = dict.fromkeys(model["vocab"], 0)
    assert list(leaves(model, none, {"ab"})) == []
    assert list(leaves(model, none, {"abc"})) == ["abc"]


def test_the_least_used_pieces_go_and_characters_stay() -> None:
    model = {
        "type": "Unigram",
        "vocab": [["a", -3.0], ["b", -3.0], ["ab", -1.0], ["ba", -9.0], ["aab", -2.0], ["bé", -2.0]],
        "unk_id": None,
    }
    pieces = [piece for piece, _ in model["vocab"]]
    uses = Counter({"ab": 4, "aab": 2, "bé": 0})
    assert list(least_used(model, uses, pieces)) == ["aab", "ab"], "bé has no é, ba the lowest score"
    model = {
        "type": "WordPiece",
        "vocab": {p: i for i, p in enumerate(["a", "##a", "##b", "ab", "##ab", "ba", "##ba", "##"])},
        "continuing_subword_prefix": "##",
    }
    assert list(least_used(model, Counter({"ab": 1}), model["vocab"])) == ["##ba", "##ab", "ab"], "b is none"


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_kind_stays_whole(kind: str, tmp_path: Path) -> None:
    old, new = FOLDERS[kind](tmp_path / "old"), tmp_path / "new"
    remove = 4
    pruning = prune_tokenizer(old, TEXTS, new, remove=remove)
    report = check_pruned(old, new, [*TEXTS, *OTHER, *OLD_TEXTS])
    before, after = load_tokenizer(old), load_tokenizer(new)
    assert len(pruning.removed) == remove
    assert before.get_vocab().keys() - after.get_vocab().keys() == set(pruning.removed)
    assert sorted(after.get_vocab().values()) == list(range(before.get_vocab_size() - remove))
    assert report.special_tokens == len(before.get_added_tokens_decoder())
    in_order = sorted(before.get_vocab(), key=before.token_to_id)
    assert [token for token in in_order if token not in pruning.removed] == sorted(
        after.get_vocab(), key=after.token_to_id
    )


@pytest.mark.parametrize("kind", FOLDERS)
def test_text_without_removed_tokens_keeps_its_tokens(kind: str, tmp_path: Path) -> None:
    """Oracle: every word of the texts, cut by the library before and after."""
    old, new = FOLDERS[kind](tmp_path / "old"), tmp_path / "new"
    pruning = prune_tokenizer(old, OTHER, new, remove=6)
    before, after = load_tokenizer(old), load_tokenizer(new)
    kept = changed = 0
    for word in {word for text in [*TEXTS, *OTHER, *OLD_TEXTS] for word in text.split()}:
        was, now = (t.encode(f"a {word}", add_special_tokens=False).tokens for t in (before, after))
        if set(was).isdisjoint(pruning.removed):
            kept += 1
            assert was == now
        else:
            changed += 1
            assert set(now).isdisjoint(pruning.removed)
    assert kept
    assert changed or pruning.uses == 0


def test_unused_tokens_go_first(tmp_path: Path) -> None:
    old = byte_level(tmp_path / "old")
    tokens = load_tokenizer(old).encode_batch(OTHER, add_special_tokens=False)
    used = {token for encoding in tokens for token in encoding.tokens}
    pruning = prune_tokenizer(old, OTHER, tmp_path / "new", remove=20)
    assert pruning.uses == 0
    assert used.isdisjoint(pruning.removed)
    assert prune_tokenizer(old, OTHER, tmp_path / "all", remove=82).uses > 0


@pytest.mark.parametrize("behind", [False, True])
def test_every_place_that_holds_an_id_follows(behind: bool, tmp_path: Path) -> None:
    """Frames of all kinds, padding, the configuration and added tokens, behind the vocabulary or in it."""
    old = byte_level(tmp_path / "old")
    if behind:
        edit(old, vocab={token: i - 2 for token, i in model_of(old)["vocab"].items() if i > 1})
    add_tokens(old, "<sep>", special=True)
    tokenizer = Tokenizer.from_file(str(old / "tokenizer.json"))
    sep, bos = tokenizer.token_to_id("<sep>"), tokenizer.token_to_id("<s>")
    frames = [
        processors.RobertaProcessing(
            ("<sep>", sep), ("<s>", bos), trim_offsets=False, add_prefix_space=False
        ),
        processors.TemplateProcessing("$A <sep>", "$A <sep> $B:1", [("<sep>", sep)]),
        processors.BertProcessing(("<sep>", sep), ("<s>", bos)),
    ]
    for at, frame in enumerate([*frames, processors.Sequence(frames[:2])]):
        folder, new = tmp_path / f"framed {at}", tmp_path / f"new {at}"
        tokenizer.post_processor = frame
        tokenizer.enable_padding(pad_id=sep, pad_token="<sep>", length=30)
        save(tokenizer, folder, {"eos": "</s>", "sep": "<sep>"})
        config = json.loads((folder / "tokenizer_config.json").read_text())
        decoder = {str(sep): {"content": "<sep>", "special": True}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": decoder}))
        (folder / "added_tokens.json").write_text(json.dumps({"<sep>": sep}))
        prune_tokenizer(folder, OTHER, new, remove=9)
        check_pruned(folder, new, OTHER)
        after = Tokenizer.from_file(str(new / "tokenizer.json"))
        moved = after.token_to_id("<sep>")
        assert moved == sep - 9
        assert after.encode("x").tokens == tokenizer.encode("x").tokens
        assert after.encode("x").ids[-1] == moved
        config = json.loads((new / "tokenizer_config.json").read_text())
        assert list(config["added_tokens_decoder"]) == [str(moved)]
        assert json.loads((new / "added_tokens.json").read_text()) == {"<sep>": moved}


def test_gaps_close_and_added_tokens_in_them_stay(tmp_path: Path) -> None:
    """An added token that fills a gap in the vocabulary would be numbered anew on loading."""
    old = byte_level(tmp_path / "old")
    vocabulary = {token: i + 5 * (i > 1) for token, i in model_of(old)["vocab"].items()}
    edit(old, vocab=vocabulary)
    check_after = tmp_path / "new"
    prune_tokenizer(old, OTHER, check_after, remove=5)
    check_pruned(old, check_after, OTHER)


def test_more_than_can_be_removed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"82 tokens can be removed .* 83 were to go"):
        prune_tokenizer(byte_level(tmp_path / "old"), OTHER, tmp_path / "new", remove=83)
    assert not (tmp_path / "new").exists()


def test_a_pruned_model_says_the_same_about_the_kept_tokens(tiny_model: Path, tmp_path: Path) -> None:
    """Oracle: equal logits on kept ids where the text uses no removed token."""
    text = ["The heart of the matter is the heart.", "Nine kidneys"]
    pruning = prune_tokenizer(tiny_model, text, tmp_path, remove=10)
    assert pruning.uses == 0
    check_pruned(tiny_model, tmp_path, text)
    transfer = plan_transfer(tiny_model, tmp_path, model=tiny_model)
    assert len(transfer.new) == 0
    assert write_model(tmp_path, transfer, None) == 290
    models_ = [AutoModelForCausalLM.from_pretrained(folder) for folder in (tiny_model, tmp_path)]
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (tiny_model, tmp_path)]
    for each in text:
        ids = [tokenizer(each, return_tensors="pt")["input_ids"] for tokenizer in tokenizers]
        with torch.no_grad():
            before, after = (model(given).logits for model, given in zip(models_, ids, strict=True))
        assert torch.allclose(
            after[..., transfer.shared_target], before[..., transfer.shared_source], atol=1e-6
        )


def test_a_unigram_may_have_no_unknown_token(tmp_path: Path) -> None:
    pieces: Sequence[tuple[str, float]] = [("▁", -5.0), ("a", -4.0), ("b", -4.0), ("ab", -2.0), ("▁a", -3.0)]
    old = KINDS["Unigram"](tmp_path / "old")
    tokenizer = Tokenizer.from_file(str(old / "tokenizer.json"))
    tokenizer.model = models.Unigram([("<s>", 0.0), ("</s>", 0.0), *pieces])
    save(tokenizer, old)
    prune_tokenizer(old, ["ab ab"], tmp_path / "new", remove=1)
    assert "▁a" not in load_tokenizer(tmp_path / "new").get_vocab()
    assert model_of(tmp_path / "new")["unk_id"] is None
