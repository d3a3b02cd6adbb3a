"""Token ids in a merged model's settings, and the list of its new tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import WORDS, input_model, merge, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.models.token_ids import NEW_TOKENS_FILE, read_new_tokens, write_new_tokens

ROWS = 16


def padded(folder: Path, seed: int, *words: str, **generation: Any) -> Path:
    """A model whose rows without a token are never sampled, as a change of vocabulary leaves it."""
    tokens = (*WORDS, *words)
    write_model(folder, seed, words=tokens, rows=ROWS)
    file = folder / "generation_config.json"
    unused = list(range(len(tokens), ROWS))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"suppress_tokens": unused} | generation))
    write_new_tokens(folder, range(len(WORDS), len(tokens)))
    return folder


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return padded(tmp_path / "one", 2, "nephron", "aorta")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Its own tokens have the ids 6 and 7; in a union with `one` 8 and 9."""
    lists = {
        "suppress_tokens": [6, *range(8, ROWS)],
        "begin_suppress_tokens": [3, 7],
        "bad_words_ids": [[2, 7], [9], [6]],
        "sequence_bias": [[[7, 2], -1.5], [[12], 2.0]],
        "forced_bos_token_id": 6,
        "eos_token_id": [1, 7, 11],
    }
    return padded(tmp_path / "two", 3, "tort", "lien", **lists)


def settings_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "generation_config.json").read_text())
    return found


@pytest.mark.parametrize("base", [None, "one"])
def test_a_union_mutes_rows_without_a_token_and_no_token(
    base: str | None, one: Path, two: Path, tmp_path: Path
) -> None:
    models = [input_model(two, 1.0)] if base else [input_model(one, 1.0), input_model(two, 1.0)]
    method = "task-arithmetic" if base else "linear"
    merge(method, one if base else None, models, tmp_path / "merged", tokenizer="union")
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged").get_vocab()
    assert [ids["tort"], ids["lien"]] == [8, 9]
    assert settings_of(tmp_path / "merged")["suppress_tokens"] == list(range(10, ROWS))


def test_a_token_that_was_muted_in_a_union_can_be_generated(one: Path, two: Path, tmp_path: Path) -> None:
    merge(
        "linear", None, [input_model(one, 1.0), input_model(two, 1.0)], tmp_path / "merged", tokenizer="union"
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    prompt = torch.tensor([[2]])
    with torch.no_grad():  # by far the likeliest token
        model.get_input_embeddings().weight[8] = 100 * model.model(prompt).last_hidden_state[0, -1]
    made = model.generate(prompt, max_new_tokens=1, do_sample=False)
    assert made[0, -1] == 8


def test_every_setting_with_ids_follows_its_tokens(one: Path, two: Path, tmp_path: Path) -> None:
    models = [input_model(one, 1.0), input_model(two, 1.0)]
    merge("linear", None, models, tmp_path / "merged", tokenizer="union", settings="two")
    found = settings_of(tmp_path / "merged")
    assert found["suppress_tokens"] == [8, *range(10, ROWS)]
    assert found["begin_suppress_tokens"] == [3, 9]
    assert found["bad_words_ids"] == [[2, 9], [8]]
    assert found["sequence_bias"] == [[[9, 2], -1.5]]
    assert found["forced_bos_token_id"] == 8
    assert found["eos_token_id"] == [1, 9]
    assert found["max_new_tokens"] == 13


@pytest.mark.parametrize("own_words", [("tort",), ()])
def test_rows_stay_muted_where_another_models_settings_are_taken(
    own_words: tuple[str, ...], tmp_path: Path
) -> None:
    """The other model's rows are used up, or it never said that some are not."""
    base = padded(tmp_path / "base", 1)
    other = write_model(tmp_path / "other", 2, (*WORDS, *own_words), rows=None if own_words else ROWS)
    merge(
        "task-arithmetic",
        base,
        [input_model(other, 1.0)],
        tmp_path / "merged",
        tokenizer="base",
        settings="other",
    )
    found = settings_of(tmp_path / "merged")
    assert found["suppress_tokens"] == list(range(len(WORDS), ROWS))
    assert found["max_new_tokens"] == 12


def test_rows_that_no_model_mutes_stay_as_they_are_where_vocabularies_are_the_same(tmp_path: Path) -> None:
    base, other = (write_model(tmp_path / str(seed), seed, rows=ROWS) for seed in (1, 2))
    merge("task-arithmetic", base, [input_model(other, 1.0)], tmp_path / "merged")
    assert "suppress_tokens" not in settings_of(tmp_path / "merged")


def test_a_model_without_generation_settings_gets_those_of_its_configuration(tmp_path: Path) -> None:
    folders = [padded(tmp_path / name, seed, name) for seed, name in enumerate(("tort", "lien"))]
    for folder in folders:
        (folder / "generation_config.json").unlink()
    merge(
        "linear", None, [input_model(each, 1.0) for each in folders], tmp_path / "merged", tokenizer="union"
    )
    found = settings_of(tmp_path / "merged")
    assert (found["bos_token_id"], found["eos_token_id"]) == (0, 1)
    assert found["suppress_tokens"] == list(range(8, ROWS))


def test_padding_that_the_configuration_names_is_no_token_of_another_model(
    one: Path, two: Path, tmp_path: Path
) -> None:
    """Models are often padded with a row that no token has; in a union it may be a token's."""
    for row, expected in ((8, None), (15, 15)):
        file = one / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": row}))
        output = tmp_path / f"merged {row}"
        merge("linear", None, [input_model(one, 1.0), input_model(two, 1.0)], output, tokenizer="union")
        assert json.loads((output / "config.json").read_text())["pad_token_id"] == expected


def new_words(folder: Path) -> set[str]:
    tokens = AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(list(read_new_tokens(folder)))
    return set(tokens)


@pytest.mark.parametrize("tokenizer", ["union", "two", "base"])
def test_new_tokens_of_the_models_are_new_in_the_merge(
    tokenizer: str, base: Path, one: Path, two: Path, tmp_path: Path
) -> None:
    report = merge(
        "task-arithmetic", base, [input_model(one, 0.5), input_model(two, 0.5)], tmp_path / "merged",
        tokenizer=tokenizer,
    )  # fmt: skip
    expected = {"union": {"nephron", "aorta", "tort", "lien"}, "two": {"tort", "lien"}, "base": set()}
    assert new_words(tmp_path / "merged") == expected[tokenizer]
    assert report.new_tokens == len(expected[tokenizer])
    assert (NEW_TOKENS_FILE in report.checksums) == (tokenizer != "base")


def test_new_tokens_are_kept_where_all_models_have_them(one: Path, tmp_path: Path) -> None:
    again = padded(tmp_path / "again", 5, "nephron", "aorta")
    merge("task-arithmetic", one, [input_model(again, 0.5)], tmp_path / "merged")
    assert read_new_tokens(tmp_path / "merged") == (6, 7)


def test_a_token_that_one_model_has_had_before_is_not_new(one: Path, tmp_path: Path) -> None:
    older = write_model(tmp_path / "older", 4, words=(*WORDS, "aorta"))
    merge("linear", None, [input_model(one, 1.0), input_model(older, 1.0)], tmp_path / "merged")
    assert new_words(tmp_path / "merged") == {"nephron"}
