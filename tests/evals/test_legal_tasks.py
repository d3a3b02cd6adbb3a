"""Legal tasks on five items each: prompt, target and score, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tasks_on_files import chosen, prompts, task_on_files, written

from evals.metrics import aggregate
from evals.preparation import prepare
from evals.registry import Entry, Suite, suites
from evals.sources import legal
from evals.task_files import aggregation, task_config

_FALL = 1 / 3


def test_contract_nli_five_hypotheses(tmp_path):
    choices = {
        "a": "Entailment",
        "b": "Contradiction",
        "c": "NotMentioned",
        "d": "Entailment",
        "e": "Contradiction",
    }
    annotations = {key: {"choice": choice, "spans": []} for key, choice in choices.items()}
    published = {
        "labels": {key: {"hypothesis": f"Party {key} shall."} for key in choices},
        "documents": [
            {"id": 1, "text": "AGREEMENT\nWe agree.", "annotation_sets": [{"annotations": annotations}]}
        ],
    }
    file = tmp_path / "data" / "contract_nli" / "test.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(published))
    task = task_on_files(tmp_path, "contract_nli", "contract_nli", "acc")

    assert prompts(task)[0] == "AGREEMENT\nWe agree.\n\nHypothesis: Party a shall.\nConclusion:"
    assert task.doc_to_choice(task.eval_docs[0]) == ["Contradiction", "Entailment", "Not mentioned"]
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [1, 0, 2, 1, 0]
    # of five hypotheses one is rightly said to be entailed, one to be contradicted
    assert chosen(task, [1, 0, 0, 0, 2]) == {"acc": 2 / 5, "f1_contradiction": 1 / 5, "f1_entailment": 1 / 5}


def test_contract_nli_f1_is_the_mean_over_hypotheses():
    # of a: 1 right of 2 said and 2 true; of b: none said nor true; of c: right
    values = [
        ("a", True, True),
        ("a", True, False),
        ("a", False, True),
        ("b", False, False),
        ("c", True, True),
    ]

    assert aggregation(task_config("contract_nli"), "f1_contradiction") == "mean_f1"
    assert aggregate("mean_f1", values) == pytest.approx((1 / 2 + 0 + 1) / 3)


@pytest.mark.parametrize("metric", ["f1_contradiction", "f1_entailment"])
def test_contract_nli_may_be_scored_by_any_of_its_metrics(tmp_path, metric):
    suite = Suite(name="nli", about="One.", tasks=(Entry(task="contract_nli", metric=metric),))
    [ready], _ = prepare([(suite, "full")], None, tmp_path)
    assert ready.entry.metric == metric


def test_casehold_five_excerpts(tmp_path, monkeypatch):
    monkeypatch.setattr(legal, "_CASEHOLD_ITEMS", {"test": 5})
    (tmp_path / "data").mkdir()
    rows = [
        f'{n},"See A v. B, 1 U.S. {n} (<HOLDING>)",holding that a,b{n},cc,dd,ee,0,0,0,0,0,{n}'
        for n in range(5)
    ]
    (tmp_path / "data" / "casehold.csv").write_text("\n".join([",".join("abcdefghijklm"), *rows]) + "\n")
    task = task_on_files(tmp_path, "casehold", "casehold", "acc")

    assert prompts(task)[1] == (
        'Given the following excerpt from a US court opinion:\n"See A v. B, 1 U.S. 1 ([Masked Holding])"\n\n'
        "The [Masked Holding] is a placeholder for one of the following options:\n"
        "- holding that a\n- b1\n- cc\n- dd\n- ee\nThe relevant option is:"
    )
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [0, 1, 2, 3, 4]
    assert task.doc_to_choice(task.eval_docs[0])[:2] == ["holding that a", "b0"]
    assert chosen(task, [0, 1, 2, 0, 0])["acc"] == 3 / 5


def _lexglue(tmp_path: Path, part: str, metric: str, items: list[dict[str, object]]):
    (tmp_path / "data").mkdir()
    lines = [json.dumps({"data_type": "test", **item}) for item in items]
    (tmp_path / "data" / f"{part}.jsonl").write_text("\n".join(lines))
    return task_on_files(tmp_path, f"lexglue_{part}", f"lexglue:{part}", metric)


def test_ledgar_five_provisions(tmp_path):
    titles = ["Governing Laws", "Waivers", "Notices", "Notices", "Taxes"]
    task = _lexglue(
        tmp_path, "ledgar", "acc", [{"text": f"It is {t} , `` so '' .", "clause_type": t} for t in titles]
    )
    choices = task.doc_to_choice(task.eval_docs[0])

    assert len(choices) == 100
    prompt = prompts(task)[1]
    assert prompt.startswith(
        "Given the following contractual section:\n\"It is Waivers, 'so'.\"\n\nThere is an approp"
    )
    assert prompt.endswith("- Warranties\n- Withholdings\nThe most appropriate option is:")
    said = [choices.index(title) for title in ["Governing Laws", "Notices", "Notices", "Taxes", "Taxes"]]
    # macro F1: Governing Laws 1; Waivers 0; Notices 2·1/(2+2); Taxes 2·1/(2+1)
    assert chosen(task, said) == {"acc": 3 / 5, "f1": pytest.approx((1 + 0 + 1 / 2 + 2 / 3) / 4)}


def test_scotus_five_opinions_of_which_the_beginning_is_shown(tmp_path):
    areas = ["1", "2", "8", "8", "13"]
    texts = [f"Opinion {n} " + "word " * 4000 for n in range(5)]
    task = _lexglue(
        tmp_path, "scotus", "acc", [{"text": t, "issueArea": a} for t, a in zip(texts, areas, strict=True)]
    )

    prompt = prompts(task)[4]
    assert prompt.startswith(
        'Given the following opinion from the Supreme Court of USA (SCOTUS):\n"Opinion 4 word'
    )
    assert prompt.count("word") == 2998  # and `Opinion` and its number make 3,000
    assert prompt.endswith("- Federal Taxation\n- Miscellaneous\nThe relevant option is:")
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [0, 1, 7, 7, 12]
    assert chosen(task, [0, 1, 7, 0, 0])["acc"] == 3 / 5


def test_unfair_tos_five_sentences_with_any_number_of_labels(tmp_path):
    labels = [[], ["Arbitration"], ["Jurisdiction", "Choice of law"], [], ["Content removal"]]
    task = _lexglue(
        tmp_path, "unfair_tos", "micro_f1", [{"text": f"so {len(x)} .", "labels": x} for x in labels]
    )

    assert prompts(task)[1] == (
        'Given the following sentence from an online Term of Services:\n"so 1."\n\n'
        "The sentence is unfair with respect to some of the following options:\n"
        "- Limitation of liability\n- Unilateral termination\n- Unilateral change\n- Content removal\n"
        "- Contract by using\n- Choice of law\n- Jurisdiction\n- Arbitration\n- None\n"
        "The relevant options are:"
    )
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [
        "None",
        "Arbitration",
        "Choice of law, Jurisdiction",
        "None",
        "Content removal",
    ]
    # right: None, -, Choice of law, -, Content removal; named: 1, 1, 1, 0, 2; true: 1, 1, 2, 1, 1
    told = [" None", " Jurisdiction", " choice of law.", " I cannot say", " Content removal, Arbitration"]
    assert written(task, told) == {"micro_f1": pytest.approx(2 * 3 / (5 + 6))}


def test_the_suite_names_files_and_metrics_that_are_there():
    suite = suites()["legal"]
    assert sum(entry.task.startswith("legalbench_cuad_") for entry in suite.tasks) == 38
    bench = [entry for entry in suite.tasks if entry.task.startswith("legalbench_")]
    assert len(bench) == 70
    assert sum("contract_nli" in entry.task for entry in bench) == 14
    others = {"legalbench_rule_qa": "rougeL", "legalbench_sara_numeric": "acc"}
    assert all(entry.metric == others.get(entry.task, "balanced_accuracy") for entry in bench)
    assert all(entry.note for entry in suite.tasks if "cuad" in entry.task)
    assert len(suite.at("smoke")) < len(suite.at("quick")) < len(suite.at("full"))
