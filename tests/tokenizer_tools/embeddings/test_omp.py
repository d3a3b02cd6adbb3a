"""Rows by a donor and matching pursuit: exact where donor space is base space moved, every parameter."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, write_tiny_model

from cpt.errors import DataError, StageFailed
from tokenizer_tools.embeddings import Role, method
from tokenizer_tools.transfer import Transfer, plan_transfer

EMBEDDING = "model.embed_tokens.weight"


def set_rows(folder: Path, **rows: torch.Tensor) -> None:
    """Give a model folder other embedding rows; with `output` rows it ties them no longer."""
    names = {"input": EMBEDDING, "output": "lm_head.weight"}
    tensors = load_file(folder / "model.safetensors")
    tensors.update({names[side]: matrix.contiguous() for side, matrix in rows.items()})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if "output" in rows:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))


def rows_of(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[EMBEDDING]


def made(name: str, transfer: Transfer, role: Role = "input", **parameters: Any) -> torch.Tensor:
    found = method(name)
    return found.prepare(transfer, found.parameters(**parameters))(rows_of(transfer.model), role)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of 300 tokens and a donor of 320, which has them too."""
    folder = tmp_path_factory.mktemp("models")
    return write_tiny_model(folder / "base"), write_tiny_model(folder / "donor", seed=1, vocabulary=320)


@pytest.fixture
def donor(models: tuple[Path, Path], tmp_path: Path) -> Path:
    """A donor that may be changed."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for file in models[1].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def transfer(models: tuple[Path, Path]) -> Transfer:
    base, donor = models
    found = plan_transfer(base, donor, base)
    assert len(found.new) == 20
    return found


def moved(transfer: Transfer, width: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Donor rows that are base rows, turned into `width` dimensions; and the new tokens' base rows."""
    generator = torch.Generator().manual_seed(3)
    base_VH = torch.zeros(len(transfer.target.tokens), 32)
    base_VH[transfer.shared_target] = rows_of(transfer.model)[transfer.shared_source]
    base_VH[transfer.new] = 0.02 * torch.randn(len(transfer.new), 32, generator=generator)
    turn_DD = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return scale * base_VH @ turn_DD[:32], base_VH[transfer.new]


@pytest.mark.parametrize(("width", "scale"), [(32, 1.0), (48, 5.0)])
def test_a_donor_that_is_the_base_moved_gives_the_base_row(
    width: int, scale: float, transfer: Transfer, donor: Path
) -> None:
    donor_VD, expected = moved(transfer, width, scale)
    set_rows(donor, input=donor_VD)
    found = made("omp", transfer, donor=donor)
    assert torch.allclose(found, expected, atol=2e-5)


def test_rows_are_ordinary_and_repeatable(models: tuple[Path, Path], transfer: Transfer) -> None:
    rows, again = (made("omp", transfer, donor=models[1]) for _ in range(2))
    assert rows.shape == (20, 32)
    assert torch.equal(rows, again)
    assert rows.isfinite().all()
    assert (rows.norm(dim=1) > 0).all()


def test_rows_have_the_matrix_type(models: tuple[Path, Path], transfer: Transfer) -> None:
    found = method("omp")
    rule = found.prepare(transfer, found.parameters(donor=models[1]))
    assert rule(rows_of(transfer.model).bfloat16(), "tied").dtype == torch.bfloat16


@pytest.mark.parametrize("change", [{"k": 2}, {"around_mean": False}])
def test_every_parameter_changes_the_rows(change: dict[str, Any], transfer: Transfer, donor: Path) -> None:
    set_rows(donor, input=3 * rows_of(donor))
    assert not torch.allclose(
        made("omp", transfer, donor=donor), made("omp", transfer, donor=donor, **change), rtol=1e-3
    )


def test_another_donor_gives_other_rows(models: tuple[Path, Path], transfer: Transfer, donor: Path) -> None:
    set_rows(donor, input=rows_of(donor).flip(1) * torch.linspace(1, 2, 320)[:, None])
    assert not torch.allclose(
        made("omp", transfer, donor=models[1]), made("omp", transfer, donor=donor), rtol=1e-3
    )


def weights_of(name: str, transfer: Transfer, role: Role = "input", **parameters: Any) -> torch.Tensor:
    """[N, V] of a method that combines rows: its rows for the unit matrix."""
    found = method(name)
    return found.prepare(transfer, found.parameters(**parameters))(torch.eye(300), role)


def test_pursuit_takes_k_shared_tokens(models: tuple[Path, Path], transfer: Transfer) -> None:
    weights = weights_of("omp", transfer, donor=models[1], k=3, around_mean=False)
    assert ((weights != 0).sum(1) == 3).all()
    assert torch.equal(weights_of("omp", transfer, "bias", donor=models[1], k=3, around_mean=False), weights)


def test_pursuit_around_the_mean_keeps_what_all_rows_share(
    models: tuple[Path, Path], transfer: Transfer
) -> None:
    found = method("omp")
    rule = found.prepare(transfer, found.parameters(donor=models[1], k=3))
    source = rows_of(transfer.model)
    assert torch.allclose(rule(source + 5, "input"), rule(source, "input") + 5, atol=1e-4)
    weights = weights_of("omp", transfer, donor=models[1], k=3)
    assert torch.allclose(weights.sum(1), torch.ones(20), atol=1e-5)


def test_a_donor_with_two_embeddings_gives_output_rows_from_its_output(
    transfer: Transfer, donor: Path
) -> None:
    other = 2 * rows_of(donor).flip(0)
    reading = made("omp", transfer, "input", donor=donor)
    set_rows(donor, output=other)
    assert torch.allclose(made("omp", transfer, "input", donor=donor), reading, rtol=1e-3)
    writing = made("omp", transfer, "output", donor=donor)
    set_rows(donor, input=other)
    assert torch.allclose(made("omp", transfer, "input", donor=donor), writing, rtol=1e-3)


def test_tokens_that_the_donor_lacks_are_the_mean_of_their_pieces(transfer: Transfer, donor: Path) -> None:
    set_rows(donor, input=rows_of(donor)[:310])
    config = json.loads((donor / "config.json").read_text())
    (donor / "config.json").write_text(json.dumps(config | {"vocab_size": 310}))
    lacking = transfer.new >= 310
    assert 0 < lacking.sum() < 20
    rows, means = made("omp", transfer, donor=donor), made("subtoken-mean", transfer)
    equal = (rows == means).all(1).numpy()
    assert (equal == lacking).all()


def test_without_shared_tokens_rows_are_means_of_pieces(
    models: tuple[Path, Path], transfer: Transfer
) -> None:
    none = np.empty(0, dtype=np.int64)
    alone = replace(transfer, shared_source=none, shared_target=none)
    assert torch.equal(made("omp", alone, donor=models[1]), made("subtoken-mean", alone))


def test_without_a_donor_a_helper_is_learnt_from_the_texts(transfer: Transfer) -> None:
    assert method("omp").needs_texts
    small = {"helper_width": 32, "helper_layers": 1, "helper_tokens": 3000, "helper_min_count": 2}
    rows, again = (
        made("omp", replace(transfer, texts=lambda: iter(SENTENCES * 20)), **small) for _ in range(2)
    )
    assert torch.equal(rows, again)
    assert not torch.allclose(rows, made("subtoken-mean", transfer), rtol=1e-2)


def test_neither_donor_nor_texts(transfer: Transfer) -> None:
    with pytest.raises(StageFailed, match="learnt from texts, and there are none"):
        made("omp", transfer)


def test_a_donor_with_another_tokenizer_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    base, donor = models
    with pytest.raises(DataError, match=r"another tokenizer than the target: its token \d+ is"):
        made("omp", plan_transfer(base, base, base), donor=_reordered(donor, tmp_path))


def _reordered(donor: Path, folder: Path) -> Path:
    """The donor with two tokens of its tokenizer exchanged."""
    for file in donor.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    data = json.loads((folder / "tokenizer.json").read_text())
    ids = data["model"]["vocab"]
    ids["A"], ids["B"] = ids["B"], ids["A"]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return folder


def test_omp_takes_what_mergekit_takes(models: tuple[Path, Path], transfer: Transfer) -> None:
    from mergekit.tokensurgeon import batch_omp

    donor, base = rows_of(models[1]), rows_of(models[0])
    indices, coefficients = batch_omp(donor[transfer.new], donor[transfer.shared_target], 16)
    expected = (coefficients[:, None] @ base[transfer.shared_source][indices]).squeeze(1)
    assert torch.allclose(
        made("omp", transfer, donor=models[1], k=16, around_mean=False), expected, rtol=1e-3, atol=1e-5
    )


def test_mergekits_subword_is_the_subtoken_mean(transfer: Transfer) -> None:
    from mergekit.tokensurgeon import subword_approximate
    from transformers import AutoTokenizer

    tokens = [transfer.target.surfaces[i].decode() for i in transfer.new]  # type: ignore[union-attr]
    tokenizer = AutoTokenizer.from_pretrained(transfer.model, local_files_only=True)
    theirs = subword_approximate(rows_of(transfer.model), tokens, False, tokenizer)
    assert torch.allclose(made("subtoken-mean", transfer), theirs, atol=1e-6)
