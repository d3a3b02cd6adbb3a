"""Rows by a donor and orthogonal matching pursuit, and the pursuit itself."""

from __future__ import annotations

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
from tokenizer_tools.embeddings import Role, method, omp
from tokenizer_tools.embeddings.omp import (
    exact_search,
    orthogonal_matching_pursuit,
    screened_search,
)
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


SEARCHES = pytest.mark.parametrize("screen", [True, False], ids=["bfloat16 first", "float32"])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embedding_like(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Rows of varied length that share a direction and have a few strong dimensions."""
    spread = torch.logspace(0, -1, width) * (0.5 + normal(rows, 1, seed=seed + 1).abs())
    return normal(rows, width, seed=seed) * spread + 0.3


def plain(target: np.ndarray, atoms: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    """The textbook's loop: take the atom, solve least squares for all that were taken."""
    taken: list[int] = []
    residual = target
    for _ in range(k):
        products = np.abs(atoms @ residual)
        products[taken] = -1
        taken.append(int(products.argmax()))
        coefficients = np.linalg.lstsq(atoms[taken].T, target, rcond=None)[0]
        residual = target - coefficients @ atoms[taken]
    return taken, coefficients


def approximations(targets: torch.Tensor, atoms: torch.Tensor, k: int, screen: bool) -> torch.Tensor:
    indices, coefficients = orthogonal_matching_pursuit(targets, atoms, k, screen=screen)
    return (coefficients[:, None] @ atoms[indices]).squeeze(1)


@SEARCHES
def test_equals_a_plain_loop(screen: bool) -> None:
    targets, atoms = embedding_like(20, 16, seed=5), embedding_like(50, 16)
    indices, coefficients = orthogonal_matching_pursuit(targets, atoms, 8, screen=screen)
    for target, taken, weights in zip(targets, indices, coefficients, strict=True):
        expected, least_squares = plain(target.double().numpy(), atoms.double().numpy(), 8)
        assert taken.tolist() == expected
        assert np.allclose(weights.numpy(), least_squares, rtol=1e-3, atol=1e-4)


@SEARCHES
def test_recovers_a_sum_of_two_atoms(screen: bool) -> None:
    atoms = torch.nn.functional.normalize(normal(40, 64))
    targets = torch.stack([2 * atoms[3] - 0.5 * atoms[17], atoms[8] + 0.7 * atoms[0], -atoms[30]])
    indices, coefficients = orthogonal_matching_pursuit(targets, atoms, 10, screen=screen)
    weights = torch.zeros(3, 40).scatter_add_(1, indices, coefficients)
    expected = torch.zeros(3, 40)
    expected[0, 3], expected[0, 17], expected[1, 8], expected[1, 0], expected[2, 30] = 2, -0.5, 1, 0.7, -1
    assert torch.allclose(weights, expected, atol=1e-5)


@SEARCHES
def test_residual_falls_to_nothing_at_full_width(screen: bool) -> None:
    targets, atoms = embedding_like(12, 24, seed=7), embedding_like(200, 24)
    residuals = torch.stack(
        [(targets - approximations(targets, atoms, k, screen)).norm(dim=1) for k in range(1, 25)]
    )
    assert (residuals[1:] <= residuals[:-1] + 1e-5).all()
    assert (residuals[-1] < 1e-3 * targets.norm(dim=1)).all()


@SEARCHES
def test_k_is_at_most_atoms_and_width(screen: bool) -> None:
    assert orthogonal_matching_pursuit(normal(2, 8), normal(5, 8), 64, screen=screen)[0].shape == (2, 5)
    assert orthogonal_matching_pursuit(normal(2, 8), normal(50, 8), 64, screen=screen)[0].shape == (2, 8)


@SEARCHES
def test_atoms_that_depend_on_each_other(screen: bool) -> None:
    atoms = torch.cat([normal(3, 16), normal(3, 16), torch.zeros(1, 16)])
    targets = torch.cat([normal(4, 16, seed=9), torch.zeros(1, 16)])
    made = approximations(targets, atoms, 7, screen)
    projected = targets @ torch.linalg.pinv(atoms) @ atoms
    assert torch.allclose(made, projected, atol=1e-4)


@SEARCHES
def test_no_targets(screen: bool) -> None:
    indices, coefficients = orthogonal_matching_pursuit(normal(0, 8), normal(5, 8), 3, screen=screen)
    assert indices.shape == coefficients.shape == (0, 3)


def test_parts_and_repetitions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, atoms = embedding_like(40, 16, seed=3), embedding_like(90, 16)
    whole = orthogonal_matching_pursuit(targets, atoms, 6)
    again = orthogonal_matching_pursuit(targets, atoms, 6)
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    monkeypatch.setattr(omp, "_CHUNK_ELEMENTS", 900)
    parts = orthogonal_matching_pursuit(targets, atoms, 6)
    assert torch.equal(parts[0], whole[0])
    assert torch.allclose(parts[1], whole[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("close", [0.0, 1e-6, 1e-4, 1e-2])
def test_bfloat16_search_finds_what_float32_finds_among_near_equals(close: float) -> None:
    """Twins of every atom differ by less than bfloat16 can tell."""
    atoms = embedding_like(300, 32)
    twins = torch.cat([atoms, atoms * (1 + close * normal(300, 1, seed=4))])
    residuals = embedding_like(200, 32, seed=8)
    found, exact = screened_search(twins)(residuals), exact_search(twins)(residuals)
    products = (residuals.double() @ twins.double().T).abs()
    assert torch.allclose(
        products.gather(1, found[:, None]), products.gather(1, exact[:, None]), rtol=1e-6, atol=0
    )
    if close >= 1e-4:
        assert torch.equal(found, exact)


def test_bfloat16_search_among_atoms_that_are_all_alike() -> None:
    atoms = torch.ones(2000, 8) + 1e-6 * normal(2000, 8)
    residuals = normal(4, 8, seed=1)
    assert torch.equal(screened_search(atoms)(residuals), exact_search(atoms)(residuals))
