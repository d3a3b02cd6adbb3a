"""Prompts of an evaluation: start token, chat template, length, hostile text."""

import json
from pathlib import Path

import pytest
from evaluated import QUESTIONS, WHOLE, task

from evals.evaluation import evaluate_tasks
from evals.models import language_model
from evals.models.language_model import PackedLM
from evals.preparation import PreparedTask
from evals.results import Results


def run(model: Path, prepared: list[PreparedTask], cache: Path, **options) -> Results:
    return evaluate_tasks(str(model), prepared, cache=cache, precision="fp32", **options)


def test_prompts_that_are_too_long_are_counted_again_and_again(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {**row, "question": row["question"] * (40 if number < 2 else 1)}
        for number, row in enumerate(QUESTIONS)
    ]
    prepared = [task(tmp_path, "long", rows=rows), task(tmp_path, "short")]
    for _ in range(2):
        long, short = run(tiny_model, prepared, tmp_path / "cache").tasks
        assert long.note == "6 requests are longer than the model reads and lost their beginning"
        assert short.note is None


@pytest.mark.parametrize("start", [None, "<s>", "auto"])
def test_the_start_token_precedes_prompts(tiny_model: Path, tmp_path: Path, start: str | None) -> None:
    prepared = [task(tmp_path, "whole", WHOLE, metric="bits_per_byte")]
    found = run(tiny_model, prepared, tmp_path / "cache", start_token=start)
    auto = run(tiny_model, prepared, tmp_path / "cache")
    assert found.settings["start_token"] == start
    assert (found.tasks[0].score == auto.tasks[0].score) == (start != "<s>")


def test_a_chat_template_is_put_around_prompts(another_model, tmp_path: Path) -> None:
    model = another_model("chat")
    template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    prepared = [task(tmp_path, "choices")]
    seen: list[str] = []

    class Seeing(PackedLM):
        def loglikelihood(self, requests, disable_tqdm=True):
            seen.extend(request.args[0] for request in requests)
            return super().loglikelihood(requests, disable_tqdm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "PackedLM", Seeing)
        found = run(model, prepared, tmp_path / "cache", chat=True)
    assert found.settings["chat"] is True
    assert f"<s>user: {QUESTIONS[0]['question']}</s>" in seen
    assert run(model, prepared, tmp_path / "cache").items != found.items or len(seen) == 24


def test_text_of_data_is_never_a_template(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{**row, "question": "{{ 7 * 7 }} {% raw %} " + row["question"]} for row in QUESTIONS]
    asked: list[str] = []

    class Seeing(PackedLM):
        def loglikelihood(self, requests, disable_tqdm=True):
            asked.extend(request.args[0] for request in requests)
            return super().loglikelihood(requests, disable_tqdm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "PackedLM", Seeing)
        run(tiny_model, [task(tmp_path, "hostile", rows=rows)], tmp_path / "cache")
    assert json.dumps(sorted(set(asked))) == json.dumps(sorted({row["question"] for row in rows}))
