"""Methods that average source rows: closed forms, convexity, what each parameter does."""

import numpy as np
import pytest
import torch
from made_transfers import PIECES, ROLES, made_rows, made_transfer, matrix

from tokenizer_tools.embeddings import Role, method
from tokenizer_tools.embeddings.length_weighted import script

CONVEX = ["mean", "subtoken-mean", "subtoken-weighted", "adaptivocab"]
SPELT = [pieces for pieces in PIECES if pieces]


def weights_of(name: str, role: Role, pieces: list[list[int]], **parameters: object) -> np.ndarray:
    """[N, V] the weights of a linear method: its rows for the unit matrix."""
    return made_rows(name, made_transfer(pieces), torch.eye(6), role, **parameters).numpy()


def share(exponents: list[float]) -> np.ndarray:
    powers = np.exp(exponents)
    return powers / powers.sum()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CONVEX)
def test_weights_are_convex(name: str, role: Role) -> None:
    weights = weights_of(name, role, PIECES)
    assert (weights >= 0).all()
    assert np.allclose(weights.sum(1), 1)
    source = matrix()
    assert (made_rows(name, made_transfer(), source, role).norm(dim=1) <= source.norm(dim=1).max()).all()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", [*CONVEX[1:], "length-weighted"])
def test_a_token_that_was_one_token_has_its_direction_and_mostly_its_row(name: str, role: Role) -> None:
    source = matrix()
    row = made_rows(name, made_transfer([[2]]), source, role)
    assert torch.cosine_similarity(row, source[2:3]).item() == pytest.approx(1, abs=1e-6)
    if name != "length-weighted":
        assert torch.equal(row, source[2:3])


def test_subtoken_mean() -> None:
    source = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]])
    transfer = made_transfer([[0, 1], [2], [0, 0, 1], []], source=["a", "b", "c"], shared=[0, 2])
    expected = torch.tensor([[2.0, 1.0], [5.0, 4.0], [5 / 3, 2 / 3], [3.0, 2.0]])
    assert torch.allclose(made_rows("subtoken-mean", transfer, source), expected)


def test_mean_is_of_used_rows() -> None:
    source = torch.tensor([[1.0], [100.0], [3.0], [100.0]])
    rows = made_rows("mean", made_transfer([[0], []], source=["a", None, "b"]), source)
    assert rows.tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize(
    ("emphasis", "decay", "expected"),
    [
        ("first", 0.5, [4 / 7, 2 / 7, 1 / 7]),
        ("last", 0.5, [1 / 7, 2 / 7, 4 / 7]),
        ("first", 0.0, [1, 0, 0]),
        ("last", 0.0, [0, 0, 1]),
        ("last", 1.0, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_subtoken_weighted(emphasis: str, decay: float, expected: list[float]) -> None:
    weights = weights_of("subtoken-weighted", "input", [[3, 1, 0]], emphasis=emphasis, decay=decay)
    assert np.allclose(weights[0, [3, 1, 0]], expected)


def test_adaptivocab_leans_on_the_last_piece_to_read_and_on_the_first_to_write() -> None:
    pieces = [[3, 1, 0]]
    reading, writing = share([0, 2, 4]), share([0, -2, -4])
    for role, expected in {
        "input": reading,
        "output": writing,
        "bias": writing,
        "tied": (reading + writing) / 2,
    }.items():
        assert np.allclose(weights_of("adaptivocab", role, pieces)[0, [3, 1, 0]], expected)
    assert np.allclose(weights_of("adaptivocab", "input", pieces, rate=0.0)[0, [3, 1, 0]], 1 / 3)


def test_adaptivocab_takes_tokens_of_many_pieces() -> None:
    weights = weights_of("adaptivocab", "input", [[0] * 999 + [1]])
    assert np.allclose(weights[0, :2], [np.exp(-2), 1 - np.exp(-2)])  # a geometric series


def test_length_weighted_output_counts_characters() -> None:
    transfer = made_transfer([[0, 1, 2]], source=["a", "é€", "日本語"])
    rows = made_rows("length-weighted", transfer, torch.eye(3), "output")
    assert torch.allclose(rows, torch.tensor([[1 / 6, 2 / 6, 3 / 6]]))
    assert torch.equal(rows, made_rows("length-weighted", transfer, torch.eye(3), "bias"))


def test_length_weighted_input_has_the_usual_norm_of_its_script() -> None:
    transfer = made_transfer([[0, 1], [2, 3], [4, 5]], source=["ab", "cd", "дд", "жж", "한", "國"])
    source = matrix() * torch.tensor([1.0, 1.0, 9.0, 9.0, 1.0, 1.0])[:, None]
    rows, plain = (made_rows(name, transfer, source) for name in ("length-weighted", "subtoken-mean"))
    norms = source.norm(dim=1)
    expected = torch.stack([norms[:2].mean(), norms[2:4].mean(), norms[4:5].mean()])
    assert torch.cosine_similarity(rows, plain).tolist() == pytest.approx([1, 1, 1])
    assert torch.allclose(rows.norm(dim=1)[:2], expected[:2])
    tied = made_rows("length-weighted", transfer, source, "tied")
    written = made_rows("length-weighted", transfer, source, "output")
    assert torch.allclose(tied, (rows + written) / 2)


def test_a_script_without_rows_has_the_norm_of_all() -> None:
    transfer = made_transfer([[]], source=["ab", "cd"])
    source = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    target = transfer.target.surfaces[2]
    assert script(target) == "LATIN"
    cyrillic = made_transfer([[0]], source=["ab", "cd"])
    cyrillic.target.surfaces[2] = "ж".encode()
    assert made_rows("length-weighted", cyrillic, source).norm().item() == pytest.approx(2)


@pytest.mark.parametrize(
    ("surface", "expected"),
    [
        (b" heart", "LATIN"),
        ("сердце".encode(), "CYRILLIC"),
        ("한국".encode(), "HANGUL"),
        ("漢字か".encode(), "CJK"),
        (b"12, \n", ""),
        (b"\xe6\xbc", ""),
        (None, ""),
    ],
)
def test_script_of_a_token(surface: bytes | None, expected: str) -> None:
    assert script(surface) == expected


@pytest.mark.parametrize("name", [*CONVEX, "length-weighted"])
def test_methods_say_where_they_come_from(name: str) -> None:
    assert method(name).reference.startswith("https://")
    assert not method(name).needs_texts
