"""Greedy generation against transformers' own, through lm-eval's HFLM."""

import logging
from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import DataError
from cpt.models import attention
from cpt.models.packed_model import PackedLanguageModel, load_model
from evals.models import generation
from evals.models.generation import GenerationRequest
from evals.models.language_model import PackedLM
from evals.models.prompting import Prompting

PROMPTS = [
    "The heart of",
    "A fever in the night is a fever",
    "Nine",
    "What the nerve conducts, the muscle",
    "The",
]


class Request:
    def __init__(self, *args) -> None:
        self.args = args


def ours(folder: Path, penalty: float | None = None) -> PackedLM:
    model, prompting = load_model(folder), Prompting(folder)
    model.generation_config.repetition_penalty = penalty
    return PackedLM(
        PackedLanguageModel(model),
        prompting.tokenizer,
        start_token=prompting.start,
        end_token=prompting.end,
    )


def theirs(folder: Path, penalty: float | None = None) -> HFLM:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config.repetition_penalty = penalty
    return HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=1)


def stop_strings(folder: Path) -> list[str]:
    """Something that the model writes in the middle of a text."""
    [text] = ours(folder).generate_until([Request(PROMPTS[0], {"until": [], "max_gen_toks": 8})])
    return [text[len(text) // 2 :][:2]]


@pytest.mark.parametrize("penalty", [None, 1.5])
@pytest.mark.parametrize("rows", [16_384, 30])
def test_texts_are_those_of_transformers(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, penalty: float | None, rows: int
) -> None:
    monkeypatch.setattr(generation, "BATCH_TOKENS", rows)
    settings = [
        {"until": [], "max_gen_toks": 9},
        {"until": stop_strings(tiny_model), "max_gen_toks": 12},
        {"until": ["\n"], "max_gen_toks": 1, "do_sample": False, "temperature": 0.0},
    ]
    requests = [Request(prompt, each) for prompt in PROMPTS for each in settings]
    found = ours(tiny_model, penalty).generate_until(requests)
    expected = theirs(tiny_model, penalty).generate_until(requests, disable_tqdm=True)
    assert found == expected
    assert len(set(found)) > 3


def test_generation_ends_at_the_models_end_token(tiny_model: Path) -> None:
    model = ours(tiny_model)
    settings = {"until": [], "max_gen_toks": 8}
    [text] = model.generate_until([Request("The heart", settings)])
    ids = model.tok_encode(text, add_special_tokens=False)
    model._packed.model.generation_config.eos_token_id = [ids[2]]
    [shorter] = model.generate_until([Request("The heart", settings)])
    assert text.startswith(shorter)
    assert len(shorter) < len(text)


def test_generation_ends_at_the_tokenizers_end_token(another_model) -> None:
    folder: Path = another_model("chatml")
    request = Request("The heart", {"until": [], "max_gen_toks": 8})
    [text] = ours(folder).generate_until([request])
    third = ours(folder).tok_encode(text, add_special_tokens=False)[2]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(third)
    tokenizer.save_pretrained(folder)
    assert load_model(folder).config.eos_token_id != third
    assert Prompting(folder).end == third
    [shorter] = ours(folder).generate_until([request])
    assert [shorter] == theirs(folder).generate_until([request], disable_tqdm=True)
    assert text.startswith(shorter)
    assert len(shorter) < len(text)


def test_the_model_packs_again_afterwards(tiny_model: Path) -> None:
    model = ours(tiny_model)
    before = model.loglikelihood([Request("The heart", " of")])
    model.generate_until([Request("The heart", {"until": [], "max_gen_toks": 2})])
    assert model._packed.model.config._attn_implementation == attention.NAME
    assert model.loglikelihood([Request("The heart", " of")]) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, "asks for samples"),
        ({"temperature": 0.7}, "asks for samples"),
        ({"num_beams": 4}, "asks for num_beams"),
        ({"max_gen_toks": 128}, "up to 128 tokens, the model reads 128"),
    ],
)
def test_what_is_not_greedy_or_does_not_fit_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GenerationRequest.of([1, 2, 3], settings, 128)


def test_a_prompt_leaves_room_for_the_new_tokens() -> None:
    wanted = GenerationRequest.of(list(range(100)), {"until": "\n", "max_gen_toks": 30}, 110)
    assert (wanted.prompt, wanted.truncated, wanted.new, wanted.stops) == (
        list(range(20, 100)),
        20,
        30,
        ("\n",),
    )
    assert GenerationRequest.of([1], {"until": ["", "a"]}, 1000) == GenerationRequest(
        [1], ("a",), generation.NEW_TOKENS, 0
    )
