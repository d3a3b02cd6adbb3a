"""Token Distillation: rows whose ideal is known are found, losses fall, everything else stays."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny import SENTENCES, varied_texts, write_tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cosine_similarity
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, PhiConfig, PhiForCausalLM

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import Role, Rule, _frozen_model, method, token_distillation
from tokenizer_tools.embeddings._contexts import Snippet, collect
from tokenizer_tools.embeddings._frozen_model import FrozenModel, NextToken
from tokenizer_tools.embeddings._weights import subtoken_rule
from tokenizer_tools.embeddings.token_distillation import Parameters, input_rows, output_rows
from tokenizer_tools.transfer import Transfer, plan_transfer

ROWS = 300
WIDTHS: dict[str, Any] = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.fixture(scope="module", autouse=True)
def single_precision() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_frozen_model, "resolve_precision", lambda _: torch.float32)
        yield


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    """30 new tokens, all but those of the fourth sentence in the text; embeddings of some size."""
    folder = tmp_path_factory.mktemp("models")
    source, target = write_tiny_model(folder / "old"), write_tiny_model(folder / "new", vocabulary=330)
    model = AutoModelForCausalLM.from_pretrained(source)
    torch.nn.init.normal_(model.get_input_embeddings().weight, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(source)
    texts = [text.split("What")[0] for text in varied_texts(12)]
    return plan_transfer(source, target, source, texts=lambda: iter(texts))


@pytest.fixture(scope="module")
def by_defaults(transfer: Transfer) -> torch.Tensor:
    """Tied rows by the defaults of the parameters."""
    return made(transfer)


@pytest.fixture(scope="module")
def snippets(transfer: Transfer) -> list[Snippet]:
    return collect(transfer, ROWS, Parameters())


@pytest.fixture(scope="module")
def absent(transfer: Transfer, snippets: Sequence[Snippet]) -> torch.Tensor:
    """[N] which new tokens the text does not hold."""
    present = {row for snippet in snippets for row in snippet.new.tolist()}
    found = torch.tensor([ROWS + i not in present for i in range(len(transfer.new))])
    assert 0 < found.sum() < len(found) - 10
    return found


def untied(transfer: Transfer, folder: Path) -> Transfer:
    """The same with a model whose output embedding is its own, with a bias."""
    torch.manual_seed(0)
    PhiForCausalLM(PhiConfig(**WIDTHS)).save_pretrained(folder)
    return replace(transfer, model=folder)


def mean_of(transfer: Transfer) -> Rule:
    return subtoken_rule(transfer)


def made(transfer: Transfer, role: Role = "tied", **parameters: Any) -> torch.Tensor:
    """Rows that the method makes for the model's own matrix of that role."""
    model = AutoModelForCausalLM.from_pretrained(transfer.model)
    head = model.get_output_embeddings()
    matrix = {"output": head.weight, "bias": head.bias}.get(role, model.get_input_embeddings().weight)
    found = method("token-distillation")
    rule = found.prepare(transfer, found.parameters(**parameters))
    return rule(matrix.detach().reshape(ROWS, -1), role)


def difference(model: FrozenModel, snippets: Sequence[Snippet], rows: torch.Tensor) -> float:
    """Mean squared difference of states between both segmentations."""
    with torch.no_grad():
        old = model.states([s.old for s in snippets], [s.old_met for s in snippets])
        new = model.states([s.new for s in snippets], [s.new_met for s in snippets], rows)
    return float((old - new).square().mean())


def doubles(snippets: Sequence[Snippet], token: int) -> list[Snippet]:
    """Snippets whose only new token is another name of an old one."""
    whole = [np.arange(len(snippet.old)) for snippet in snippets]
    renamed = [np.where(snippet.old == token, ROWS, snippet.old) for snippet in snippets]
    return [
        Snippet(snippet.old, new, at, at)
        for snippet, new, at in zip(snippets, renamed, whole, strict=True)
        if (new == ROWS).any()
    ]


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_row_of_another_name_of_an_old_token_is_found(
    transfer: Transfer, snippets: Sequence[Snippet]
) -> None:
    model, token = FrozenModel(transfer.model), int(snippets[0].old[3])
    same, ideal = doubles(snippets, token), model.matrix_VH[[token]]
    start = ideal + 0.5 * torch.randn(ideal.shape, generator=torch.Generator().manual_seed(0))
    parameters = Parameters(epochs=40, learning_rate=0.05)
    found = input_rows(model, same, start, parameters, generator())
    assert difference(model, same, found) < 0.02 * difference(model, same, start)
    assert cosine_similarity(start, ideal) < 0.95
    assert cosine_similarity(found, ideal) > 0.995  # norms make states blind to a row's length


def test_an_ideal_row_stays(transfer: Transfer, snippets: Sequence[Snippet]) -> None:
    """With nothing to learn the loss is 0, and so is its gradient."""
    model, token = FrozenModel(transfer.model), int(snippets[0].old[3])
    same, ideal = doubles(snippets, token), model.matrix_VH[[token]]
    assert difference(model, same, ideal) == 0
    assert torch.equal(input_rows(model, same, ideal, Parameters(), generator()), ideal)


def test_states_come_closer(transfer: Transfer, snippets: Sequence[Snippet]) -> None:
    model = FrozenModel(transfer.model)
    mean = mean_of(transfer)(model.matrix_VH, "input")
    once, often = (
        difference(model, snippets, input_rows(model, snippets, mean, Parameters(epochs=n), generator()))
        for n in (1, 10)
    )
    assert often < once < difference(model, snippets, mean)
    assert often < 0.7 * difference(model, snippets, mean)


def test_next_tokens_become_likelier(transfer: Transfer, snippets: Sequence[Snippet], tmp_path: Path) -> None:
    transfer = untied(transfer, tmp_path / "untied")
    model, mean = FrozenModel(transfer.model), mean_of(transfer)
    next_token = NextToken(model, transfer, mean)
    start = mean(next_token.matrix_VH.float(), "output")
    old_states = model.states([s.old for s in snippets], [s.old_met[:-1] for s in snippets])
    targets = torch.from_numpy(np.concatenate([s.new[s.new_met[:-1] + 1] for s in snippets]))
    costs = [
        float(next_token.cross_entropy(old_states, targets, rows))
        for rows in (
            start,
            *(
                output_rows(model, snippets, start, Parameters(output_epochs=n), generator(), next_token)
                for n in (1, 10)
            ),
        )
    ]
    assert costs[0] > costs[1] > costs[2]


def test_large_vocabularies_take_a_step_in_parts(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(transfer)
    monkeypatch.setattr(token_distillation, "_LOGITS_AT_ONCE", 200)
    torch.testing.assert_close(made(transfer), whole, atol=1e-4, rtol=1e-3)


def test_tokens_that_the_text_does_not_hold_keep_their_mean(transfer: Transfer, absent: torch.Tensor) -> None:
    matrix = FrozenModel(transfer.model).matrix_VH
    mean, rows = mean_of(transfer)(matrix, "tied"), made(transfer)
    assert torch.equal(rows[absent], mean[absent])
    assert (rows != mean)[~absent].any(1).all()
    assert torch.equal(made(replace(transfer, texts=lambda: iter(["zzz"]))), mean)


def test_roles_of_an_untied_model(transfer: Transfer, absent: torch.Tensor, tmp_path: Path) -> None:
    transfer = untied(transfer, tmp_path / "untied")
    model = AutoModelForCausalLM.from_pretrained(transfer.model)
    matrices = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    roles: tuple[Role, Role] = ("input", "output")
    for role, matrix in zip(roles, matrices, strict=True):
        mean, rows = mean_of(transfer)(matrix.detach(), role), made(transfer, role)
        assert torch.equal(rows[absent], mean[absent])
        assert (rows != mean)[~absent].any(1).all()
    bias = model.get_output_embeddings().bias.detach()[:, None]
    assert torch.equal(made(transfer, "bias"), mean_of(transfer)(bias, "bias"))
    untrained = mean_of(transfer)(matrices[1].detach(), "output")
    assert torch.equal(made(transfer, "output", output_epochs=0), untrained)


def test_the_model_and_its_matrix_stay_as_they_are(transfer: Transfer) -> None:
    before = (transfer.model / "model.safetensors").read_bytes()
    found = method("token-distillation")
    matrix = FrozenModel(transfer.model).matrix_VH
    copy = matrix.clone()
    found.prepare(transfer, found.parameters())(matrix, "tied")
    assert torch.equal(matrix, copy)
    assert (transfer.model / "model.safetensors").read_bytes() == before


def test_rows_have_the_matrix_type(transfer: Transfer) -> None:
    matrix = FrozenModel(transfer.model).matrix_VH
    rule = method("token-distillation").prepare(transfer, Parameters())
    rows = rule(matrix.bfloat16(), "tied")
    assert (rows.dtype, rows.shape) == (torch.bfloat16, (30, 32))
    assert torch.allclose(rows.float(), rule(matrix, "tied"), atol=0.05)


def test_rows_follow_the_seed_alone(transfer: Transfer, by_defaults: torch.Tensor) -> None:
    torch.manual_seed(1)
    assert torch.equal(made(transfer), by_defaults)
    assert not torch.equal(made(replace(transfer, seed=1)), by_defaults)


@pytest.mark.parametrize(
    "changed",
    [
        {"snippets_per_token": 1},
        {"snippet_tokens": 10},
        {"tokens": 60},
        {"layers": 1},
        {"learning_rate": 0.2},
        {"epochs": 2},
        {"layers": None, "next_token_weight": 1.0},
        {"output_learning_rate": 0.01},
        {"output_epochs": 1},
    ],
)
def test_every_parameter_matters(
    transfer: Transfer, by_defaults: torch.Tensor, changed: dict[str, Any]
) -> None:
    assert not torch.equal(made(transfer, **changed), by_defaults)


def test_the_next_tokens_weight_leads_input_rows_to_predict(
    transfer: Transfer, snippets: Sequence[Snippet], tmp_path: Path
) -> None:
    """The more it weighs, the likelier what follows over the new segmentation, and the farther the states."""
    transfer = untied(transfer, tmp_path / "untied")
    model, mean = FrozenModel(transfer.model), mean_of(transfer)
    next_token = NextToken(model, transfer, mean)
    start, output = mean(model.matrix_VH.float(), "input"), mean(next_token.matrix_VH.float(), "output")
    targets = torch.from_numpy(np.concatenate([s.new[s.new_met[:-1] + 1] for s in snippets]))
    costs, differences = [], []
    for weight in (0.0, 10.0):
        parameters = Parameters(layers=None, next_token_weight=weight, epochs=5)
        rows = input_rows(model, snippets, start, parameters, generator(), next_token, output)
        states = model.states([s.new for s in snippets], [s.new_met[:-1] for s in snippets], rows)
        costs.append(float(next_token.cross_entropy(states, targets, output)))
        differences.append(difference(model, snippets, rows))
    assert costs[1] < costs[0]
    assert differences[0] < differences[1]


def test_next_token_prediction_needs_all_layers() -> None:
    with pytest.raises(ValidationError, match="layers: null"):
        Parameters(next_token_weight=1)


def test_an_encoder_learns_input_rows(transfer: Transfer, absent: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**WIDTHS)).save_pretrained(tmp_path / "bert")
    transfer = replace(transfer, model=tmp_path / "bert")
    model = FrozenModel(transfer.model)
    mean = mean_of(transfer)(model.matrix_VH, "tied")
    rows = method("token-distillation").prepare(transfer, Parameters(epochs=5))(model.matrix_VH, "tied")
    snippets = collect(transfer, ROWS, Parameters())
    assert torch.equal(rows[absent], mean[absent])
    assert difference(model, snippets, rows) < difference(model, snippets, mean)
    with pytest.raises(StageFailed, match="next_token_weight"):
        method("token-distillation").prepare(transfer, Parameters(layers=None, next_token_weight=1))


def test_a_tokenizer_of_another_kind(transfer: Transfer, tmp_path: Path) -> None:
    """All of a Unigram vocabulary's tokens that are not shared come closer, from spaces as "▁" to bytes."""
    words = dict.fromkeys("▁" + word for word in " ".join(SENTENCES).split())
    letters = dict.fromkeys("".join(words))
    pieces = {"<unk>": 0.0, "<s>": 0.0} | dict.fromkeys(letters, -9.0) | dict.fromkeys(words, -3.0)
    tokenizer = Tokenizer(models.Unigram([*pieces.items()], 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>", "unk_token": "<unk>"}')
    replaced = plan_transfer(transfer.source, tmp_path, transfer.model, texts=lambda: iter(SENTENCES))
    assert len(replaced.new) > 10
    model, snippets = FrozenModel(transfer.model), collect(replaced, ROWS, Parameters())
    mean = mean_of(replaced)(model.matrix_VH, "tied")
    rows = made(replaced, output_epochs=0, epochs=5)
    assert difference(model, snippets, rows) < 0.8 * difference(model, snippets, mean)
    moved = (rows != mean).any(1)
    present = {row for snippet in snippets for row in snippet.new.tolist()}
    assert moved.tolist() == [ROWS + i in present for i in range(len(replaced.new))]


def test_without_new_tokens_there_are_no_rows(transfer: Transfer) -> None:
    same = plan_transfer(transfer.source, transfer.source, transfer.model, texts=lambda: iter(["The heart."]))
    assert made(same).shape == (0, 32)


def test_without_texts_it_says_so(transfer: Transfer) -> None:
    with pytest.raises(StageFailed, match="texts"):
        made(replace(transfer, texts=None))
