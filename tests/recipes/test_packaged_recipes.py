"""Every recipe that comes with cpt is right: it loads, and each of its settings is known."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pytest
from tiny import varied_texts, write_jsonl

from cpt.errors import RecipeError
from cpt.recipe.authoring import about, templates
from cpt.recipe.load import load
from cpt.recipe.schema import Recipe
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.evaluate.config import EvaluateConfig
from cpt.stages.merge.config import MergeConfig
from cpt.stages.pretrain.config import PretrainConfig
from evals.registry import select

T = TypeVar("T")
STUDY = ["corpus", "pretrain", "merge", "evaluate", "report"]
STAGES = {
    "finance-study": STUDY,
    "legal-study": STUDY,
    "medical-study": STUDY,
    "stability": STUDY,
    "budget": STUDY,
    "code-qa": STUDY,
    "instruct": ["corpus", "pretrain", "instructed", "merge", "evaluate", "report"],
    "infinite": [
        *("medical-text", "medical", "legal-text", "legal", "finance-text", "finance"),
        *("merge", "evaluate", "report"),
    ],
    "zett-smollm2": ["corpus", "hypernetwork"],
}
ALL_STAGES = ["corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"]

OWN_DATA = sorted(name for name, text in templates().items() if "path: data/" in text)
ADAPTED = sorted(name for name, text in templates().items() if "- pretrain:" in text)


def write_data(folder: Path, recipe: str) -> None:
    """Every file in data/ that a recipe names."""
    (folder / "data").mkdir()
    for name in re.findall(r"path: data/([\w.]+)", recipe):
        write_jsonl(folder / "data" / name, varied_texts(3))


def commands(name: str) -> list[list[str]]:
    """The words after `cpt run FILE` of each command in a recipe's header, up to the launcher's."""
    header = templates()[name].partition("\nname:")[0]
    joined = re.sub(r"\\\n#", " ", header)
    lines = [line.partition("cpt run FILE")[2] for line in joined.splitlines() if "cpt run FILE " in line]
    found = [shlex.split(line)[: line.count(" ") + 1] for line in lines if "=" in line]
    return [words[: words.index("--")] if "--" in words else words for words in found]


def of_kind(recipe: Recipe, kind: type[T]) -> list[T]:
    return [step.config for step in recipe.steps if isinstance(step.config, kind)]


def tiny_overrides(name: str) -> list[str]:
    (words,) = (words for words in commands(name) if f"name={name}-tiny" in words)
    return words


@pytest.mark.parametrize("name", sorted(templates()))
def test_recipe_is_valid_once_its_data_is_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    recipe = load(path)
    assert [step.name for step in recipe.steps] == STAGES.get(name, ALL_STAGES)
    assert about(templates()[name])


@pytest.mark.parametrize("name", OWN_DATA)
def test_tiny_variant_of_the_header_is_valid(name: str, tmp_path: Path) -> None:
    text = templates()[name]
    overrides = tiny_overrides(name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    write_data(tmp_path, text)
    recipe = load(path, overrides)
    assert recipe.name == f"{name}-tiny"
    assert not any(corpus.decontaminate for corpus in of_kind(recipe, CorpusConfig))
    if name in ADAPTED:
        (evaluate,) = of_kind(recipe, EvaluateConfig)
        assert not evaluate.suites


def header_commands() -> list[tuple[str, list[str]]]:
    return [
        (name, words) for name in OWN_DATA for words in commands(name) if f"name={name}-tiny" not in words
    ]


@pytest.mark.parametrize(("name", "words"), header_commands())
def test_every_command_of_a_header_is_valid(name: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    assert load(path, [word for word in words if "=DIR" not in word])


SIZED = sorted({*OWN_DATA} & {*ADAPTED} - {"finance-study", "legal-study", "medical-study"})


@pytest.mark.parametrize("name", SIZED)
def test_headers_have_larger_models_and_duties(name: str) -> None:
    bases = {word for words in commands(name) for word in words if word.startswith("base=meta-llama/")}
    assert bases == {"base=meta-llama/Llama-3.2-1B", "base=meta-llama/Llama-3.1-8B"}
    header = templates()[name].partition("\nname:")[0]
    assert "# Licences: " in header or "# Duties: " in header


@pytest.mark.parametrize("name", ADAPTED)
def test_every_recipe_bounds_what_general_text_may_lose(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    merge = of_kind(load(path), MergeConfig)[-1]
    assert [model.weight for model in merge.models] == ["auto"]
    assert [(gate.limit.probe, gate.action) for gate in merge.gates] == [("general", "fail")]
    assert all(0 < gate.limit.allowed <= 0.02 for gate in merge.gates)


QUESTIONS = {"finance-study": (0.16, 0.26), "legal-study": (0.02, 0.04)}
"""Tokens of questions in 8 forms to a token of documents, in textbooks of finance and in statutes."""


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("name", ["finance-study", "legal-study", "medical-study"])
def test_study_recipes_read_what_they_select_and_questions_no_more_than_they_may(
    name: str, share: int, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    configs = {type(step.config): step.config for step in load(path).steps}
    corpus, pretrain = configs[CorpusConfig], configs[PretrainConfig]
    assert isinstance(corpus, CorpusConfig)
    assert isinstance(pretrain, PretrainConfig)
    assert corpus.select
    assert pretrain.tokens
    assert corpus.study
    assert corpus.study.forms == 8
    questions = QUESTIONS.get(name, (1, 1))[share] * corpus.select.tokens
    domain, begin, read = pretrain.tokens * (1 - pretrain.replay), 0.0, Counter[str]()
    for phase in pretrain.mixture or []:
        end = questions if phase.until == "once" else phase.until * domain
        assert phase.weights
        for part, weight in phase.weights.items():
            read[part] += weight / sum(phase.weights.values()) * (end - begin)
        begin = end
    assert 1.08 * corpus.select.tokens < read["documents"] < 1.4 * corpus.select.tokens
    if name in QUESTIONS:
        assert isinstance(pretrain.epochs, dict)
        assert 1 < read["questions"] / questions < pretrain.epochs["questions"]
        assert pretrain.epochs["questions"] <= 20
    (chats,) = (made for _, made in corpus.self_generated() if made.form == "chat")
    assert chats.length <= corpus.sequence_length - 64  # room for the template


def tasks(suites: Iterable[str]) -> set[str]:
    return {entry.task for suite, level in select(tuple(suites)) for entry in suite.at(level)}


SUITES = ("finance", "legal", "medical")
WITH_SUITES = sorted([*SUITES, *(f"{name}-study" for name in SUITES)])


@pytest.mark.parametrize("name", [*WITH_SUITES, "budget", "code-qa", "infinite", "instruct", "language"])
def test_no_near_copy_of_held_out_text_trains(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    assert {corpus.deduplicate.kind for corpus in of_kind(load(path), CorpusConfig)} == {"minhash"}


@pytest.mark.parametrize("name", [*WITH_SUITES, "budget", "code-qa", "infinite", "instruct"])
def test_every_task_that_is_evaluated_is_searched_for_in_the_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    recipe = load(path)
    (evaluate,) = of_kind(recipe, EvaluateConfig)
    for corpus in of_kind(recipe, CorpusConfig):
        assert corpus.decontaminate
        assert tasks(evaluate.suites) <= tasks(corpus.decontaminate.suites)


@pytest.mark.parametrize("name", ["budget", "code-qa", "infinite", "instruct"])
def test_every_training_is_bounded_on_general_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    earlier: list[str] = []
    for training in of_kind(load(path), PretrainConfig):
        assert [gate.limit.probe for gate in training.gates] == [*earlier, "general"]
        assert all(gate.action == "raise-replay" for gate in training.gates)
        earlier.append(f"domain.{training.name}")  # what the next ones must not forget


def test_two_stages_of_a_language_end_with_its_best_text_at_a_lower_rate(tmp_path: Path) -> None:
    path = tmp_path / "language.yaml"
    path.write_text(templates()["language"])
    write_data(tmp_path, templates()["language"])
    (words,) = (words for words in commands("language") if "name=two-stage" in words)
    (training,) = of_kind(load(path, words), PretrainConfig)
    assert training.mixture
    first, second = training.mixture
    assert first.weights == {"broad": 1, "best": 0}
    assert second.weights
    assert second.weights["best"] > second.weights["broad"]
    assert second.replay is None
    assert isinstance(training.replay, float)
    assert first.replay
    assert first.replay > 0.25 > training.replay > 0
    rates = [training.schedule.rate(done, 1000) for done in (500, 850, 925, 999)]
    assert rates[0] == rates[1] > rates[2] > rates[3] > 0


@pytest.mark.parametrize(
    ("override", "key", "message"),
    [
        ("pretrain.monitor.budget=5%", "pretrain.monitor.budget", "`budget` is now called `probe_share`"),
        (
            "pretrain.gates=[{budget: general <= +0.02, action: stop}]",
            "pretrain.gates.0.budget",
            "`budget` is now called `limit`",
        ),
        (
            "merge.gates=[{budget: general <= +0.02}]",
            "merge.gates.0.budget",
            "`budget` is now called `limit`",
        ),
    ],
)
def test_the_former_name_of_a_key_is_refused_with_the_new_one(
    override: str, key: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "medical.yaml"
    path.write_text(templates()["medical"])
    write_data(tmp_path, templates()["medical"])
    with pytest.raises(RecipeError) as caught:
        load(path, [override])
    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.message == message
