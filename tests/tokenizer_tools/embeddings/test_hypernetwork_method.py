"""Rows by a hypernetwork: in every architecture, by its folder, for variants, of tokens without text."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from made_hypernetworks import write_hypernetwork
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tiny_architectures import ARCHITECTURES, write_architecture
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer
from vocabulary_kinds import save

from cpt.errors import DataError, MissingInput
from cpt.models.weights import load_tensor, stored_tensors
from tokenizer_tools import change
from tokenizer_tools.change import change_model, check_initialisation
from tokenizer_tools.embeddings import method
from tokenizer_tools.hypernetwork.source import read_source
from tokenizer_tools.hypernetwork.surface_forms import surface_forms
from tokenizer_tools.settings import EmbeddingsConfig
from tokenizer_tools.transfer import Transfer, plan_transfer

METHOD = method("hypernetwork")
SPECIAL = ["<s>", "<pad>", "</s>"]
NEW = {"ab": ["a", "b"], "abc": ["a", "b", "c"], "cc": ["c", "c"]}
EMBEDDING = "model.embed_tokens.weight"


def byte_level(folder: Path, tokens: Sequence[str], special: Sequence[str] = SPECIAL) -> Path:
    """A tokenizer of some bytes and of tokens that merges make of them."""
    ids = {token: at for at, token in enumerate([*special, "a", "b", "c", *tokens])}
    merges = [("a", "b"), ("ab", "c"), ("c", "c")]
    kept = [pair for pair in merges if "".join(pair) in ids]
    tokenizer = Tokenizer(models.BPE(ids, kept))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return save(tokenizer, folder, dict(zip(("bos", "pad", "eos"), special, strict=True)))


def predicted(network: torch.nn.Module, source: Path, surfaces: Sequence[bytes]) -> dict[str, Tensor]:
    forms = surface_forms(read_source(source).vocabulary, surfaces, network.config.pieces)
    with torch.no_grad():
        return network(forms.ids_NL, forms.mask_NL)


@pytest.mark.parametrize("variant", ["residual", "zett"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture(kind: str, variant: str, tmp_path: Path) -> None:
    """New rows of every stored matrix are the network's, others are copied."""
    old = write_architecture(byte_level(tmp_path / "old", []), kind, 6)
    network = write_hypernetwork(tmp_path / "h", old, variant=variant)
    new = byte_level(tmp_path / "new", list(NEW))
    transfer = plan_transfer(old, new, old)
    change_model(
        EmbeddingsConfig(method="hypernetwork", folder=str(tmp_path / "h")),
        transfer,
        new,
        pad_to_multiple_of=1,
    )
    before, after = read_source(old).rows, read_source(new).rows
    expected = predicted(network, old, [token.encode() for token in NEW])
    assert after.keys() == before.keys() == expected.keys()
    for role, rows in after.items():
        torch.testing.assert_close(rows[6:], expected[role])
        assert torch.equal(rows[:6], before[role])


def write_variant(model: Path, output: Path, move: float = 0.01, **replaced: Tensor) -> Path:
    """A fine-tuned variant: every weight moved a little."""
    shutil.copytree(model, output)
    torch.manual_seed(9)
    tensors = load_file(model / "model.safetensors")
    moved = {name: each + move * each.std() * torch.randn_like(each) for name, each in tensors.items()}
    save_file({**moved, **replaced}, output / "model.safetensors", metadata={"format": "pt"})
    return output


@pytest.fixture
def transfer(tiny_model: Path, another_model: Callable[..., Path]) -> Transfer:
    """30 more tokens, and a special token that the source does not have."""
    target = another_model("target", vocabulary=330)
    tokenizer = AutoTokenizer.from_pretrained(target)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained(target)
    return plan_transfer(tiny_model, target, tiny_model)


def rows_of(transfer: Transfer, model: Path, **parameters: Path) -> Tensor:
    matrix = load_tensor(stored_tensors(model)[EMBEDDING], EMBEDDING)
    return METHOD.prepare(transfer, METHOD.parameters(**parameters))(matrix, "tied")


def test_a_new_special_token_gets_the_mean_of_the_source_rows(transfer: Transfer, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "h", transfer.model)
    rows = rows_of(transfer, transfer.model, folder=tmp_path / "h")
    matrix = read_source(transfer.model).rows["tied"]
    torch.testing.assert_close(rows[-1], matrix.mean(0))
    facts = METHOD.facts(transfer, METHOD.parameters(folder=tmp_path / "h"))
    assert (facts["predicted"], facts["without_text"]) == (30, 1)
    assert (facts["spelt_by_bytes"], facts["pieces_cut_off"]) == (0, 0)


def test_predicted_shared_tokens_are_new_ones_of_one_piece(transfer: Transfer, tmp_path: Path) -> None:
    """Those with text; special tokens stay copied. By default nothing moves."""
    assert METHOD.remake(transfer, METHOD.parameters(folder=tmp_path)) is transfer
    made = METHOD.remake(transfer, METHOD.parameters(folder=tmp_path, shared="predicted"))
    assert [transfer.target.tokens[at] for at in made.shared_target] == ["<s>", "</s>"]
    plain = {
        at: [was] for was, at in zip(transfer.shared_source, transfer.shared_target, strict=True) if at > 1
    }
    new = dict(zip(transfer.new, transfer.pieces, strict=True))
    assert dict(zip(made.new, made.pieces, strict=True)) == plain | new
    assert (np.diff(made.new) > 0).all()


def test_an_untrained_residual_of_the_mean_is_the_subtoken_mean(transfer: Transfer, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "h", transfer.model, changed=False, residual="mean", pieces=12)
    rows = rows_of(transfer, transfer.model, folder=tmp_path / "h")
    mean = method("subtoken-mean")
    expected = mean.prepare(transfer, mean.parameters())(read_source(transfer.model).rows["tied"], "tied")
    torch.testing.assert_close(rows, expected)


def test_tokens_of_many_pieces_are_cut_off_and_counted(transfer: Transfer, tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "h", transfer.model, pieces=2)
    facts = METHOD.facts(transfer, METHOD.parameters(folder=tmp_path / "h"))
    assert facts["pieces_cut_off"] == sum(len(pieces) > 2 for pieces in transfer.pieces) > 0


def test_bytes_that_the_source_cannot_spell_are_counted(tmp_path: Path) -> None:
    old = write_architecture(byte_level(tmp_path / "old", []), "tied decoder", 6)
    network = write_hypernetwork(tmp_path / "h", old)
    new = byte_level(tmp_path / "new", ["d"])
    transfer = plan_transfer(old, new, old)
    [row] = rows_of(transfer, old, folder=tmp_path / "h")
    torch.testing.assert_close(row, predicted(network, old, [b"d"])["tied"][0])
    facts = METHOD.facts(transfer, METHOD.parameters(folder=tmp_path / "h"))
    assert facts["spelt_by_bytes"] == 1


def test_a_variant_gets_the_rows_of_its_base(transfer: Transfer, tmp_path: Path) -> None:
    base = transfer.model
    write_hypernetwork(tmp_path / "h", base)
    variant = write_variant(base, tmp_path / "variant")
    changed = plan_transfer(variant, transfer.target, variant)
    with pytest.raises(DataError, match="its embeddings have other values"):
        rows_of(changed, variant, folder=tmp_path / "h")
    rows = rows_of(changed, variant, folder=tmp_path / "h", base=base)
    assert torch.equal(rows[:30], rows_of(transfer, base, folder=tmp_path / "h")[:30])


def test_the_base_may_be_a_gguf_file(
    transfer: Transfer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hypernetwork(tmp_path / "h", transfer.model)
    variant = write_variant(transfer.model, tmp_path / "variant")
    asked = []
    monkeypatch.setattr(change, "resolve_model", lambda reference: asked.append(reference) or transfer.model)
    embeddings = {"method": "hypernetwork", "folder": str(tmp_path / "h"), "base": "base.gguf"}
    check_initialisation(EmbeddingsConfig.model_validate(embeddings), variant)
    assert asked == ["base.gguf"]


def test_a_model_that_is_no_variant_is_refused(
    transfer: Transfer, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    base = transfer.model
    write_hypernetwork(tmp_path / "h", base)
    stranger = another_model("stranger", seed=3)
    untied = write_variant(base, tmp_path / "untied", **{"lm_head.weight": torch.randn(300, 32)})
    refusals = {stranger: "mean cosine of", untied: "other embeddings"}
    (untied / "config.json").write_text(
        (untied / "config.json")
        .read_text()
        .replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
    )
    for model, reason in refusals.items():
        embeddings = EmbeddingsConfig(method="hypernetwork", folder=str(tmp_path / "h"), base=str(base))
        with pytest.raises(DataError, match=f"is no fine-tuned variant of .*{reason}"):
            check_initialisation(embeddings, model)
        with pytest.raises(DataError, match=f"is no fine-tuned variant of .*{reason}"):
            rows_of(plan_transfer(model, transfer.target, model), model, folder=tmp_path / "h", base=base)


def test_a_model_with_more_tokens_fits(
    transfer: Transfer, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    """A model whose vocabulary was extended before still has the rows that the hypernetwork reads."""
    write_hypernetwork(tmp_path / "h", transfer.model)
    longer = another_model("longer", vocabulary=310)
    change_model(
        EmbeddingsConfig(),
        plan_transfer(transfer.model, longer, transfer.model),
        longer,
        pad_to_multiple_of=1,
    )
    again = plan_transfer(longer, transfer.target, longer)
    assert len(again.new) == 21
    rows = rows_of(again, longer, folder=tmp_path / "h")
    expected = rows_of(transfer, transfer.model, folder=tmp_path / "h")
    torch.testing.assert_close(rows[:20], expected[10:30])


def test_the_folder_must_be_given_and_be_one(tiny_model: Path) -> None:
    with pytest.raises(ValidationError, match="hypernetwork needs folder"):
        EmbeddingsConfig(method="hypernetwork")
    with pytest.raises(ValidationError, match="hypernetwork needs folder"):
        EmbeddingsConfig(method="hypernetwork", base=str(tiny_model))
    with pytest.raises(DataError, match="needs the folder"):
        METHOD.check(tiny_model, METHOD.parameters())
    with pytest.raises(MissingInput, match="is no hypernetwork"):
        check_initialisation(EmbeddingsConfig(method="hypernetwork", folder=str(tiny_model)), tiny_model)
