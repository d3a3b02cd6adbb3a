"""The frozen model's states against the models themselves; Adam against PyTorch's; the next token's cost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_transfers import made_transfer
from tiny import write_tiny_model
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from cpt.errors import ModelError, StageFailed
from tokenizer_tools.embeddings import Role, _frozen_model
from tokenizer_tools.embeddings._frozen_model import FrozenModel, NextToken, RowAdam

SMALL: dict[str, Any] = {"vocab_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDTHS = {"hidden_size": 16, "intermediate_size": 24}
IDS = [np.array([3, 5, 0, 7, 39]), np.array([8, 3])]
MODELS: dict[str, Any] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2)),
    "bert": lambda: BertForMaskedLM(BertConfig(**SMALL, **WIDTHS)),
    "xlm-roberta": lambda: XLMRobertaForMaskedLM(XLMRobertaConfig(**SMALL, **WIDTHS)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SMALL, **WIDTHS)),
    "gemma": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SMALL, **WIDTHS, num_key_value_heads=1, head_dim=8)
    ),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SMALL, **WIDTHS, logits_scaling=3.0)),
}


@pytest.fixture(autouse=True)
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frozen_model, "resolve_precision", lambda _: torch.float32)


def saved(model: PreTrainedModel, folder: Path) -> Path:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_states_are_the_models_own(name: str, tmp_path: Path) -> None:
    """Alone or in a batch, through whatever the model does to what it looks up."""
    folder = saved(MODELS[name](), tmp_path)
    model, own = FrozenModel(folder), AutoModel.from_pretrained(folder).eval()
    states = model.states(IDS, [np.array([0, 3, 4]), np.array([1])])
    with torch.no_grad():
        first, second = (own(input_ids=torch.tensor(ids)[None]).last_hidden_state[0] for ids in IDS)
    assert torch.allclose(states, torch.cat([first[[0, 3, 4]], second[1:]]), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_new_row_is_read_like_an_old_one(name: str, tmp_path: Path) -> None:
    """Whichever of the two names a row has, the states are the same; only the new row gets gradients."""
    model = FrozenModel(saved(MODELS[name](), tmp_path))
    new = model.matrix_VH[[5, 8]].clone().requires_grad_()
    at = [np.arange(5), np.arange(2)]
    states = model.states([np.array([3, 40, 0, 7, 39]), np.array([41, 3])], at, new)
    assert torch.allclose(states, model.states(IDS, at), atol=1e-6)
    states.square().sum().backward()
    assert new.grad is not None
    assert (new.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in model._model.parameters())


def test_the_first_layers_are_a_model_of_that_depth(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    model, own = FrozenModel(folder), AutoModel.from_pretrained(folder).eval()
    at = [np.arange(5), np.arange(2)]
    whole = model.states(IDS, at)
    first = model.states(IDS, at, layers=1)
    hidden = own(input_ids=torch.tensor(IDS[0])[None], output_hidden_states=True).hidden_states[1]
    assert torch.allclose(first[:5], own.norm(hidden)[0], atol=1e-5)
    assert not torch.allclose(first, whole, atol=1e-3)
    for layers in (None, 2, 9):
        assert torch.equal(model.states(IDS, at, layers=layers), whole)


def test_what_cannot_be_distilled_from(tmp_path: Path) -> None:
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    with pytest.raises(StageFailed, match="encoder-decoder") as raised:
        FrozenModel(saved(T5ForConditionalGeneration(config), tmp_path / "t5"))
    assert raised.value.hint
    folder = write_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks the weights"):
        FrozenModel(folder)


def test_row_adam_is_adam_where_every_row_has_a_gradient() -> None:
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    adam, reference = RowAdam(ours, 0.1), torch.optim.Adam([theirs], lr=0.1, eps=1e-12)
    for step in range(6):
        reference.param_groups[0]["lr"] = 0.1 * (1 - step / 6)
        for rows in (ours, theirs):
            (rows**4).sum().backward()
        adam.step(1 - step / 6)
        reference.step()
        reference.zero_grad()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_row_without_a_gradient_stays_and_starts_later_like_the_others() -> None:
    rows = torch.ones(2, 3).requires_grad_()
    adam = RowAdam(rows, 0.1)
    trace = []
    for step in range(6):
        (rows[1] if step >= 3 else rows[0]).square().sum().backward()
        adam.step()
        trace.append(rows.detach().clone())
    assert torch.equal(trace[2][1], torch.ones(3))
    assert torch.equal(trace[5][0], trace[2][0])
    assert torch.equal(trace[5][1], trace[2][0])


def mean_of_bias(matrix_VH: torch.Tensor, role: Role) -> torch.Tensor:
    assert (role, matrix_VH.shape[1]) == ("bias", 1)
    return matrix_VH[[3, 4]] / 2


@pytest.mark.parametrize("name", ["phi", "gpt2", "gemma"])
def test_the_cost_of_the_next_token_is_that_of_the_model_with_new_rows(name: str, tmp_path: Path) -> None:
    """Tokens 0-29 are shared, two are new; the others of the model's 40 rows take no part."""
    folder = saved(MODELS[name](), tmp_path)
    model = FrozenModel(folder)
    transfer = replace(made_transfer([[3], [4]]), shared_source=np.arange(30))
    new = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    states = model.states([IDS[0]], [np.arange(5)])
    targets = torch.tensor([3, 41, 29, 40, 0])
    head = AutoModelForCausalLM.from_pretrained(folder).get_output_embeddings()
    bias = torch.zeros(40) if head.bias is None else head.bias
    rows = torch.cat([head.weight[:30], new])
    logits = states @ rows.T + torch.cat([bias[:30], bias[[3, 4]] / 2])
    expected = cross_entropy(logits, torch.tensor([3, 31, 29, 30, 0]))
    next_token = NextToken(model, transfer, mean_of_bias)
    assert torch.allclose(next_token.cross_entropy(states, targets, new), expected, atol=1e-5)
    known = next_token.evidence(states)
    assert torch.allclose(next_token.cross_entropy(states, targets, new, known), expected, atol=1e-5)


def test_scaled_logits_are_refused(tmp_path: Path) -> None:
    model = FrozenModel(saved(MODELS["granite"](), tmp_path))
    with pytest.raises(StageFailed, match="scales") as raised:
        NextToken(model, made_transfer([[3], [4]]), mean_of_bias)
    assert "output_epochs" in str(raised.value.hint)


def test_an_encoder_predicts_no_next_token(tmp_path: Path) -> None:
    model = FrozenModel(saved(MODELS["bert"](), tmp_path))
    assert not model.tied
    with pytest.raises(StageFailed, match="next_token_weight"):
        NextToken(model, made_transfer([[3], [4]]), mean_of_bias)
