"""CLP-Transfer: closed form with a helper made by hand, the paper's setting and ours, what has no sum."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_transfers import ROLES, made_rows, matrix
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, write_tiny_model

from cpt.errors import CptError, StageFailed
from tokenizer_tools.embeddings import _weights
from tokenizer_tools.embeddings.clp import shares
from tokenizer_tools.transfer import Transfer, plan_transfer

EMBEDDING = "model.embed_tokens.weight"
PAPER = {"clip": False, "top_k": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def helper(folder: Path) -> Path:
    """A helper whose cosines have a large sum: its rows have a common part."""
    target = write_tiny_model(folder / "new", vocabulary=330)
    set_rows(target, matrix(330, 32, seed=5) + 0.2)
    return target


@pytest.fixture(scope="module")
def transfer(folder: Path, helper: Path) -> Transfer:
    source = write_tiny_model(folder / "old")
    return plan_transfer(source, helper, source)


@pytest.fixture(scope="module")
def with_texts(transfer: Transfer) -> Transfer:
    return replace(transfer, texts=lambda: iter(SENTENCES * 20))


@pytest.fixture(scope="module")
def by_texts(with_texts: Transfer) -> torch.Tensor:
    """Rows by a helper that is learned from the texts, with seed 0."""
    return made_rows("clp", with_texts, matrix(300), **SMALL)


def set_rows(model: Path, rows: torch.Tensor) -> torch.Tensor:
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {EMBEDDING: rows}, model / "model.safetensors", metadata={"format": "pt"})
    return rows


def made(transfer: Transfer, helper: Path, **parameters: Any) -> torch.Tensor:
    """[N, V] the weights: rows for the unit matrix."""
    return made_rows("clp", transfer, torch.eye(300), donor=helper, **parameters)


def cosines(transfer: Transfer, helper: Path) -> torch.Tensor:
    """[N, O] of new tokens and shared ones in the helper."""
    rows = load_file(helper / "model.safetensors")[EMBEDDING]
    return torch.cosine_similarity(rows[transfer.new][:, None], rows[transfer.shared_target][None], dim=2)


def test_the_papers_rule(transfer: Transfer, helper: Path) -> None:
    found, source = cosines(transfer, helper), matrix(300, 7)
    expected = (found / found.sum(1, keepdim=True)) @ source[transfer.shared_source]
    rows = made_rows("clp", transfer, source, donor=helper, **PAPER)
    assert torch.allclose(rows, expected, rtol=1e-3, atol=1e-5)
    assert (found < 0).any()


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("top_k", [1, 4, 100_000, None])
def test_weights_in_closed_form(clip: bool, top_k: int | None, transfer: Transfer, helper: Path) -> None:
    found = cosines(transfer, helper)
    kept = found.clamp(min=0) if clip else found
    if top_k == 4:
        kept = torch.where(kept >= kept.topk(4, dim=1).values[:, -1:], kept, 0)
    if top_k == 1:
        kept = (kept == kept.amax(1, keepdim=True)).float()
    expected = torch.zeros(len(transfer.new), 300)
    expected[:, transfer.shared_source] = kept / kept.sum(1, keepdim=True)
    weights = made(transfer, helper, clip=clip, top_k=top_k)
    assert torch.allclose(weights, expected, rtol=1e-3, atol=1e-5)
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
    assert not clip or (weights >= 0).all()


def test_the_default_is_convex_and_sparse(transfer: Transfer, helper: Path) -> None:
    weights = made(transfer, helper)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)))
    assert ((weights > 0).sum(1) <= 5).all()


@pytest.mark.parametrize("top_k", [3, None])
def test_every_matrix_has_the_same_weights(top_k: int | None, transfer: Transfer, helper: Path) -> None:
    source = matrix(300, 5)
    rows = {role: made_rows("clp", transfer, source, role, donor=helper, top_k=top_k) for role in ROLES}
    assert all(torch.equal(rows["input"], other) for other in rows.values())
    bias = made_rows("clp", transfer, source[:, :1], "bias", donor=helper, top_k=top_k)
    assert torch.allclose(bias, rows["output"][:, :1], atol=1e-6)
    half = made_rows("clp", transfer, source.bfloat16(), "tied", donor=helper, top_k=top_k)
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("top_k", [3, None])
def test_parts_give_the_same_rows(
    top_k: int | None, transfer: Transfer, helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(transfer, helper, top_k=top_k)
    monkeypatch.setattr(_weights, "_CHUNK_ELEMENTS", 2000)
    assert torch.allclose(made(transfer, helper, top_k=top_k), whole, atol=1e-6)


def test_shares_without_a_sum_are_none() -> None:
    rows = torch.tensor([[0.5, -0.5], [-0.2, -0.4], [0.6, 0.2]])
    assert torch.allclose(shares(rows, True, None), torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.75, 0.25]]))
    assert torch.allclose(shares(rows, False, None), torch.tensor([[0.0, 0.0], [1 / 3, 2 / 3], [0.75, 0.25]]))
    assert torch.equal(shares(torch.zeros(1, 3), False, 2), torch.zeros(1, 3))


@pytest.mark.parametrize("parameters", [{}, {"top_k": None}, {"top_k": 2, "clip": False}])
def test_what_the_helper_does_not_know_is_the_mean_of_its_pieces(
    parameters: dict[str, Any], transfer: Transfer, helper: Path, tmp_path: Path
) -> None:
    """Unknown are tokens with a zero row; shared ones among them take no part."""
    for file in helper.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = load_file(helper / "model.safetensors")[EMBEDDING]
    rows[transfer.new[:4]] = rows[transfer.shared_target[:50]] = 0
    set_rows(tmp_path, rows)
    weights, pieces = (
        made(transfer, tmp_path, **parameters),
        made_rows("subtoken-mean", transfer, torch.eye(300)),
    )
    assert torch.equal(weights[:4], pieces[:4])
    assert not weights[4:, transfer.shared_source[:50]].any()


@pytest.mark.parametrize("parameters", [{}, {"top_k": None}])
def test_cosines_that_are_all_negative_give_the_mean_of_pieces(
    parameters: dict[str, Any], transfer: Transfer, helper: Path, tmp_path: Path
) -> None:
    for file in helper.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = matrix(330, 32).abs()
    rows[transfer.new[0]] *= -1
    set_rows(tmp_path, rows)
    weights = made(transfer, tmp_path, **parameters)
    assert torch.equal(weights[0], made_rows("subtoken-mean", transfer, torch.eye(300))[0])
    assert not torch.equal(weights[1], made_rows("subtoken-mean", transfer, torch.eye(300))[1])


def test_a_donor_with_two_embeddings(transfer: Transfer, helper: Path, tmp_path: Path) -> None:
    """Input rows follow the helper's input rows, output rows its output rows."""
    for file in helper.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(helper / "model.safetensors")
    tensors["lm_head.weight"] = tensors[EMBEDDING].flip(0).contiguous()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    source = matrix(300)
    reading, writing = (
        made_rows("clp", transfer, source, role, donor=tmp_path) for role in ("input", "output")
    )
    assert torch.equal(reading, made_rows("clp", transfer, source, donor=helper))
    assert not torch.allclose(reading, writing)


SMALL = {"helper_width": 32, "helper_layers": 1, "helper_tokens": 4000, "helper_min_count": 2}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"helper_width": 64},
        {"helper_layers": 2},
        {"helper_tokens": 8000},
        {"helper_min_count": 20},
        {"top_k": 2},
        {"clip": False, "top_k": None},
    ],
)
def test_a_helper_is_learnt_from_the_texts(
    change: dict[str, Any], with_texts: Transfer, by_texts: torch.Tensor
) -> None:
    changed = made_rows("clp", with_texts, matrix(300), **SMALL | change)
    assert by_texts.isfinite().all()
    assert torch.equal(by_texts, changed) == (not change)


def test_seeds(with_texts: Transfer, by_texts: torch.Tensor) -> None:
    assert not torch.equal(made_rows("clp", replace(with_texts, seed=1), matrix(300), **SMALL), by_texts)


def test_neither_helper_nor_texts(transfer: Transfer) -> None:
    with pytest.raises(StageFailed, match="there are none"):
        made_rows("clp", transfer, matrix(300))


def test_a_helper_with_another_tokenizer(transfer: Transfer, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path)
    data = json.loads((other / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (other / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(CptError, match="another tokenizer than the target"):
        made_rows("clp", transfer, matrix(300), donor=other)
