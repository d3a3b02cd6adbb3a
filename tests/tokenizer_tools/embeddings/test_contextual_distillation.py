"""Contextual distillation: contexts against the model, the map against closed forms, known rows are read."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import varied_texts, write_tiny_model
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, BertForMaskedLM

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import Role, _frozen_model, method
from tokenizer_tools.embeddings._contexts import Snippet, SnippetParameters, collect
from tokenizer_tools.embeddings._frozen_model import FrozenModel
from tokenizer_tools.embeddings._weights import subtoken_rule
from tokenizer_tools.embeddings.contextual_distillation import (
    Parameters,
    contexts,
    occurrences,
    prepare,
    read_off,
)
from tokenizer_tools.transfer import Transfer, plan_transfer

ROWS = 300


@pytest.fixture(autouse=True)
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frozen_model, "resolve_precision", lambda _: torch.float32)


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    """30 new tokens, all but those of the fourth sentence in the text."""
    folder = tmp_path_factory.mktemp("models")
    source, target = write_tiny_model(folder / "old"), write_tiny_model(folder / "new", vocabulary=330)
    texts = [text.split("What")[0] for text in varied_texts(12)]
    return plan_transfer(source, target, source, texts=lambda: iter(texts))


@pytest.fixture(scope="module")
def snippets(transfer: Transfer) -> list[Snippet]:
    return collect(transfer, ROWS, SnippetParameters())


@pytest.fixture(scope="module")
def matrix(transfer: Transfer) -> Tensor:
    return AutoModelForCausalLM.from_pretrained(transfer.model).get_input_embeddings().weight.detach()


def made(transfer: Transfer, matrix: Tensor, role: Role = "tied", **parameters: Any) -> Tensor:
    return prepare(transfer, Parameters(**parameters))(matrix, role)


def test_which_positions_are_a_tokens_context() -> None:
    """Old: start, 1, 2, 3, 4, 5. New: start, the first new token for 1 2, 3 and 4 merged otherwise, 5."""
    snippet = Snippet(
        old=np.array([9, 1, 2, 3, 4, 5]),
        new=np.array([9, ROWS, ROWS + 1, ROWS + 2, 5]),
        old_met=np.array([0, 2, 4, 5]),
        new_met=np.array([0, 1, 3, 4]),
    )
    tokens, last, before = occurrences(snippet, ROWS)
    assert list(zip(tokens.tolist(), last.tolist(), before.tolist(), strict=True)) == [
        (1, 1, 0),
        (2, 2, 1),
        (3, 3, 2),
        (4, 4, 3),
        (5, 5, 4),
        (ROWS, 2, 0),
    ]


@pytest.mark.parametrize("layers", [1, 2])
def test_contexts_are_means_of_states(transfer: Transfer, snippets: list[Snippet], layers: int) -> None:
    own = AutoModel.from_pretrained(transfer.model).eval()
    found: defaultdict[int, list[Tensor]] = defaultdict(list)
    for snippet in snippets:
        with torch.no_grad():
            output = own(input_ids=torch.from_numpy(snippet.old)[None], output_hidden_states=True)
            last = output.last_hidden_state[0]
            early = last if layers == 2 else own.norm(output.hidden_states[layers])[0]
        for token, at, before in zip(*occurrences(snippet, ROWS), strict=True):
            found[int(token)].append(torch.cat([early[at], last[before]]))
    made = contexts(FrozenModel(transfer.model), snippets, layers)
    assert made.rows.tolist() == sorted(found)
    assert made.counts_U.tolist() == [len(found[row]) for row in sorted(found)]
    expected = torch.stack([torch.stack(found[row]).mean(0) for row in sorted(found)])
    assert torch.allclose(made.means_UF, expected, atol=1e-5)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_an_affine_map_is_recovered() -> None:
    known, asked, true = draws(50, 6), draws(4, 6, seed=1), draws(6, 3, seed=2)
    rows = read_off(known, known @ true + 2, torch.ones(50), asked, ridge=1e-6)
    assert torch.allclose(rows, asked @ true + 2, atol=1e-3)


def test_the_map_is_that_of_ridge_regression() -> None:
    """The closed form on centred, scaled contexts; a weight of n is n times the same token."""
    known, rows, asked = draws(9, 4), draws(9, 2, seed=1), draws(3, 4, seed=2)
    weights = torch.arange(1, 10)
    repeated, of_rows = (x.repeat_interleave(weights, 0).double().numpy() for x in (known, rows))
    center, scale = repeated.mean(0), repeated.std(0)
    x, y = (repeated - center) / scale, of_rows - of_rows.mean(0)
    solution = np.linalg.inv(x.T @ x + 0.5 * len(x) * np.eye(4)) @ x.T @ y
    expected = (asked.numpy() - center) / scale @ solution + of_rows.mean(0)
    found = read_off(known, rows, weights, asked, ridge=0.5)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_a_heavy_penalty_leaves_the_weighted_mean() -> None:
    known, rows, weights = draws(9, 4), draws(9, 2, seed=1), torch.arange(1, 10)
    mean = (weights[:, None] * rows).sum(0) / weights.sum()
    assert torch.allclose(read_off(known, rows, weights, known, ridge=1e8), mean.expand(9, 2), atol=1e-4)


def test_neither_units_nor_constant_coordinates_matter() -> None:
    known, rows, asked, weights = draws(9, 4), draws(9, 2, seed=1), draws(3, 4, seed=2), torch.ones(9)
    found = read_off(known, rows, weights, asked, ridge=0.3)
    units = torch.tensor([1.0, 100.0, 0.01, 7.0])
    assert torch.allclose(read_off(known * units, rows, weights, asked * units, 0.3), found, atol=1e-5)
    wider = [torch.cat([x, torch.full((len(x), 1), 5.0)], 1) for x in (known, asked)]
    wider[1][:, 4] = 6
    assert torch.allclose(read_off(wider[0], rows, weights, wider[1], 0.3), found, atol=1e-5)


def test_another_name_of_an_old_token_gets_its_row(transfer: Transfer, snippets: list[Snippet]) -> None:
    """Without a penalty, and with fewer tokens than coordinates, the map reads known rows exactly."""
    model, token = FrozenModel(transfer.model), int(snippets[0].old[3])
    whole = [np.arange(len(snippet.old)) for snippet in snippets]
    doubles = [
        Snippet(snippet.old, np.where(snippet.old == token, ROWS, snippet.old), at, at)
        for snippet, at in zip(snippets, whole, strict=True)
    ]
    found = contexts(model, doubles, layers=1)
    old, doubled = found.rows < ROWS, found.rows.tolist().index(ROWS)
    assert torch.allclose(found.means_UF[doubled], found.means_UF[found.rows.tolist().index(token)])
    known = model.matrix_VH[torch.from_numpy(found.rows[old])]
    assert old.sum() < found.means_UF.shape[1]
    row = read_off(found.means_UF[old], known, found.counts_U[old], found.means_UF[[doubled]], ridge=1e-5)
    assert torch.allclose(row[0], model.matrix_VH[token], atol=0.05 * float(known.std()))


def test_tokens_that_the_text_does_not_hold_keep_their_mean(
    transfer: Transfer, snippets: list[Snippet], matrix: Tensor
) -> None:
    mean = subtoken_rule(transfer)(matrix, "tied")
    present = {row for snippet in snippets for row in snippet.new.tolist()}
    absent = torch.tensor([ROWS + i not in present for i in range(30)])
    rows = made(transfer, matrix)
    assert 0 < absent.sum() < 20
    assert torch.equal(rows[absent], mean[absent])
    assert (rows != mean)[~absent].any(1).all()
    assert torch.equal(made(replace(transfer, texts=lambda: iter(["zzz"])), matrix), mean)


def test_every_matrix_has_its_own_map(transfer: Transfer, matrix: Tensor) -> None:
    """Each column is read by itself, so one column alone, as a bias is, gives the same."""
    rule = prepare(transfer, Parameters())
    rows = rule(matrix, "input")
    assert rows.shape == (30, 32)
    assert torch.allclose(rule(matrix[:, 3:4], "bias"), rows[:, 3:4], atol=1e-6)
    assert torch.allclose(rule(2 * matrix, "output"), 2 * rows, atol=1e-6)
    assert rule(matrix.bfloat16(), "tied").dtype == torch.bfloat16


def test_rows_are_the_same_every_time(transfer: Transfer, matrix: Tensor) -> None:
    torch.manual_seed(1)
    first = made(transfer, matrix)
    torch.manual_seed(2)
    assert torch.equal(made(replace(transfer, seed=5), matrix), first)


@pytest.mark.parametrize(
    "changed",
    [
        {"layers": 1},
        {"ridge": 1.0},
        {"most_occurrences": 1},
        {"snippets_per_token": 1},
        {"snippet_tokens": 10},
        {"tokens": 60},
    ],
)
def test_every_parameter_matters(transfer: Transfer, matrix: Tensor, changed: dict[str, Any]) -> None:
    assert not torch.equal(made(transfer, matrix, **changed), made(transfer, matrix))


def test_an_encoder_gives_contexts_too(transfer: Transfer, tmp_path: Path, matrix: Tensor) -> None:
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertForMaskedLM(BertConfig(vocab_size=ROWS, **widths)).save_pretrained(tmp_path)
    rows = made(replace(transfer, model=tmp_path), matrix)
    assert rows.isfinite().all()
    assert not torch.equal(rows, subtoken_rule(transfer)(matrix, "tied"))


def test_without_texts_it_says_so(transfer: Transfer, matrix: Tensor) -> None:
    with pytest.raises(StageFailed, match="texts"):
        made(replace(transfer, texts=None), matrix)


def test_it_is_a_method() -> None:
    found = method("contextual-distillation")
    assert found.needs_texts
    assert found.parameters is Parameters
