"""Answers on disk: found again by all that they depend on, and only so; fingerprints of models."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cpt.errors import StageFailed
from evals.models import request_cache
from evals.models.request_cache import FILE, Answer, RequestCache, model_fingerprint, request_key

IDENTITY = {"model": "abc", "precision": "float32", "start": [1, 1], "chat": None}
KEY = request_key("loglikelihood", ("The heart", " of"))


def opened(folder: Path, messages: list[str] | None = None, **changed) -> RequestCache:
    said = messages if messages is not None else []
    return RequestCache(folder, {**IDENTITY, **changed}, said.append)


def test_answers_are_found_again_by_the_same_model_alone(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.keep(KEY, Answer([-1.25, True], truncated=True))
    text = request_key("generate_until", ("The heart", {"until": ["\n"]}))
    cache.keep(text, Answer("ß\n\ud83d"))
    cache.close()
    assert opened(tmp_path).find([KEY, text, "other"]) == {
        KEY: Answer([-1.25, True], truncated=True),
        text: Answer("ß\n\ud83d"),
    }
    for changed in ({"model": "b"}, {"precision": "bfloat16"}, {"start": [2, 1]}, {"chat": "template"}):
        assert opened(tmp_path, **changed).find([KEY]) == {}


def test_requests_differ_by_kind_and_by_everything_asked() -> None:
    keys = {
        request_key("loglikelihood", ("a", "b")),
        request_key("loglikelihood", ("ab", "")),
        request_key("loglikelihood", ("a", " b")),
        request_key("loglikelihood_rolling", ("a", "b")),
        request_key("generate_until", ("a", {"until": ["b"]})),
        request_key("generate_until", ("a", {"until": ["c"]})),
    }
    assert len(keys) == 6
    one, other = {"until": ["b"], "max_gen_toks": 2}, {"max_gen_toks": 2, "until": ["b"]}
    assert request_key("generate_until", ("a", one)) == request_key("generate_until", ("a", other))


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling", "generate_until"])
def test_answers_of_earlier_code_are_not_served(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("loglikelihood", "loglikelihood_rolling", "generate_until")
    before = {each: request_key(each, ("a", {"until": ["b"]})) for each in kinds}
    monkeypatch.setitem(request_cache.CONTRACTS, kind, request_cache.CONTRACTS[kind] + 1)
    after = {each: request_key(each, ("a", {"until": ["b"]})) for each in kinds}
    assert [each for each in kinds if before[each] != after[each]] == [kind]


def test_texts_depend_on_how_long_they_are_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [request_key(kind, ("a", "b")) for kind in ("generate_until", "loglikelihood")]
    monkeypatch.setattr(request_cache, "NEW_TOKENS", 512)
    after = [request_key(kind, ("a", "b")) for kind in ("generate_until", "loglikelihood")]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_more_answers_than_a_query_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_cache, "_KEYS_AT_ONCE", 3)
    cache = opened(tmp_path)
    for number in range(10):
        cache.keep(str(number), Answer(number))
    assert [answer.value for _, answer in sorted(cache.find(map(str, range(20))).items())] == list(range(10))


def test_two_processes_may_write(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.keep("a", Answer(1))
    one.write()
    other.keep("b", Answer(2))
    other.write()
    assert one.find(["a", "b"]) == {"a": Answer(1), "b": Answer(2)}


def test_what_a_killed_run_wrote_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_cache, "_WRITE_SECONDS", 0.0)
    cache = opened(tmp_path)
    cache.keep(KEY, Answer([-1.0, False]))
    assert opened(tmp_path).find([KEY])  # although the first was never closed


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    cache = opened(tmp_path)
    for number in range(2000):
        cache.keep(str(number), Answer("x" * 100))
    cache.close()
    file = tmp_path / FILE
    content = file.read_bytes()
    file.write_bytes(b"no database" * 100 if damage == "text" else content[: len(content) // 2])
    messages: list[str] = []
    again = opened(tmp_path, messages)
    assert again.find(["1"]) == {}
    again.keep("1", Answer(1))
    again.close()
    assert len(messages) == 1
    assert "is damaged" in messages[0]
    assert len(list(tmp_path.glob(f"{FILE}.damaged-*"))) == 1
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (1,)


def test_a_file_that_another_process_holds_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path).close()
    holder = sqlite3.connect(tmp_path / FILE)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(request_cache, "_WAIT_SECONDS", 0.01)
    with pytest.raises(StageFailed, match="cannot be used: database is locked"):
        opened(tmp_path)
    assert not list(tmp_path.glob(f"{FILE}.damaged-*"))
    holder.close()


def test_answers_that_cannot_be_written_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_cache, "_WAIT_SECONDS", 0.01)
    cache = opened(tmp_path)
    holder = sqlite3.connect(tmp_path / FILE)
    holder.execute("BEGIN IMMEDIATE")
    cache.keep("a", Answer(1))
    with pytest.raises(StageFailed, match="answers cannot be kept"):
        cache.write()
    holder.close()


def edited(folder: Path, name: str, **changes: object) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))


def test_a_fingerprint_is_of_what_the_model_computes(tiny_model: Path, another_model, tmp_path: Path) -> None:
    first = model_fingerprint(tiny_model)
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_model, copy)
    assert model_fingerprint(copy) == first
    edited(copy, "config.json", transformers_version="0", _name_or_path="x", use_cache=False)
    (copy / "README.md").write_text("notes")
    assert model_fingerprint(copy) == first

    seen = {first, model_fingerprint(another_model("b", seed=1))}
    edited(copy, "config.json", rms_norm_eps=0.1)
    seen.add(model_fingerprint(copy))
    edited(copy, "generation_config.json", repetition_penalty=2.0)
    seen.add(model_fingerprint(copy))
    edited(copy, "tokenizer.json", version="2.0")
    seen.add(model_fingerprint(copy))
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    weights[name][0] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    seen.add(model_fingerprint(copy))
    assert len(seen) == 6
