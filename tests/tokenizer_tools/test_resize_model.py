"""Model folders in another vocabulary: rows, logits, ids, files, for every architecture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import clinical_texts
from tiny_architectures import ARCHITECTURES, load_architecture, outputs, write_architecture
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM
from vocabulary_kinds import save

from cpt.errors import DataError, ModelError, StageFailed
from cpt.models.token_ids import read_new_tokens
from cpt.models.vocabulary import vocabulary_tensors
from cpt.models.weights import load_tensor, stored_tensors
from tokenizer_tools.embeddings import Role, method
from tokenizer_tools.extension import extend_tokenizer
from tokenizer_tools.resize_model import with_roles, write_model
from tokenizer_tools.transfer import Transfer, plan_transfer

SPECIAL = ("<s>", "<pad>", "</s>", "[UNK]")
WORDS = ("the", "heart", "of", "matter", "is", "a", "##s", "##art", "he", "is##", "nine", "kid", "##ney")
OLD = (*SPECIAL, *WORDS)
NEW = (*SPECIAL, "##ney", "hearts", "the", "kidney", "a", "##s", "of", "heart", "kidneys", "he")
ROLES = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "[UNK]"}


def write_tokenizer(folder: Path, pieces: Sequence[str], roles: Mapping[str, str] = ROLES) -> Path:
    """WordPiece of these pieces; those in angle brackets are special tokens."""
    tokenizer = Tokenizer(
        models.WordPiece({piece: token_id for token_id, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([piece for piece in pieces if piece[0] in "<["])
    return save(tokenizer, folder, roles)


def write_old(folder: Path, kind: str, rows: int = len(OLD), **options: Any) -> Path:
    return write_architecture(write_tokenizer(folder, OLD), kind, rows, **options)


def changed(old: Path, new: Path, pieces: Sequence[str] = NEW, multiple: int = 1, **roles: Any) -> Transfer:
    """Write the old model in a vocabulary of these pieces, new rows by subtoken means."""
    transfer = plan_transfer(old, write_tokenizer(new, pieces, {**ROLES, **roles}), model=old)
    rule = method("subtoken-mean").prepare(transfer, method("subtoken-mean").parameters())
    write_model(new, transfer, rule, pad_to_multiple_of=multiple)
    return transfer


def matrices(folder: Path) -> Iterator[tuple[Role, torch.Tensor]]:
    stored = stored_tensors(folder)
    for name, role in with_roles(vocabulary_tensors(folder)):
        tensor = load_tensor(stored[name], name)
        yield role, tensor.reshape(-1, 1) if role == "bias" else tensor


def settings_of(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "generation_config.json").read_text())
    return settings


@pytest.fixture(params=list(ARCHITECTURES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_shared_rows_are_copied_and_new_ones_made_in_every_matrix(kind: str, tmp_path: Path) -> None:
    old, new = write_old(tmp_path / "old", kind), tmp_path / "new"
    transfer = changed(old, new, multiple=8)
    for (role, before), (other, after) in zip(matrices(old), matrices(new), strict=True):
        assert role == other
        assert len(after) == 16
        assert torch.equal(after[transfer.shared_target], before[transfer.shared_source])
        for token_id, pieces in zip(transfer.new.tolist(), transfer.pieces, strict=True):
            assert torch.allclose(after[token_id], before[list(pieces)].mean(0), atol=1e-6)
        assert torch.allclose(after[len(NEW) :], before.mean(0).expand(2, -1), atol=1e-6)
    assert {piece for token_id in transfer.new for piece in [NEW[token_id]]} == {
        "hearts",
        "kidney",
        "kidneys",
    }


def test_text_of_shared_tokens_has_the_old_logits(kind: str, tmp_path: Path) -> None:
    """Oracle: permuted vocabulary, permuted logits."""
    old, new = write_old(tmp_path / "old", kind), tmp_path / "new"
    transfer = changed(old, new)
    text = torch.tensor([[OLD.index(token) for token in ("<s>", "the", "heart", "of", "he", "##s", "</s>")]])
    moved = torch.tensor([[NEW.index(OLD[token_id]) for token_id in text[0]]])
    before, after = outputs(load_architecture(old, kind), text), outputs(load_architecture(new, kind), moved)
    if before.shape[-1] == len(OLD):
        before, after = before[..., transfer.shared_source], after[..., transfer.shared_target]
    assert torch.allclose(after, before, atol=1e-5)


def test_the_same_tokenizer_leaves_every_tensor_and_id_as_it_is(kind: str, tmp_path: Path) -> None:
    old, new = write_old(tmp_path / "old", kind, rows=20), tmp_path / "new"
    transfer = plan_transfer(old, write_tokenizer(new, OLD), model=old)
    assert write_model(new, transfer, None) == 20
    before, after = stored_tensors(old), stored_tensors(new)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(load_tensor(tensor, name), load_tensor(after[name], name))
    assert json.loads((new / "config.json").read_text()) == json.loads((old / "config.json").read_text())


def test_special_tokens_are_followed_to_their_new_ids(tmp_path: Path) -> None:
    kind = "tied encoder-decoder"
    old, new = write_old(tmp_path / "old", kind), tmp_path / "new"
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": 1}))
    pieces = ["the", "[UNK]", "<end>", "heart", "<blank>"]
    transfer = changed(old, new, pieces, eos="<end>", pad="<blank>")
    assert transfer.shared_target.tolist() == [0, 1, 2, 3, 4]
    found = load_architecture(new, kind).config
    assert (found.eos_token_id, found.pad_token_id, found.decoder_start_token_id) == (2, 4, 4)


def test_ids_that_the_configuration_leaves_to_its_class_are_carried_over_too(tmp_path: Path) -> None:
    """LlamaConfig's defaults are 1 and 2, whether or not config.json says so."""
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    old = write_old(tmp_path / "old", "tied decoder", ids=ids)
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if name not in ids})
    )
    changed(old, tmp_path / "new", ["</s>", "[UNK]", "the", "heart"])
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "new").config
    assert config.eos_token_id == 0
    assert config.bos_token_id is None


def test_ids_in_a_nested_configuration_are_carried_over(tmp_path: Path) -> None:
    kind = "text part of a larger model"
    old = write_old(tmp_path / "old", kind)
    changed(old, tmp_path / "new", [*reversed(OLD)], multiple=8)
    text = load_architecture(tmp_path / "new", kind).config.text_config
    assert (text.vocab_size, text.bos_token_id, text.pad_token_id, text.eos_token_id) == (24, 16, 15, 14)


def test_generation_settings_are_carried_over_item_by_item(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder")
    given = {
        "eos_token_id": [OLD.index("</s>"), OLD.index("heart"), OLD.index("matter")],
        "pad_token_id": OLD.index("matter"),
        "suppress_tokens": [OLD.index("matter"), OLD.index("of")],
        "bad_words_ids": [[OLD.index("the"), OLD.index("heart")], [OLD.index("nine")]],
        "forced_eos_token_id": OLD.index("</s>"),
        "top_k": 7,
        "transformers_version": "5",
    }
    (old / "generation_config.json").write_text(json.dumps(given))
    changed(old, tmp_path / "new", multiple=8)
    at = NEW.index
    assert settings_of(tmp_path / "new") == {
        "eos_token_id": [at("</s>"), at("heart")],
        "pad_token_id": at("<pad>"),
        "suppress_tokens": [at("of"), 14, 15],
        "bad_words_ids": [[at("the"), at("heart")]],
        "forced_eos_token_id": at("</s>"),
        "top_k": 7,
        "transformers_version": "5",
    }


def test_rows_without_a_token_are_never_sampled(tmp_path: Path) -> None:
    old, new = write_old(tmp_path / "old", "tied decoder"), tmp_path / "new"
    changed(old, new, multiple=64)
    model = AutoModelForCausalLM.from_pretrained(new)
    assert settings_of(new)["suppress_tokens"] == list(range(len(NEW), 64))
    torch.manual_seed(0)
    ids = model.generate(
        torch.tensor([[0]] * 32),
        do_sample=True,
        max_new_tokens=20,
        min_new_tokens=20,
        temperature=9.0,
        top_k=0,
    )
    assert ids.max() < len(NEW)


def test_without_padding_nothing_is_suppressed(tmp_path: Path) -> None:
    changed(write_old(tmp_path / "old", "tied decoder"), tmp_path / "new")
    assert "suppress_tokens" not in settings_of(tmp_path / "new")


def test_generation_settings_are_made_from_the_configuration_where_there_are_none(tmp_path: Path) -> None:
    for kind in ("tied decoder", "masked encoder"):
        old = write_old(tmp_path / kind, kind)
        (old / "generation_config.json").unlink(missing_ok=True)
        changed(old, tmp_path / f"new {kind}", multiple=16)
    assert settings_of(tmp_path / "new tied decoder") == {
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "suppress_tokens": [14, 15],
    }
    assert not (tmp_path / "new masked encoder" / "generation_config.json").exists()


def test_rows_that_the_old_model_held_in_reserve_are_used_first_and_else_stay(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "untied decoder", rows=32)
    transfer = changed(old, tmp_path / "new", [*OLD, "hearts"])
    for (_, before), (_, after) in zip(matrices(old), matrices(tmp_path / "new"), strict=True):
        others = [token_id for token_id in range(32) if token_id not in transfer.new]
        assert torch.equal(before[others], after[others])
        assert not torch.equal(before[len(OLD)], after[len(OLD)])
    assert settings_of(tmp_path / "new")["suppress_tokens"] == list(range(len(OLD) + 1, 32))


def test_mean_rows_take_little_from_the_others(tmp_path: Path) -> None:
    """KL from before to after is the new rows' share: at most ln(1 + new / old rows) for mean rows."""
    old = write_old(tmp_path / "old", "tied decoder")
    changed(old, tmp_path / "new", OLD, multiple=64)
    text = torch.tensor([[0, 5, 6, 7, 8]])
    source, result = (
        outputs(load_architecture(folder, "tied decoder"), text) for folder in (old, tmp_path / "new")
    )
    kl = result.logsumexp(-1) - source.logsumexp(-1)
    assert (kl > 0).all()
    assert kl.max() <= math.log(64 / len(OLD)) + 1e-5


def test_files_without_embeddings_are_hard_linked(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "untied decoder", max_shard_size="8KB")
    changed(old, tmp_path / "new")
    files = sorted(old.glob("model-*.safetensors"))
    assert len(files) > 2
    changes = 0
    for file in files:
        with safe_open(file, "pt") as reader:
            has_rows = any("embed" in name or "lm_head" in name for name in reader.keys())  # noqa: SIM118
        assert (tmp_path / "new" / file.name).samefile(file) != has_rows
        changes += has_rows
    assert 0 < changes < len(files)
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    model = load_architecture(tmp_path / "new", "untied decoder")
    assert index["metadata"]["total_size"] == sum(4 * value.numel() for value in model.state_dict().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
def test_a_model_with_nan_is_refused_with_the_tensor_that_holds_it(
    dtype: torch.dtype, name: str, tmp_path: Path
) -> None:
    """Infinite values, which masks may have, pass."""
    old = write_old(tmp_path / "old", "tied decoder")
    file = old / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    tensors["model.norm.weight"].view(-1)[1] = -math.inf
    save_file(tensors, file, metadata={"format": "pt"})
    changed(old, tmp_path / "infinite")
    tensors[name].view(-1)[3] = math.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{name} in .* holds NaN"):
        changed(old, tmp_path / "new")
    assert not [file.name for file in (tmp_path / "new").iterdir() if "safetensors" in file.name]


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder")
    AutoModelForCausalLM.from_pretrained(old, dtype=torch.bfloat16).save_pretrained(old)
    transfer = changed(old, tmp_path / "new", multiple=8)
    (_, before), (_, after) = *matrices(old), *matrices(tmp_path / "new")
    assert before.dtype == after.dtype == torch.bfloat16
    assert torch.equal(after[transfer.shared_target], before[transfer.shared_source])


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_rule_that_leaves_rows_empty_is_refused(value: float, tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder")
    transfer = plan_transfer(old, write_tokenizer(tmp_path / "new", NEW), model=old)

    def rule(source_VH: torch.Tensor, role: Role) -> torch.Tensor:
        rows = torch.ones(len(transfer.new), source_VH.shape[1])
        rows[1] = value
        return rows

    with pytest.raises(
        StageFailed, match="1 of 3 new tied rows zero or not finite, such as that of 'kidney'"
    ):
        write_model(tmp_path / "new", transfer, rule)


def test_a_bias_may_be_zero(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "output bias")
    transfer = plan_transfer(old, write_tokenizer(tmp_path / "new", NEW), model=old)
    write_model(
        tmp_path / "new",
        transfer,
        lambda rows, role: torch.full((len(transfer.new), rows.shape[1]), float(role != "bias")),
    )
    bias = load_architecture(tmp_path / "new", "output bias").lm_head.bias
    assert not bias[transfer.new].any()


def test_a_model_that_counts_positions_from_padding_keeps_that_id(tmp_path: Path) -> None:
    """RoBERTa's positions start behind the padding token's id; another id would shift or overrun them."""
    old = write_old(tmp_path / "old", "masked encoder counting positions")
    with pytest.raises(StageFailed, match="must stay 1, in the new tokenizer it is 2"):
        changed(old, tmp_path / "new", ["<s>", "</s>", "<pad>", "[UNK]", "the"])


def test_a_tokenizer_with_ids_beyond_the_model_is_refused(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder", rows=10)
    with pytest.raises(DataError, match=r"ids up to 16, but the model in .* has 10 rows"):
        changed(old, tmp_path / "new")


def test_a_method_is_a_rule_with_the_defaults_of_its_parameters(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder")
    for name in ("method", "rule"):
        transfer = plan_transfer(old, write_tokenizer(tmp_path / name, NEW), model=old)
        chosen = method("subtoken-mean")
        write_model(
            tmp_path / name,
            transfer,
            chosen if name == "method" else chosen.prepare(transfer, chosen.parameters()),
        )
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("method", "rule")]
    assert files[0] == files[1]


def test_a_method_that_learns_from_texts_asks_for_them(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder")
    transfer = plan_transfer(old, write_tokenizer(tmp_path / "new", NEW), model=old)
    with pytest.raises(StageFailed, match="learnt from texts, and there are none"):
        write_model(tmp_path / "new", transfer, method("focus"))


def test_new_tokens_without_a_rule_are_refused(tmp_path: Path) -> None:
    old = write_old(tmp_path / "old", "tied decoder")
    transfer = plan_transfer(old, write_tokenizer(tmp_path / "new", NEW), model=old)
    with pytest.raises(StageFailed, match="3 new tokens need rows") as raised:
        write_model(tmp_path / "new", transfer, None)
    assert "method(" in str(raised.value.hint)


def test_new_tokens_are_named_beside_the_model_across_changes(tmp_path: Path) -> None:
    """Those that an earlier change brought stay new, wherever they move."""
    old = write_old(tmp_path / "old", "tied decoder")
    changed(old, tmp_path / "new")
    assert {NEW[token_id] for token_id in read_new_tokens(tmp_path / "new")} == {
        "hearts",
        "kidney",
        "kidneys",
    }
    again = [*SPECIAL, "the", "kidneys", "of", "kidneys of", "hearts"]
    changed(tmp_path / "new", tmp_path / "again", again)
    assert {again[token_id] for token_id in read_new_tokens(tmp_path / "again")} == {
        "kidneys",
        "kidneys of",
        "hearts",
    }


def test_paths_may_be_given_as_text(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    extend_tokenizer(str(tiny_model), clinical_texts(), "out", tokens=4)
    transfer = plan_transfer(str(tiny_model), "out", model=str(tiny_model))
    assert write_model("out", transfer, method("subtoken-mean"), pad_to_multiple_of=64) == 320
    assert read_new_tokens(tmp_path / "out") == (300, 301, 302, 303)
    assert AutoModelForCausalLM.from_pretrained("out").config.vocab_size == 320
