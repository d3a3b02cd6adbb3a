"""Task vectors measured, against brute force on whole tensors and against closed forms."""

from pathlib import Path

import pytest
import torch
from merge_models import INPUT, OUTPUT, WORDS, weights, write_model
from safetensors.torch import save_file

from cpt.errors import CannotMerge
from merging.analysis.analyse import Analysis, analyse
from merging.candidates import read_candidate


def shifted(folder: Path, base: Path, changes: dict[str, torch.Tensor]) -> Path:
    """The base with something added to each of its tensors."""
    write_model(folder, seed=1)
    moved = {name: (tensor.double() + changes[name]).float() for name, tensor in weights(base).items()}
    save_file(moved, folder / "model.safetensors", {"format": "pt"})
    return folder


def analysed(base: Path, *models: Path) -> Analysis:
    return analyse(read_candidate("base", base), [read_candidate(model.name, model) for model in models])


def difference(model: Path, base: Path, tensor: str) -> torch.Tensor:
    return (weights(model)[tensor].double() - weights(base)[tensor].double()).flatten()


def whole(model: Path, base: Path) -> torch.Tensor:
    """A task vector of models with one vocabulary: [n]."""
    return torch.cat([difference(model, base, name) for name in weights(base)])


@pytest.fixture
def halves(base: Path) -> list[dict[str, torch.Tensor]]:
    """Two changes that have no weight in common."""
    generator = torch.Generator().manual_seed(3)
    changes: list[dict[str, torch.Tensor]] = [{}, {}]
    for name, tensor in weights(base).items():
        step = torch.where(torch.rand(tensor.shape, generator=generator) < 0.5, 0.25, -0.25)
        first = torch.rand(tensor.shape, generator=generator) < 0.5
        changes[0][name], changes[1][name] = step * first, step * ~first
    return changes


def test_orthogonal_vectors(tmp_path: Path, base: Path, halves: list[dict[str, torch.Tensor]]) -> None:
    pair = analysed(base, *(shifted(tmp_path / str(n), base, half) for n, half in enumerate(halves))).pairs[0]
    assert pair.cosine == pytest.approx(0.0, abs=1e-12)
    assert (pair.both_changed, pair.conflicts) == (0, None)
    assert (pair.conflicting_a, pair.conflicting_b) == (0.0, 0.0)


@pytest.mark.parametrize(("factor", "cosine", "conflicts"), [(2.0, 1.0, 0.0), (-0.5, -1.0, 1.0)])
def test_parallel_and_opposite_vectors(
    tmp_path: Path,
    base: Path,
    halves: list[dict[str, torch.Tensor]],
    factor: float,
    cosine: float,
    conflicts: float,
) -> None:
    one = shifted(tmp_path / "one", base, halves[0])
    other = shifted(tmp_path / "two", base, {name: factor * change for name, change in halves[0].items()})
    found = analysed(base, one, other)
    pair = found.pairs[0]
    assert pair.cosine == pytest.approx(cosine, abs=1e-6)
    assert (pair.conflicts, pair.conflicting_a, pair.conflicting_b) == (conflicts,) * 3
    assert found.vectors[1].norm == pytest.approx(abs(factor) * found.vectors[0].norm, rel=1e-6)
    assert set(found.layers.conflicts[0]) == {conflicts}


def test_against_brute_force(tmp_path: Path, base: Path, other: Path) -> None:
    third = write_model(tmp_path / "third", seed=3)
    found = analysed(base, other, third)
    a, b = whole(other, base), whole(third, base)
    origin = torch.cat([tensor.flatten().double() for tensor in weights(base).values()])
    for vector, expected in zip(found.vectors, (a, b), strict=True):
        assert vector.weights == len(expected)
        assert vector.norm == pytest.approx(float(expected.norm()), rel=1e-12)
        assert vector.relative == pytest.approx(float(expected.norm() / origin.norm()), rel=1e-12)
        squares = expected.float().double().square().sort(descending=True).values.cumsum(0)
        carriers = int((squares < 0.9 * squares[-1]).sum()) + 1
        assert vector.carriers == carriers
        assert vector.carriers_share == carriers / len(expected)
    pair, conflict = found.pairs[0], a * b < 0
    assert pair.cosine == pytest.approx(float(a @ b / a.norm() / b.norm()), rel=1e-9)
    assert pair.random == len(a) ** -0.5
    assert pair.conflicts == float(conflict.double().mean())
    assert pair.conflicting_b == pytest.approx(float((b[conflict].norm() / b.norm()) ** 2), rel=1e-9)


def test_by_layer_and_kind_adds_up_to_the_whole(base: Path, other: Path) -> None:
    found = analysed(base, other)
    for parts in (found.layers, found.kinds):
        assert sum(parts.weights) == found.vectors[0].weights
        assert sum(norm**2 for norm in parts.norm[0] if norm) == pytest.approx(found.vectors[0].norm ** 2)
        assert sum(share for share in parts.share[0] if share) == pytest.approx(1.0)
    assert found.layers.names == ("0", "1", "outside")
    names = [name for name in weights(base) if ".layers.1." in name]
    second = torch.cat([difference(other, base, name) for name in names])
    assert found.layers.norm[0][1] == pytest.approx(float(second.norm()), rel=1e-12)
    gate = difference(other, base, "model.layers.1.mlp.gate_proj.weight")
    of_base = weights(base)["model.layers.1.mlp.gate_proj.weight"].double()
    row = found.grid.relative[0][found.grid.kinds.index("feed-forward gate")]
    assert row[1] == pytest.approx(float(gate.norm() / of_base.norm()), rel=1e-12)
    assert found.kinds.names == (
        "embeddings", "attention q", "attention k", "attention v", "attention o",
        "feed-forward gate", "feed-forward up", "feed-forward down", "norms",
    )  # fmt: skip


def test_the_base_itself_has_no_direction(base: Path, other: Path) -> None:
    found = analysed(base, base, other)
    still = found.vectors[0]
    assert (still.norm, still.relative, still.changed, still.carriers) == (0.0, 0.0, 0, 0)
    assert still.embeddings_share is None
    assert (found.pairs[0].cosine, found.pairs[0].conflicts) == (None, None)
    assert found.pairs[0].conflicting_a is None


def test_new_rows_are_kept_apart_and_rows_go_by_token(tmp_path: Path, base: Path) -> None:
    words = ("tibia", *reversed(WORDS), "femur")  # another order, two more tokens, a row of padding
    extended = write_model(tmp_path / "more", seed=5, words=words, rows=9)
    found = analysed(base, extended).vectors[0]
    theirs, ours = weights(extended)[INPUT].double(), weights(base)[INPUT].double()
    change = torch.stack([theirs[words.index(word)] - ours[n] for n, word in enumerate(WORDS)])
    new = float(theirs[[0, 7]].square().sum())
    rest = sum(
        float(difference(extended, base, name).square().sum()) for name in weights(base) if name != INPUT
    )
    shared = float(change.square().sum())
    assert found.norm**2 == pytest.approx(shared + rest, rel=1e-9)
    assert found.embeddings_share == pytest.approx((shared + new) / (shared + rest + new), rel=1e-9)
    assert found.new_rows_share == pytest.approx(new / (shared + rest + new), rel=1e-9)
    assert found.rows is not None
    assert vars(found.rows) == {"shared": 6, "new": 2, "missing": 0, "padding": 1}


def test_rows_that_some_models_lack(tmp_path: Path, base: Path, other: Path) -> None:
    pruned = write_model(tmp_path / "pruned", seed=6, words=WORDS[:4])
    found = analysed(base, other, pruned)
    assert [vector.weights for vector in found.vectors] == [5296, 5296 - 2 * 16]
    assert found.pairs[0].weights == 5296 - 2 * 16
    assert found.vectors[1].rows is not None
    assert found.vectors[1].rows.missing == 2
    rest = [name for name in weights(base) if name != INPUT]
    a, b = (
        torch.cat(
            [*(difference(model, base, name) for name in rest),
             (weights(model)[INPUT][:4].double() - weights(base)[INPUT][:4].double()).flatten()]
        )
        for model in (other, pruned)
    )  # fmt: skip
    assert found.pairs[0].cosine == pytest.approx(float(a @ b / a.norm() / b.norm()), rel=1e-9)


def test_tied_weights_count_once(tmp_path: Path, base: Path) -> None:
    """Also where the file holds them twice; an output that was untied counts for itself."""
    twice = write_model(tmp_path / "twice", seed=2)
    stored = weights(twice)
    save_file(stored | {OUTPUT: stored[INPUT].clone()}, twice / "model.safetensors", {"format": "pt"})
    once = write_model(tmp_path / "once", seed=2)
    assert analysed(base, twice).vectors[0].norm == pytest.approx(analysed(base, once).vectors[0].norm)
    assert "head" not in analysed(base, twice).kinds.names
    untied = write_model(tmp_path / "untied", seed=2, tie_word_embeddings=False)
    found = analysed(base, untied, once)
    head = weights(untied)[OUTPUT].double() - weights(base)[INPUT].double()
    assert found.kinds.norm[0][found.kinds.names.index("head")] == pytest.approx(float(head.norm()), rel=1e-9)
    assert found.kinds.norm[1][found.kinds.names.index("head")] == 0.0
    assert found.vectors[1].weights == 5296


def test_untied_heads_are_a_kind_of_their_own(tmp_path: Path) -> None:
    one, two = (write_model(tmp_path / str(n), seed=n, tie_word_embeddings=False) for n in (1, 2))
    found = analysed(one, two)
    assert found.kinds.names[-1] == "head"
    head = difference(two, one, OUTPUT)
    assert found.kinds.norm[0][-1] == pytest.approx(float(head.norm()), rel=1e-12)


def test_progress_and_refusals(tmp_path: Path, base: Path, other: Path) -> None:
    seen: list[tuple[int, int]] = []
    pair = [read_candidate(folder.name, folder) for folder in (base, other)]
    analyse(pair[0], pair[1:], lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * 5296, 2 * 5296)
    wide = write_model(tmp_path / "wide", seed=4, hidden_size=32)
    with pytest.raises(CannotMerge, match="different architectures"):
        analysed(base, wide)
