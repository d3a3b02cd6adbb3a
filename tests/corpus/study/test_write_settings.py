"""Settings of a model that writes, its prompts, and the estimate of its cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from chat_server import documents
from pydantic import ValidationError

from cpt.corpus.study.language import load_language
from cpt.corpus.study.write.cost import estimate
from cpt.corpus.study.write.prompts import Prompts, passages_of
from cpt.corpus.study.write.settings import KINDS, WriteSettings

SERVER: dict[str, Any] = {"model": "http://localhost:8000/v1", "name": "writer-8b", "tokens": 1000}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": None}, "give the name of the model"),
        ({"model": "http://user:pass@localhost/v1"}, "recipes are copied"),
        ({"model": "https://localhost/v1?key=abc"}, "recipes are copied"),
        ({"model": "https:///v1"}, "has no host"),
        ({"model": "http://localhost:99999/v1"}, "ort"),
        ({"engine": "vllm"}, "engine changes nothing"),
        ({"fields": {"model": "other"}}, "model cannot be changed"),
        ({"kinds": ["questions", "questions"]}, "named twice"),
        ({"key_variable": "sk-not-a-name"}, "pattern"),
        ({"model": "http://192.168.0.7:8000/v1", "key_variable": "MINE"}, "unencrypted"),
        ({"model": "HTTP://localhost.example.org/v1", "key_variable": "MINE"}, "unencrypted"),
        ({"model": "http://api.openai.com/v1"}, "unencrypted"),
        ({"model": "org/model"}, "name: only an address has this"),
        ({"tokens": 0}, "greater than 0"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WriteSettings.model_validate(SERVER | changed)


def test_an_address_is_taken_with_or_without_its_last_part() -> None:
    for end in ("", "/", "/chat/completions"):
        settings = WriteSettings.model_validate(SERVER | {"model": f"http://localhost:8000/v1{end}"})
        assert settings.model == "http://localhost:8000/v1"
        assert (settings.is_address, settings.reference) == (True, None)


@pytest.mark.parametrize(
    ("address", "named", "variable"),
    [
        ("https://api.openai.com/v1", None, "OPENAI_API_KEY"),
        ("https://API.OpenAI.com/v1", None, "OPENAI_API_KEY"),
        ("https://api.openai.com/v1", "MINE", "MINE"),
        ("https://api.openai.com.example.org/v1", None, None),
        ("https://example.org/api.openai.com/v1", None, None),
        ("http://example.org/v1", None, None),
        ("https://example.org/v1", "MINE", "MINE"),
        ("http://localhost:8000/v1", None, None),
        ("http://localhost:8000/v1", "MINE", "MINE"),
        ("http://127.0.0.2:8000/v1", "MINE", "MINE"),
        ("http://[::1]:8000/v1", "MINE", "MINE"),
    ],
)
def test_a_key_is_for_the_address_that_it_is_named_for(
    address: str, named: str | None, variable: str | None
) -> None:
    given = {"key_variable": named} if named else {}
    assert WriteSettings.model_validate(SERVER | {"model": address} | given).variable == variable


def test_a_key_over_plain_http_is_a_problem_of_its_own_key() -> None:
    wrong = SERVER | {"model": "http://gpu.example.org/v1", "key_variable": "MINE"}
    with pytest.raises(ValidationError) as caught:
        WriteSettings.model_validate(wrong)
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("key_variable",)
    assert WriteSettings.model_validate(wrong | {"key_variable": None}).variable is None


def test_models_are_told_apart() -> None:
    base, other = WriteSettings(tokens=1), WriteSettings(model="org/model", tokens=1)
    assert (base.reference, base.label, base.is_address) == (None, "the base", False)
    assert (other.reference, other.label, other.is_address) == ("org/model", "org/model", False)


def test_every_prompt_holds_its_passage_and_is_a_function_of_the_seed() -> None:
    settings, language = WriteSettings(tokens=1, questions=7, strategies=2), load_language("en")
    (passage,) = passages_of(documents(1)[0], 4000, language)
    made = {seed: Prompts(language, settings, seed) for seed in (1, 2)}
    for prompts in made.values():
        for request in (
            prompts.questions(passage),
            prompts.rephrase(passage),
            prompts.strategies(passage),
            prompts.apply(passage, "Draw it."),
            prompts.refine(passage, passage.text),
            prompts.answer(passage, "Why?"),
        ):
            assert request.prompt.count(passage.text) == request.plain.count(passage.text) == 1
            assert "{" not in request.prompt.replace(passage.text, "")
            assert 0 <= request.seed < 2**31
            assert request.prompt.count(f"[text {passage.digest[:8]}]") == 3
    assert "up to 7 questions" in made[1].questions(passage).prompt
    assert made[1].questions(passage) == Prompts(language, settings, 1).questions(passage)
    assert made[1].questions(passage).seed != made[2].questions(passage).seed


def test_short_passages_are_not_written_about() -> None:
    (document,), english = documents(1), load_language("en")
    assert [passage.text for passage in passages_of(document, 4000, english)] == [document.text]
    longer = replace(document, text=f"{'A long line. ' * 20}\n{'Short. ' * 12}\n{'Another long line. ' * 13}")
    two = list(passages_of(longer, 290, english))
    assert [passage.number for passage in two] == [0, 2]  # between them there are but a few characters
    assert all(longer.text[slice(*passage.span)].strip() == passage.text for passage in two)


def test_the_estimate_counts_requests_and_tokens_up_to_the_bound() -> None:
    every = WriteSettings(tokens=10**9, kinds=KINDS, strategies=3, passage=4000)
    cost = estimate(every, documents=100, characters=400_000)
    assert (cost.passages, cost.requests) == (100, 700)  # questions, rephrase, refine; strategies and 3 more
    assert 700 * 1000 < cost.read < 700 * 1500
    bounded = estimate(every.model_copy(update={"tokens": cost.written // 10}), 100, 400_000)
    assert bounded.requests == 70
    few = estimate(every.model_copy(update={"documents": 5}), 100, 400_000)
    assert few.requests == 35


def test_a_price_is_shown_where_the_user_gives_one() -> None:
    settings = WriteSettings.model_validate(SERVER | {"tokens": 500_000, "price_per_million": [0.1, 0.4]})
    cost = estimate(settings, 1000, 4_000_000)
    price = (cost.read * 0.1 + cost.written * 0.4) / 1e6
    assert cost.describe(settings).endswith(f"written, at your prices {price:.2f}")
    assert "price" not in cost.describe(settings.model_copy(update={"price_per_million": None}))
