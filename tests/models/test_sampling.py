from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_attention import tiny
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.models import sampling
from cpt.models.sampling import drawn_at, follow

PROMPTS = [[5, 9, 33, 4], [7], [12, 50, 8, 41, 3, 22], [9, 9], [61, 30]]
STOPS = frozenset({1, 2, 40, 41})


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_decoding_one_token_at_a_time_equals_the_whole_forward(kind: str) -> None:
    sampling.register_one_token_attention()
    ids = torch.randint(3, 60, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = tiny(kind, "eager")(ids).logits
        model, cache, steps = tiny(kind, sampling.ONE_TOKEN), None, []
        for token in ids.T:
            output = model(token[:, None], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-4)


def test_more_than_one_token_is_refused() -> None:
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="one token at a time"):
        sampling._attention_interface(torch.nn.Module(), x, x, x, None)


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.0, 0.25]])).repeat(20_000, 1)
    points = torch.rand(len(logits), 1, generator=torch.Generator().manual_seed(0))
    drawn = drawn_at(points, 1.0, logits).argmax(-1).numpy()
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx([0.5, 0.25, 0.0, 0.25], abs=0.015)
    assert shares[2] == 0


def small(kind: str) -> Any:
    """A random model of full, sliding, or partly linear attention, or with learned positions."""
    if kind in ("llama", "mistral"):
        return tiny(kind, "sdpa")
    sizes: dict[str, Any] = {"vocab_size": 64, "initializer_range": 0.3, "num_attention_heads": 4}
    sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "qwen3_next":
        sizes |= {
            **{"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "mlp_only_layers": [0, 1]},
            "layer_types": ["linear_attention", "full_attention"],
            **{"linear_key_head_dim": 8, "linear_value_head_dim": 8},
            **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
        }
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()


@torch.no_grad()
def by_the_definition(model: Any, lengths: list[int], temperature: float, seed: int) -> list[list[int]]:
    """Each row alone, without a cache; every step has a random number for every row, whether it is used."""
    generator = torch.Generator().manual_seed(seed)
    points = [torch.rand(len(PROMPTS), 1, generator=generator) for _ in range(max(lengths))]
    found = []
    for row, prompt in enumerate(PROMPTS):
        ids: list[int] = []
        while len(ids) < lengths[row] and not (ids and ids[-1] in STOPS):
            logits = model(torch.tensor([prompt + ids]), use_cache=False).logits[:, -1]
            ids.append(int(drawn_at(points[len(ids)][row : row + 1], temperature, logits).argmax()))
        found.append(ids)
    return found


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2", "qwen3_next"])
def test_rows_follow_their_prompts_as_if_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_BETWEEN", 3)
    model, lengths = small(kind), [20, 20, 5, 20, 20]
    ends = []
    for seed in range(4):
        found = follow(model, PROMPTS, lengths, 0.8, seed, STOPS)
        assert found == by_the_definition(model, lengths, 0.8, seed)
        ends += [len(row) for row in found]
    assert 20 in ends
    assert len(set(ends)) > 4  # rows left at many times


def test_rows_that_have_ended_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_BETWEEN", 4)
    model, sizes = tiny("llama", "sdpa"), []
    model.register_forward_pre_hook(
        lambda _, __, options: sizes.append(len(options["input_ids"])), with_kwargs=True
    )
    found = follow(model, [[7]] * 30, [24] * 30, 1.0, 0, STOPS)
    expected: list[int] = []
    while len(expected) < max(map(len, found)):
        expected += [sum(len(row) > len(expected) for row in found)] * 4
    assert sizes == expected[: max(map(len, found))]
    assert sizes[0] == 30 > sizes[-1]


def test_a_model_keeps_its_own_settings() -> None:
    model = tiny("llama", "sdpa")
    settings, attention = model.generation_config, model.config._attn_implementation
    settings.repetition_penalty = 5.0
    sampled = sampling.sample(model, 7, {1}, 3, 20, 0)
    assert model.generation_config is settings
    assert model.config._attn_implementation == attention
    settings.repetition_penalty = 1.0
    assert sampling.sample(model, 7, {1}, 3, 20, 0) == sampled
    assert follow(model, [], [], 1.0, 0, {1}) == []


def test_the_tokens_so_far_are_told_every_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_BETWEEN", 4)
    model, told = tiny("llama", "sdpa"), []
    found = follow(model, [[7]] * 30, [24] * 30, 1.0, 0, STOPS, told.append)
    assert told == [sum(min(len(row), 4 * (at + 1)) for row in found) for at in range(len(told))]
    assert told[-1] == sum(map(len, found))
    assert len(told) == math.ceil(max(map(len, found)) / 4)
