"""Medical data sets in their authors' form, in small, and the medical tasks on them by hand."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest
from tasks_on_files import chosen, prompts, task_on_files, written

from cpt.errors import DataError
from evals.metrics import rouge_l
from evals.registry import suites
from evals.sources import medical
from evals.tasks.medical.scoring import official_ids

OFFICIAL = sorted(official_ids())[:5]


def _abstracts(folder: Path, decisions: dict[str, str]) -> dict[str, Path]:
    folder.mkdir()
    items = {
        pmid: {
            "QUESTION": f"Does {pmid} help?",
            "CONTEXTS": ["We tried it.", "It was tried."],
            "LABELS": ["AIM", "RESULTS"],
            "final_decision": decision,
            "LONG_ANSWER": "It may.",
        }
        for pmid, decision in decisions.items()
    }
    file = folder / "ori_pqal.json"
    file.write_text(json.dumps(items))
    return {"items": file}


def test_pubmedqa_has_the_columns_of_the_hub(tmp_path):
    found = medical.PUBMEDQA.read(_abstracts(tmp_path / "data", {"11": "yes", "12": "no"}), None)

    assert found["train"][1] == {
        "pubid": 12,
        "question": "Does 12 help?",
        "context": {"contexts": ["We tried it.", "It was tried."]},
        "final_decision": "no",
    }


def test_pubmedqa_knows_the_500_items_of_the_official_test():
    listed = "\n".join(map(str, sorted(official_ids())))

    assert len(official_ids()) == 500
    # of the keys of the authors' test_ground_truth.json
    assert hashlib.sha256(listed.encode()).hexdigest().startswith("47849e7e0720ae18")


def test_pubmedqa_asks_the_official_test_and_shows_others(tmp_path):
    decisions = dict(zip(map(str, OFFICIAL), ["yes", "no", "maybe", "yes", "no"], strict=True))
    others = {"1": "yes", "2": "no", "3": "yes", "4": "maybe"}
    _abstracts(tmp_path / "data", {**others, **decisions})
    task = task_on_files(tmp_path, "pubmedqa", "pubmedqa", "acc")

    asked = f"Abstract: We tried it.\nIt was tried.\nQuestion: Does {OFFICIAL[0]} help?\nAnswer:"
    assert prompts(task)[0] == asked
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == list(decisions.values())
    assert set(task.eval_docs[0]) == {"QUESTION", "CONTEXTS", "final_decision"}
    assert chosen(task, [0, 1, 0, 0, 0]) == {"acc": 3 / 5}
    shown = prompts(task_on_files(tmp_path, "pubmedqa", "pubmedqa", "acc", fewshot=3))[0]
    assert shown.endswith(asked)
    examples = re.findall(r"Does (\d+) help", shown)[:-1]
    assert len(set(examples)) == 3
    assert set(examples) < others.keys()


def _examination(answer_idx: str, answer: str) -> str:
    options = dict(zip("ABCD", ["rest", "aspirin", "surgery", "water"], strict=True))
    item = {"question": "What next?", "answer": answer, "options": options, "answer_idx": answer_idx}
    return json.dumps({**item, "meta_info": "step1", "metamap_phrases": []})


def test_medqa_five_questions(tmp_path):
    folder = tmp_path / "data" / "US" / "4_options"
    folder.mkdir(parents=True)
    right = [("A", "rest"), ("B", "aspirin"), ("C", "surgery"), ("D", "water"), ("A", "rest")]
    (folder / "phrases_no_exclude_test.jsonl").write_text("\n".join(_examination(*one) for one in right))
    task = task_on_files(tmp_path, "medqa_4options", "medqa", "acc")

    assert prompts(task)[0] == "Question: What next?\nA. rest\nB. aspirin\nC. surgery\nD. water\nAnswer:"
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [0, 1, 2, 3, 0]
    assert chosen(task, [0, 0, 0, 3, 0])["acc"] == 3 / 5


def test_medqa_refuses_an_answer_that_is_no_option(tmp_path):
    (tmp_path / "test.jsonl").write_text(_examination("B", "rest"))

    with pytest.raises(DataError, match="not with its answer"):
        medical.MEDQA.read({"test": tmp_path / "test.jsonl"}, None)


def _entrance(file: Path, correct: list[int]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {f"op{letter}": letter.upper() * 2 for letter in "abcd"}
    items = [
        {"id": str(n), "question": f"Which {n}?", **options, "cop": cop} for n, cop in enumerate(correct)
    ]
    file.write_text("\n".join(map(json.dumps, items)))
    return file


@pytest.mark.parametrize(
    ("correct", "meant"), [([1, 4, 2], [0, 3, 1]), ([0, 3, 1], [0, 3, 1]), ([4, 4], [3, 3]), ([0], [0])]
)
def test_medmcqa_counts_options_from_nought_or_from_one(tmp_path, correct, meant):
    found = medical.MEDMCQA.read({"validation": _entrance(tmp_path / "dev.json", correct)}, None)

    assert [row["cop"] for row in found["validation"]] == meant


@pytest.mark.parametrize(
    ("correct", "said"),
    [([1, 2, 3], "too few items"), ([0, 4], "neither numbers from 0 nor"), ([-1], "neither")],
)
def test_medmcqa_refuses_options_that_it_cannot_tell(tmp_path, correct, said):
    with pytest.raises(DataError, match=said):
        medical.MEDMCQA.read({"validation": _entrance(tmp_path / "dev.json", correct)}, None)


def test_medmcqa_five_questions(tmp_path):
    _entrance(tmp_path / "data" / "medmcqa" / "dev.json", [1, 2, 3, 4, 1])
    task = task_on_files(tmp_path, "medmcqa", "medmcqa", "acc")

    assert prompts(task)[3] == "Question: Which 3?\nChoices:\nA. AA\nB. BB\nC. CC\nD. DD\nAnswer:"
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [0, 1, 2, 3, 0]
    assert chosen(task, [0, 1, 2, 0, 1])["acc"] == 3 / 5


def _document(pairs: list[tuple[str, str]]) -> str:
    inner = "".join(
        f'<QAPair pid="{n}"><Question qtype="information">{q}</Question><Answer>{a}</Answer></QAPair>'
        for n, (q, a) in enumerate(pairs)
    )
    return f'<?xml version="1.0"?>\n<Document id="1"><Focus>X</Focus><QAPairs>{inner}</QAPairs></Document>'


def _archive(file: Path, documents: dict[str, list[tuple[str, str]]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("MedQuAD-master/readme.txt", "no document")
        for name, pairs in documents.items():
            archive.writestr(f"MedQuAD-master/{name}.xml", _document(pairs))
    return file


def test_medquad_reads_every_document_of_the_archive(tmp_path):
    file = _archive(
        tmp_path / "MedQuAD-master.zip",
        {"2_B/1": [("What is B &amp; C ?", "Two.")], "1_A/1": [("What is A ?", " One. \n"), ("Why ?", "")]},
    )

    assert medical.MEDQUAD.read({"archive": file}, None)["train"] == [
        {"question": "What is A ?", "answer": "One."},
        {"question": "Why ?", "answer": None},
        {"question": "What is B & C ?", "answer": "Two."},
    ]


def test_medquad_five_answered_questions(tmp_path):
    wanted = ["rest and drink water", "take aspirin", "see a doctor", "it is rare", "no treatment"]
    pairs = [(f"What of {n} ?", answer) for n, answer in enumerate(wanted)]
    _archive(tmp_path / "data" / "MedQuAD-master.zip", {"1_A/1": [*pairs, ("Unanswered ?", "")]})
    task = task_on_files(tmp_path, "medquad", "medquad", "rougeL")

    assert prompts(task) == [f"Question: What of {n} ?\nAnswer:" for n in range(5)]
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == wanted
    # all 4; 1 of 2 and 1 of 1; none; 2 of 3 and 2 of 2; both, in the wrong order one
    told = ["Rest and drink water.", "aspirin", "", "it is", "treatment, no"]
    assert written(task, told)["rougeL"] == pytest.approx((1 + 2 / 3 + 0 + 4 / 5 + 1 / 2) / 5)


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    # the same stems; `the gunman` alone in the same order
    assert rouge_l("police killed the gunman", "police kill the gunman") == 1
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(2 / 4)
    assert rouge_l("police killed the gunman", "") == 0


def test_the_suite_has_the_six_medical_subjects_as_one_group():
    suite = suites()["medical"]
    subjects = {entry.task for entry in suite.tasks if entry.group == "mmlu_medical"}

    assert subjects == {
        f"mmlu_{subject}"
        for subject in (
            "anatomy", "clinical_knowledge", "college_biology", "college_medicine", "medical_genetics",
            "professional_medicine",
        )
    }  # fmt: skip
    assert len(suite.at("smoke")) < len(suite.at("quick")) <= len(suite.at("full"))
