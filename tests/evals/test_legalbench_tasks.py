"""LegalBench's tasks on five items each: prompt, target and score, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tasks_on_files import chosen, prompts, task_on_files, written

from evals import task_files
from evals.registry import suites
from evals.sources import legal
from evals.task_files import task_config

_FALL = 1 / 3


_PUBLISHED = {
    "cuad_affiliate_license-licensee": 3382,
    "cuad_affiliate_license-licensor": 3865,
    "cuad_anti-assignment": 1781,
    "cuad_audit_rights": 2287,
    "cuad_cap_on_liability": 2394,
    "cuad_change_of_control": 2065,
    "cuad_competitive_restriction_exception": 1962,
    "cuad_covenant_not_to_sue": 2316,
    "cuad_effective_date": 1825,
    "cuad_exclusivity": 1864,
    "cuad_expiration_date": 2705,
    "cuad_governing_law": 2064,
    "cuad_insurance": 1922,
    "cuad_ip_ownership_assignment": 4495,
    "cuad_irrevocable_or_perpetual_license": 4925,
    "cuad_joint_ip_ownership": 4622,
    "cuad_license_grant": 3402,
    "cuad_liquidated_damages": 3314,
    "cuad_minimum_commitment": 2475,
    "cuad_most_favored_nation": 1883,
    "cuad_no-solicit_of_customers": 2128,
    "cuad_no-solicit_of_employees": 3360,
    "cuad_non-compete": 3965,
    "cuad_non-disparagement": 1782,
    "cuad_non-transferable_license": 3309,
    "cuad_notice_period_to_terminate_renewal": 2184,
    "cuad_post-termination_services": 3141,
    "cuad_price_restrictions": 2635,
    "cuad_renewal_term": 1842,
    "cuad_revenue-profit_sharing": 4316,
    "cuad_rofr-rofo-rofn": 2671,
    "cuad_source_code_escrow": 3504,
    "cuad_termination_for_convenience": 1211,
    "cuad_third_party_beneficiary": 2231,
    "cuad_uncapped_liability": 2389,
    "cuad_unlimited-all-you-can-eat-license": 2151,
    "cuad_volume_restriction": 1106,
    "cuad_warranty_duration": 1513,
    "hearsay": 855,
    "personal_jurisdiction": 2030,
    "diversity_1": 1086,
    "diversity_2": 1326,
    "diversity_3": 1280,
    "diversity_4": 1358,
    "diversity_5": 1520,
    "diversity_6": 2281,
    "intra_rule_distinguishing": 126,
}
"""Characters of the task's base_prompt.txt (HazyResearch/legalbench)."""


_WRITTEN = [
    "abercrombie",
    "proa",
    "corporate_lobbying",
    "international_citizenship_questions",
    "function_of_decision_section",
    "contract_nli_permissible_copy",
    "contract_nli_sharing_with_third-parties",
]


_SARA = ["case id\tstatute\tdescription\tquestion\ttext\tlabel"] + [
    f"c{n}\tStatute {n}.\tFacts {n}.\tQuestion {n}\tall\t{label}"
    for n, label in enumerate(
        [
            "Entailment",
            "$1,050",
            "Contradiction",
            "Entailment",
            "$900",
            "Entailment",
            "$8000",
            "Contradiction",
            "$70",
            "$500",
        ]
    )
]


def _legalbench(tmp_path: Path, name: str, metric: str, lines: list[str]):
    entry = next(entry for entry in suites()["legal"].tasks if entry.task == f"legalbench_{name}")
    file = tmp_path / "data" / f"{entry.source.partition(':')[2]}.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return task_on_files(tmp_path, entry.task, entry.source, metric)


@pytest.mark.parametrize(
    "name",
    [
        "cuad_audit_rights",
        "cuad_unlimited-all-you-can-eat-license",
        "hearsay",
        "personal_jurisdiction",
        "diversity_6",
        "intra_rule_distinguishing",
    ],
)
def test_prompt_is_as_long_as_the_benchmarks(tmp_path, name):
    (prompt,) = prompts(_legalbench(tmp_path, name, "balanced_accuracy", ["label\ttext", "Yes\t{{text}}"]))

    assert len(prompt) == _PUBLISHED[name]
    assert prompt.count("{{text}}") == 1  # the item's text is no template


def test_every_prompt_with_examples_is_as_long_as_the_benchmarks():
    from evals.sources.base import read_jsonl

    examples = read_jsonl(legal._LEGALBENCH_EXAMPLES)
    for entry in suites()["legal"].tasks:
        name = entry.task.removeprefix("legalbench_")
        if name not in _PUBLISHED:
            continue
        config = task_config(entry.task)
        folder = (entry.source or "").removeprefix("legalbench:").partition("/")[0]
        shown = [row for row in examples if row["task"] == folder]
        question: str = config["doc_to_text"]
        parts = [question.replace("{{text}}", row["text"]) + f" {row['answer']}\n\n" for row in shown]
        assert len(shown) == config["num_fewshot"], name
        assert len(config["description"] + "".join(parts) + question) == _PUBLISHED[name], name


def test_cuad_five_clauses(tmp_path):
    clauses = [
        "You may audit us.",
        "We sell shoes.",
        "You may see our books.",
        "Texas law governs.",
        "Pay by May.",
    ]
    answers = ["Yes", "No", "Yes", "No", "No"]
    lines = [f"{answer}\t{clause}" for answer, clause in zip(answers, clauses, strict=True)]
    task = _legalbench(tmp_path, "cuad_audit_rights", "balanced_accuracy", ["label\ttext", *lines, lines[1]])

    shown = prompts(task)

    assert len(shown) == 5  # what the file repeats counts once
    assert shown[0].startswith("Does the clause give a party the right to audit the books")
    assert "with respect to such other Party.\nLabel: Yes\n\nClause: We shall have the right" in shown[0]
    assert [prompt[-60:].rpartition("Clause: ")[2] for prompt in shown] == [f"{c}\nLabel:" for c in clauses]
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == answers
    assert task.doc_to_choice(task.eval_docs[0]) == ["Yes", "No"]
    # Yes for all but the last: both Yes right, one of three No
    assert chosen(task, [0, 0, 0, 0, 1]) == {
        "balanced_accuracy": pytest.approx((1 + _FALL) / 2),
        "acc": 3 / 5,
    }


def test_private_rights_five_statutes(tmp_path):
    answers = ["Yes", "No", "No", "No", "Yes"]
    lines = [f"Statute {number}.\t{answer}" for number, answer in enumerate(answers)]
    task = _legalbench(tmp_path, "proa", "balanced_accuracy", ["text\tlabel", *lines])

    assert prompts(task)[0].endswith("Statute: Statute 0.\nAnswer:")
    # without case and punctuation: one of two Yes is right, two of three No; what is no label is wrong
    scores = written(task, ["YES.", " no", "No", "It says: No", "perhaps"])
    assert scores == {"balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2), "exact_match": 3 / 5}


@pytest.mark.parametrize("name", _WRITTEN)
def test_labels_are_written_after_the_prompt_of_lm_eval(name, monkeypatch):
    ours = task_config(f"legalbench_{name}")
    monkeypatch.setattr(task_files, "TASKS", Path("nowhere"))
    task_files.task_files.cache_clear()
    try:
        theirs = task_config(f"legalbench_{name}")
    finally:
        task_files.task_files.cache_clear()
    assert theirs["metric_list"][0]["metric"] == "exact_match"
    scoring = {"metric_list", "process_results", "metadata"}
    assert {key: ours[key] for key in ours.keys() - scoring} == {
        key: theirs[key] for key in theirs.keys() - scoring
    }


def test_diversity_five_suits(tmp_path):
    suits = [
        f"Ann is from Ohio. Bob is from Utah. Ann sues Bob for negligence for ${n},000."
        for n in range(73, 78)
    ]
    answers = ["No", "No", "No", "Yes", "Yes"]
    lines = [f"{suit}\t{answer}\tTrue\tTrue" for suit, answer in zip(suits, answers, strict=True)]
    task = _legalbench(
        tmp_path, "diversity_1", "balanced_accuracy", ["text\tlabel\tparties_are_diverse\taic_is_met", *lines]
    )

    assert [prompt.rpartition("Q: ")[2] for prompt in prompts(task)] == [
        f"{suit} Is there diversity jurisdiction?\nA:" for suit in suits
    ]
    assert chosen(task, [1, 1, 0, 0, 1])["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_unfair_terms_five_clauses(tmp_path):
    lines = [
        "last updated .\tOther",
        "we pay nothing .\tArbitration",
        "we may end it .\tUnilateral change",
        "by using it you agree .\tChoice of law",
        "texas law governs .\tLimitation of liability",
    ]
    task = _legalbench(tmp_path, "unfair_tos", "balanced_accuracy", ["text\tlabel", *lines])
    kinds = task.doc_to_choice(task.eval_docs[0])
    meant = [
        "Other",
        "Limitation of liability",
        "Unilateral termination",
        "Contract by using",
        "Choice of law",
    ]

    assert [task.doc_to_target(doc) for doc in task.eval_docs] == meant
    assert prompts(task)[4].endswith(
        "copyright owner 's behalf . \nLabel: Other\n\nClause: texas law governs .\nLabel:"
    )
    assert chosen(task, [kinds.index(kind) for kind in meant]) == {"balanced_accuracy": 1, "acc": 1}
    assert chosen(task, [kinds.index("Other")] * 5) == {"balanced_accuracy": 1 / 5, "acc": 1 / 5}


def test_rule_five_facts(tmp_path):
    lines = [
        f"Fact {rule[:3]} {place}\t{rule}"
        for place, rule in enumerate(["trademarks", "hearsay", "personal jurisdiction", "hearsay", "hearsay"])
    ]
    task = _legalbench(tmp_path, "intra_rule_distinguishing", "balanced_accuracy", ["text\tlabel", *lines])

    assert prompts(task)[0] == (
        "Which issue does the following fact pattern implicate: "
        "trademarks, hearsay, or personal jurisdiction?\n\n"
        "Facts: Fact tra 0\nAnswer:"
    )
    assert chosen(task, [0, 1, 1, 1, 0])["balanced_accuracy"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_sara_five_statements(tmp_path):
    task = _legalbench(
        tmp_path, "sara_entailment", "balanced_accuracy", [line.replace(",", "") for line in _SARA]
    )

    assert [prompt[-64:] for prompt in prompts(task)] == [
        f"Statute: Statute {n}.\nDescription: Facts {n}.\nStatement: Question {n}\nAnswer:"[-64:]
        for n in (0, 2, 3, 5, 7)
    ]
    assert chosen(task, [0, 0, 0, 1, 1])["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_sara_five_amounts_count_within_a_tenth(tmp_path):
    task = _legalbench(tmp_path, "sara_numeric", "acc", [line.replace(",", "") for line in _SARA])

    assert prompts(task)[0] == (
        "Answer the following questions.\n\nStatute: Statute 1.\nDescription: Facts 1.\n"
        "Question: Question 1. State the amount first.\nAnswer:"
    )
    # $1050, $900, $8000, $70, $500: exact, 9 % too much, 12 % too little, none, with a comma and far off
    assert written(task, [" $1,050 in tax", " 981", " $7000", " no tax", " $5,000"]) == {"acc": 2 / 5}


def test_rule_qa_five_rules_are_compared_by_rouge(tmp_path):
    lines = [f"What is rule {n}?\tthe court must hear both parties\tEvidence" for n in range(5)]
    task = _legalbench(tmp_path, "rule_qa", "rougeL", ["text\tanswer\tdoctrine", *lines])

    assert prompts(task) == [f"Q: What is rule {n}?\nA:" for n in range(5)]
    # 6 words wanted: all; 3 of 3 said, F1 2·1·½/1½; none; the same stems; 2 of 2 in order of 4 said
    told = [
        "The court must hear both parties.",
        "the court must",
        "",
        "the courts must hear both party",
        "must of hear if",
    ]
    assert written(task, told)["rougeL"] == pytest.approx(
        (1 + 2 / 3 + 0 + 1 + 2 * (2 / 4) * (2 / 6) / (5 / 6)) / 5
    )
