"""Transplants from a donor: exact where donor space is base space moved, and what each parameter does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, write_tiny_model
from tokenizer_tools.embeddings.common_interpolation import Metric, Weights, interpolations
from tokenizer_tools.embeddings.landmark_pca import rotated
from tokenizer_tools.embeddings.mp_rope import Rotary, pursue, rotary
from tokenizer_tools.embeddings.stb import transplanted

from cpt.errors import DataError, StageFailed
from tokenizer_tools.embeddings import Role, method
from tokenizer_tools.transfer import Transfer, plan_transfer

METHODS = ["omp", "common-interpolation", "landmark-pca", "stb", "mp-rope"]
MAPPING = ["landmark-pca", "stb", "mp-rope"]
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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("omp", {}), ("landmark-pca", {}), ("stb", {}), ("common-interpolation", {"weights": "least-squares"})],
)
@pytest.mark.parametrize(("width", "scale"), [(32, 1.0), (48, 5.0)])
def test_a_donor_that_is_the_base_moved_gives_the_base_row(
    name: str, parameters: dict[str, Any], width: int, scale: float, transfer: Transfer, donor: Path
) -> None:
    donor_VD, expected = moved(transfer, width, scale)
    set_rows(donor, input=donor_VD)
    found = made(name, transfer, donor=donor, **parameters)
    assert torch.allclose(found, expected, atol=2e-5)


def test_rotation_of_a_narrower_donor() -> None:
    """Base rows that lie in a plane of their space: the donor's two dimensions, turned and scaled."""
    generator = torch.Generator().manual_seed(0)
    donor_OD, targets_KD = torch.randn(50, 2, generator=generator), torch.randn(3, 2, generator=generator)
    plane_DH = torch.linalg.qr(torch.randn(5, 2, generator=generator)).Q.T
    base_OH = 3 * donor_OD @ plane_DH + 1
    assert torch.allclose(
        rotated(targets_KD, donor_OD, base_OH, True), 3 * targets_KD @ plane_DH + 1, atol=1e-4
    )
    unscaled = rotated(targets_KD, donor_OD, base_OH, False) - base_OH.mean(0)
    assert torch.allclose(unscaled, (targets_KD - donor_OD.mean(0)) @ plane_DH, atol=1e-4)


def test_sparse_basis_of_a_narrower_donor() -> None:
    """Any linear map of a narrower donor is found, since all of its space has coordinates."""
    generator = torch.Generator().manual_seed(0)
    donor_OD, targets_KD = torch.randn(50, 4, generator=generator), torch.randn(3, 4, generator=generator)
    map_DH = torch.randn(4, 9, generator=generator)
    for k in (1, 4):
        found = transplanted(targets_KD, donor_OD, donor_OD @ map_DH - 2, k)
        assert torch.allclose(found, targets_KD @ map_DH - 2, atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_rows_are_ordinary_and_repeatable(name: str, models: tuple[Path, Path], transfer: Transfer) -> None:
    rows, again = (made(name, transfer, donor=models[1]) for _ in range(2))
    assert rows.shape == (20, 32)
    assert torch.equal(rows, again)
    assert rows.isfinite().all()
    assert (rows.norm(dim=1) > 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_rows_have_the_matrix_type(name: str, models: tuple[Path, Path], transfer: Transfer) -> None:
    found = method(name)
    rule = found.prepare(transfer, found.parameters(donor=models[1]))
    assert rule(rows_of(transfer.model).bfloat16(), "tied").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("omp", {"k": 2}),
        ("omp", {"around_mean": False}),
        ("mp-rope", {"around_mean": False}),
        ("common-interpolation", {"k": 2}),
        ("common-interpolation", {"metric": "cosine"}),
        ("common-interpolation", {"weights": "barycentric"}),
        ("common-interpolation", {"weights": "least-squares"}),
        ("landmark-pca", {"scale": False}),
        ("stb", {"k": 2}),
        ("mp-rope", {"k": 2}),
    ],
)
def test_every_parameter_changes_the_rows(
    name: str, change: dict[str, Any], transfer: Transfer, donor: Path
) -> None:
    set_rows(donor, input=3 * rows_of(donor))
    assert not torch.allclose(
        made(name, transfer, donor=donor), made(name, transfer, donor=donor, **change), rtol=1e-3
    )


@pytest.mark.parametrize("name", METHODS)
def test_another_donor_gives_other_rows(
    name: str, models: tuple[Path, Path], transfer: Transfer, donor: Path
) -> None:
    set_rows(donor, input=rows_of(donor).flip(1) * torch.linspace(1, 2, 320)[:, None])
    assert not torch.allclose(
        made(name, transfer, donor=models[1]), made(name, transfer, donor=donor), rtol=1e-3
    )


def weights_of(name: str, transfer: Transfer, role: Role = "input", **parameters: Any) -> torch.Tensor:
    """[N, V] of a method that combines rows: its rows for the unit matrix."""
    found = method(name)
    return found.prepare(transfer, found.parameters(**parameters))(torch.eye(300), role)


def test_interpolation_is_a_mean_of_k_shared_tokens(models: tuple[Path, Path], transfer: Transfer) -> None:
    weights = weights_of("common-interpolation", transfer, donor=models[1], k=3)
    assert ((weights != 0).sum(1) == 3).all()
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(20))
    assert torch.equal(weights_of("common-interpolation", transfer, "bias", donor=models[1], k=3), weights)


def test_pursuit_takes_k_shared_tokens(models: tuple[Path, Path], transfer: Transfer) -> None:
    weights = weights_of("omp", transfer, donor=models[1], k=3, around_mean=False)
    assert ((weights != 0).sum(1) == 3).all()
    assert torch.equal(weights_of("omp", transfer, "bias", donor=models[1], k=3, around_mean=False), weights)


@pytest.mark.parametrize("name", ["omp", "mp-rope"])
def test_pursuit_around_the_mean_keeps_what_all_rows_share(
    name: str, models: tuple[Path, Path], transfer: Transfer
) -> None:
    found = method(name)
    rule = found.prepare(transfer, found.parameters(donor=models[1], k=3))
    source = rows_of(transfer.model)
    assert torch.allclose(rule(source + 5, "input"), rule(source, "input") + 5, atol=1e-4)
    if name == "omp":
        weights = weights_of(name, transfer, donor=models[1], k=3)
        assert torch.allclose(weights.sum(1), torch.ones(20), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_donor_with_two_embeddings_gives_output_rows_from_its_output(
    name: str, transfer: Transfer, donor: Path
) -> None:
    other = 2 * rows_of(donor).flip(0)
    reading = made(name, transfer, "input", donor=donor)
    set_rows(donor, output=other)
    assert torch.allclose(made(name, transfer, "input", donor=donor), reading, rtol=1e-3)
    writing = made(name, transfer, "output", donor=donor)
    set_rows(donor, input=other)
    assert torch.allclose(made(name, transfer, "input", donor=donor), writing, rtol=1e-3)


@pytest.mark.parametrize("name", MAPPING)
def test_a_bias_is_the_mean_of_pieces_under_a_map(
    name: str, models: tuple[Path, Path], transfer: Transfer
) -> None:
    found, bias = method(name), torch.arange(300.0)[:, None]
    rows = found.prepare(transfer, found.parameters(donor=models[1]))(bias, "bias")
    assert torch.allclose(rows[:, 0], torch.tensor([np.mean(pieces) for pieces in transfer.pieces]).float())


@pytest.mark.parametrize("name", METHODS)
def test_tokens_that_the_donor_lacks_are_the_mean_of_their_pieces(
    name: str, transfer: Transfer, donor: Path
) -> None:
    set_rows(donor, input=rows_of(donor)[:310])
    config = json.loads((donor / "config.json").read_text())
    (donor / "config.json").write_text(json.dumps(config | {"vocab_size": 310}))
    lacking = transfer.new >= 310
    assert 0 < lacking.sum() < 20
    rows, means = made(name, transfer, donor=donor), made("subtoken-mean", transfer)
    equal = (rows == means).all(1).numpy()
    assert (equal == lacking).all()


@pytest.mark.parametrize("name", METHODS)
def test_without_shared_tokens_rows_are_means_of_pieces(
    name: str, models: tuple[Path, Path], transfer: Transfer
) -> None:
    none = np.empty(0, dtype=np.int64)
    alone = replace(transfer, shared_source=none, shared_target=none)
    assert torch.equal(made(name, alone, donor=models[1]), made("subtoken-mean", alone))


@pytest.mark.parametrize("name", METHODS)
def test_without_a_donor_a_helper_is_learnt_from_the_texts(name: str, transfer: Transfer) -> None:
    assert method(name).needs_texts
    small = {"helper_width": 32, "helper_layers": 1, "helper_tokens": 3000, "helper_min_count": 2}
    rows, again = (
        made(name, replace(transfer, texts=lambda: iter(SENTENCES * 20)), **small) for _ in range(2)
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


def test_positions_that_turn_rows() -> None:
    """Llama's own rotation, and back: the position between two turned rows is what it was."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, rotate_half

    rotation, rows = (
        Rotary(heads=2, base=100.0),
        torch.randn(5, 16, generator=torch.Generator().manual_seed(0)),
    )
    config = LlamaConfig(
        hidden_size=16, num_attention_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 100.0}
    )
    positions = torch.arange(5)
    cos, sin = LlamaRotaryEmbedding(config)(rows, positions[None])
    heads = rows.unflatten(1, (2, 8))
    expected = (heads * cos[0, :, None] + rotate_half(heads) * sin[0, :, None]).flatten(1)
    assert torch.allclose(rotation.turn(rows, positions.float()), expected, atol=1e-5)
    small = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
    assert torch.allclose(rotation.position(rows, rotation.turn(rows, small)), small, atol=1e-4)


def test_a_turned_atom_is_found_with_its_position() -> None:
    generator = torch.Generator().manual_seed(0)
    rotation, atoms = Rotary(heads=4, base=50.0), torch.randn(10, 64, generator=generator)
    atoms[4] *= 3
    target = -2 * rotation.turn(atoms[4], torch.tensor(0.4))
    indices, positions, coefficients = pursue(target[None], atoms, 1, rotation)
    assert indices.tolist() == [[4]]
    assert positions.item() == pytest.approx(0.4, abs=1e-4)
    assert coefficients.item() == pytest.approx(-2, abs=1e-3)


def test_pursues_turned_atoms_as_mergekit_does() -> None:
    from mergekit.tokensurgeon import batch_mp_rope

    generator = torch.Generator().manual_seed(0)
    targets, atoms = (torch.randn(count, 32, generator=generator) + 0.2 for count in (6, 40))
    theirs, expected, *_ = batch_mp_rope(targets, atoms, atoms, 8, 4, 4, a_rope_base=50.0)
    indices, _, coefficients = pursue(targets, atoms, 8, Rotary(heads=4, base=50.0))
    assert torch.equal(indices, theirs)
    assert torch.allclose(coefficients, expected, rtol=1e-3, atol=1e-4)


def test_rotation_of_a_model(models: tuple[Path, Path]) -> None:
    assert rotary(models[0]) == Rotary(heads=4, base=10000.0)


def test_rotation_of_a_model_without_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(DataError, match="cannot be turned by rotary positions"):
        rotary(tmp_path)


def test_omp_takes_what_mergekit_takes(models: tuple[Path, Path], transfer: Transfer) -> None:
    from mergekit.tokensurgeon import batch_omp

    donor, base = rows_of(models[1]), rows_of(models[0])
    indices, coefficients = batch_omp(donor[transfer.new], donor[transfer.shared_target], 16)
    expected = (coefficients[:, None] @ base[transfer.shared_source][indices]).squeeze(1)
    assert torch.allclose(
        made("omp", transfer, donor=models[1], k=16, around_mean=False), expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    ("weights", "scheme"),
    [
        ("distance", "distance_proportional"),
        ("barycentric", "barycentric"),
        ("least-squares", "least_squares"),
    ],
)
def test_interpolates_as_mergekit_does(metric: Metric, weights: Weights, scheme: str) -> None:
    from mergekit.tokensurgeon.common_interpolation import (
        DistanceMetric,
        WeightingScheme,
        common_interp_approximate,
    )

    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 16, generator=generator) + 1
    targets = torch.randn(9, 16, generator=generator) + 1
    indices, expected = common_interp_approximate(
        targets, points, k=5, metric=DistanceMetric(metric), weight_scheme=WeightingScheme(scheme)
    )
    found = interpolations(targets, points, 5, metric, weights)
    assert torch.equal(found[0], indices)
    assert torch.allclose(found[1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weights", ["distance", "barycentric", "least-squares"])
def test_interpolation_among_equal_points(weights: Weights) -> None:
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found, made = interpolations(torch.tensor([[0.5, 0.5]]), points, 4, "euclidean", weights)
    reached = [0.5, 0.25] if weights == "distance" else [0.5, 0.5]
    assert torch.allclose(made @ points[found[0]], torch.tensor([reached]), atol=1e-5)


def test_mergekits_subword_is_the_subtoken_mean(transfer: Transfer) -> None:
    from mergekit.tokensurgeon import subword_approximate
    from transformers import AutoTokenizer

    tokens = [transfer.target.surfaces[i].decode() for i in transfer.new]  # type: ignore[union-attr]
    tokenizer = AutoTokenizer.from_pretrained(transfer.model, local_files_only=True)
    theirs = subword_approximate(rows_of(transfer.model), tokens, False, tokenizer)
    assert torch.allclose(made("subtoken-mean", transfer), theirs, atol=1e-6)


def test_mergekits_john_hewitt_draws_as_hewitt_does() -> None:
    from mergekit.scripts.tokensurgeon import john_hewitt_init
    from tokenizer_tools.embeddings.hewitt import mean_and_spread

    source = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 3]) + 1
    torch.manual_seed(0)
    drawn = john_hewitt_init(source, 20_000)
    mean, spread = mean_and_spread(source)
    assert torch.allclose(drawn.mean(0), mean, atol=0.1)
    assert torch.allclose(torch.cov(drawn.T), spread @ spread, atol=0.25)
