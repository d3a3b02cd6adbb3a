"""Every finance task through lm-eval, with answers written for it: prompts, targets and scores by hand."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finance_files import (
    CONTEXT,
    FINANCEBENCH,
    FINQA,
    FIQA,
    FOMC,
    HEADLINES,
    NER,
    NER_INSTRUCTION,
    TATQA,
    TOUCHSTONE,
    TURNS,
    touchstone_input,
    write_finance_data,
)
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from evals.metrics import register
from evals.preparation import PreparedTask, prepare
from evals.registry import Suite, select
from evals.results import Items
from evals.sources.finance import CONVFINQA_INSTRUCTION

GOLDEN = "golden_touchstone_"


class Scripted(LM):
    """Writes given answers, item by item, and keeps the prompts; of choices it prefers the given one."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__()
        self.answers = answers
        self.prompts: dict[int, str] = {}

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers, cut where the task stops."""
        written = []
        for request in requests:
            prompt, settings = request.args
            self.prompts[request.doc_id] = prompt
            answer = self.answers[request.doc_id]
            for stop in settings["until"]:
                answer = answer.split(stop)[0]
            written.append(answer)
        return written

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each item's choices, the given one is likeliest."""
        scores = []
        for request in requests:
            prompt, choice = request.args
            self.prompts[request.doc_id] = prompt
            chosen = choice == f" {self.answers[request.doc_id]}"
            scores.append((-1.0 if chosen else -2.0, chosen))
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Not asked for."""
        raise NotImplementedError


class Asked:
    """What became of a task: prompts, targets and values by item, scores by metric."""

    def __init__(self, prepared: PreparedTask, answers: list[str]) -> None:
        register()
        lm = Scripted(answers)
        loaded = TaskManager(include_defaults=False).load([prepared.config])
        results = evaluate(lm, loaded, bootstrap_iters=0, log_samples=True)
        name = prepared.entry.task
        samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
        self.scores = {key.split(",")[0]: value for key, value in results["results"][name].items()}
        self.prompts = [lm.prompts[index] for index in range(len(samples))]
        self.targets = [sample["target"] for sample in samples]
        self.samples = samples

    def values(self, metric: str) -> list[Any]:
        """A metric's value of every item."""
        return [sample[metric] for sample in self.samples]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, PreparedTask]:
    folder = tmp_path_factory.mktemp("finance")
    data = write_finance_data(folder / "data")
    prepared, left_out = prepare(select(["finance:full"]), data, folder / "cache", offline=True)
    assert all(task.task.startswith("mmlu_") or task.task == f"{GOLDEN}edtsum" for task in left_out)
    return {one.entry.task: one for one in prepared}


@pytest.mark.parametrize(
    ("name", "marks"), [("headlines", "text"), ("convfinqa", "dialogue_id"), ("tatqa", "context")]
)
def test_items_about_the_same_are_marked(ready: Mapping[str, PreparedTask], name: str, marks: str) -> None:
    """What the suite names as shared is a column of the items, and several items have the same."""
    assert ready[name].entry.cluster == marks
    [task] = TaskManager(include_defaults=False).load([ready[name].config])["tasks"].values()
    shared = [doc[marks] for doc in task.eval_docs]
    assert len(set(shared)) < len(shared)


def test_phrasebank(ready: Mapping[str, PreparedTask]) -> None:
    answers = ["negative", "positive", "positive", "neutral", "negative", "positive", "positive", "neutral"]
    asked = Asked(ready["fpb"], answers)
    examples = (
        "Analyze the sentiment of this statement extracted from a financial news article. Provide your "
        "answer as either negative, positive, or neutral. For instance, 'The company's stocks plummeted "
        "following the scandal.' would be classified as negative.\n"
        "Text: Alder Oyj raised its dividend in the first quarter .\nAnswer: positive\n\n"
        "Text: Cedar AB moved its office to Turku in the first quarter .\nAnswer: neutral\n\n"
        "Text: Elm Group lost its largest customer in the first quarter .\nAnswer: negative\n\n"
        "Text: Alder Oyj raised its dividend in the second quarter .\nAnswer: positive\n\n"
        "Text: Birch Plc closed two mills in the second quarter .\nAnswer: negative\n\n"
    )
    assert asked.prompts[:5] == [
        f"{examples}Text: {sentence}\nAnswer:"
        for sentence in (
            "Birch Plc closed two mills in the first quarter .",
            "Dogwood Oy doubled operating profit in the first quarter .",
            "Fir Corp publishes its report in the first quarter .",
            "Cedar AB moved its office to Turku in the second quarter .",
            "Dogwood Oy doubled operating profit in the second quarter .",
        )
    ]
    assert asked.targets == [1, 0, 2, 2, 0, 0, 0, 2]
    assert asked.values("acc") == [1, 1, 0, 1, 0, 1, 1, 1]
    assert asked.scores["acc"] == 6 / 8
    positive, negative, neutral = 2 * 3 / (4 + 4), 2 * 1 / (2 + 1), 2 * 2 / (2 + 3)
    assert asked.scores["weighted_f1"] == pytest.approx((4 * positive + negative + 3 * neutral) / 8)


def test_fiqa(ready: Mapping[str, PreparedTask]) -> None:
    asked = Asked(ready["fiqa_sa"], ["positive", "negative", "positive", "positive", "neutral"])
    shown = [
        f"What is the sentiment of the following financial {kind}: Positive, Negative, or Neutral?\n"
        f"Text: {text}\nAnswer:"
        for kind, text, _ in FIQA
    ]
    examples = "".join(
        f"{query} {label.lower()}\n\n" for query, (_, _, label) in zip(shown, FIQA, strict=True)
    )
    assert asked.prompts == [examples + query for query in shown]
    assert asked.targets == [1, 0, 2, 1, 0]
    assert asked.values("weighted_f1") == [(1, 1), (0, 0), (2, 1), (1, 1), (0, 2)]
    assert asked.scores["acc"] == 3 / 5
    assert asked.scores["weighted_f1"] == pytest.approx((2 * 0.8 + 2 * 2 / 3 + 0) / 5)


def test_headlines(ready: Mapping[str, PreparedTask]) -> None:
    asked = Asked(ready["headlines"], ["Yes"] * 18)
    assert len(asked.prompts) == 18
    assert [prompt.rpartition("Text: ")[2] for prompt in asked.prompts] == [
        f"{headline}\nAnswer:" for headline in HEADLINES[20:] for _ in range(9)
    ]
    assert asked.prompts[0].split("\n\n") == [
        *[
            f"{hint}. Is there a {tag} in this? Please answer Yes or No.\n"
            f"Text: {HEADLINES[number]}\nAnswer: {answer}"
            for number, hint, tag, answer in [
                (0, "Consider whether the headline mentions the price of gold.", "Price or Not", "Yes"),
                (1, "Look for indications that the price of gold is increasing.", "Direction Up", "No"),
                (2, "Look for indications that the price of gold is decreasing.", "Direction Down", "No"),
                (3, "Look for indications that the price of gold is stable.", "Direction Constant", "No"),
                (4, "Consider whether the headline references past prices of gold.", "PastPrice", "No"),
            ]
        ],
        "Consider whether the headline mentions the price of gold.. Is there a Price or Not in this? Please "
        f"answer Yes or No.\nText: {HEADLINES[20]}\nAnswer:",
    ]
    assert asked.values("mean_weighted_f1")[:5] == [
        ("Price or Not", 0, 0),
        ("Direction Up", 0, 0),
        ("Direction Down", 1, 0),
        ("Direction Constant", 1, 0),
        ("PastPrice", 1, 0),
    ]
    assert asked.scores["acc"] == 4 / 18
    half = 1 / 2 * 2 / 3  # one of two right, all said to be
    assert asked.scores["mean_weighted_f1"] == pytest.approx((1 + half + half) / 9)


def test_named_entities(ready: Mapping[str, PreparedTask]) -> None:
    answers = [
        "Alice Stone, PER\nAcme Bank, ORG\nBoston, ORG",
        "Lender, PER",
        "Acme Bank, ORG",
        "",
        "Bob Hill, PER",
    ]
    asked = Asked(ready["fin_ner"], [f"{answer}\n\nText: next" for answer in answers])
    assert asked.prompts[1].startswith(
        f"{NER_INSTRUCTION}\nText: {NER[0][0]}\nAnswer: Alice Stone, PER\nAcme Bank, ORG\n"
    )
    assert asked.prompts[1].endswith(
        "\n\nText: Bob Hill pays Lender\nAnswer: Bob Hill, PER\nLender, PER\n\nText: Borrower\nAnswer:"
    )
    assert asked.targets[3] == "Ohio, LOC"
    assert asked.values("entity_f1") == [(2, 3, 3), (0, 0, 1), (2, 2, 2), (0, 0, 1), (1, 1, 2)]
    assert asked.scores["entity_f1"] == pytest.approx(2 * 5 / (6 + 9))


def test_stance(ready: Mapping[str, PreparedTask]) -> None:
    asked = Asked(ready["fomc_stance"], ["HAWKISH", "DOVISH", "HAWKISH", "HAWKISH", "NEUTRAL"])
    instruction = (
        "Examine the excerpt from a central bank's release below. Classify it as HAWKISH if it advocates for "
        "a tightening of monetary policy, DOVISH if it suggests an easing of monetary policy, or NEUTRAL if "
        "the stance is unbiased. Your response should return only HAWKISH, DOVISH, or NEUTRAL.\n"
    )
    assert asked.prompts == [f"{instruction}Text: {sentence}\nAnswer:" for sentence, _ in FOMC]
    assert asked.targets == [1, 0, 2, 1, 0]
    assert asked.scores["acc"] == 3 / 5
    assert asked.scores["weighted_f1"] == pytest.approx((2 * 0.8 + 2 * 2 / 3 + 0) / 5)


def test_finqa(ready: Mapping[str, PreparedTask]) -> None:
    asked = Asked(ready["finqa"], [" 25%", "127.4\nQuestion: next", "Yes", "12", "1,577.0"])
    assert asked.prompts == [
        "Please answer the given financial question based on the context.\n"
        f"{CONTEXT}Question: {question}\nAnswer:"
        for question, _ in FINQA
    ]
    assert asked.targets == [answer for _, answer in FINQA]
    assert asked.values("acc") == [1, 1, 1, 0, 1]
    assert asked.values("exact_match") == [0, 1, 0, 0, 0]
    assert asked.scores["acc"] == 4 / 5


def test_convfinqa(ready: Mapping[str, PreparedTask]) -> None:
    asked = Asked(ready["convfinqa"], ["100.0", "125", "0.3", "7", "125.0", "25%"])
    history = ["", f"\nq0: {TURNS[0][0]} 100.0", f"\nq0: {TURNS[0][0]} 100.0\nq1: {TURNS[1][0]} 125.0"]
    context = "before . <table>100 125</table> after ."
    expected = [
        f"{CONVFINQA_INSTRUCTION}\nContext: {context}\n"
        f"Conversations: {earlier}\nQuestion: {question}\nAnswer:"
        for earlier, (question, _) in zip(history, TURNS, strict=True)
    ]
    assert asked.prompts == expected * 2
    assert asked.targets == ["100.0", "125.0", "0.25"] * 2
    assert asked.values("acc") == [1, 1, 0, 0, 1, 1]
    assert asked.values("exact_match") == [1, 0, 0, 0, 1, 0]


def test_tatqa(ready: Mapping[str, PreparedTask]) -> None:
    asked = Asked(
        ready["tatqa"],
        ["cost plus margin", "$1,496.5 million", "cost plus and fixed price", "-12.6", "17.7%", "2"],
    )
    assert asked.prompts == [
        "Please answer the given financial question based on the context. Give a number with its scale: "
        "thousand, million, billion or percent.\nContext: ||2020|\n|Sales|$1,496.5|\nThe first "
        f"paragraph.\nThe second paragraph.\nQuestion: {question}\nAnswer:"
        for question, *_ in TATQA
    ]
    assert asked.targets == [
        "the cost plus a fee",
        "$1,496.5 million",
        "fixed price, cost plus",
        "-12.6 million",
        "17.7 percent",
        "2",
    ]
    assert asked.values("em") == [0, 1, 1, 0, 1, 1]
    assert asked.values("f1") == [0.67, 1, 1, 0, 1, 1]


def test_financebench(ready: Mapping[str, PreparedTask]) -> None:
    metrics = Asked(
        ready["financebench_metrics"], ["\n\n$1,577 million\n2", "0.654", "0.7", "-0.02", "93.9 days"]
    )
    expected = [(question, answer) for kind, question, answer in FINANCEBENCH if kind == "metrics-generated"]
    assert metrics.prompts == [
        "Context:\n[START OF FILING] Capex 1,577\n\nAssets 9 [END OF FILING]\n"
        f"Answer the following question: {question}\nAnswer:"
        for question, _ in expected
    ]
    assert metrics.targets == [answer for _, answer in expected]
    assert metrics.values("acc") == [1, 1, 0, 1, 1]
    words = Asked(ready["financebench_answers"], ["No", "EMEA and APAC", "Yes", "None", "airlines"])
    assert words.targets == [answer for kind, _, answer in FINANCEBENCH if kind != "metrics-generated"]
    assert words.values("f1") == pytest.approx([2 / 8, 6 / 8, 1, 2 / 4, 2 / 4])


@pytest.mark.parametrize(
    ("task", "answers", "metric", "score"),
    [
        ("lendingclub", ["good", "bad", "bad", "It is good.", "?"], "acc", 3 / 5),
        ("lendingclub", ["good", "bad", "good", "good", "bad"], "f1_mcc", 1),
        ("cfa", ["A", "B", "C", "D", "A"], "acc_f1", (4 / 5 + (2 / 3 + 2 * 2 / 3 + 1 + 1) / 5) / 2),
        ("cfa", ["A", "(b)", "D", "d.", "E"], "acc", 3 / 5),
        ("cmin_us", ["rise", "0", "1", "decrease", "1"], "acc", 3 / 5),
        ("fpb", ["positive"] * 5, "weighted_f1", 2 / 5 * 2 * 0.4 / 1.4),
        ("fiqa_sa", ["Positive", "negative", "neutral", "none", "?"], "acc", 3 / 5),
        ("headlines", ["Yes", "no", "No", "yes", "unsure"], "acc", 4 / 5),
        ("fomc", ["HAWKISH", "dovish", "neutral", "hawkish", "dovish"], "acc", 4 / 5),
        ("finqa", ["0.25", "it is 7.5", "no", "12", ""], "acc", 3 / 5),
        ("convfinqa", ["0.25", "8", "3", "12.0", "99"], "acc", 3 / 5),
        (
            "ner",
            ["Acme, ORG", "", "Ohio, ORG", "\nBob, PER\nAcme, ORG\n\nOhio, LOC", "Lender, PER"],
            "weighted_f1",
            # 2 of 3 persons; both organisations and one that is none; no place where it is one
            (3 * 4 / (2 + 3) + 2 * 4 / (3 + 2) + 1 * 0) / 6,
        ),
        (
            "finred",
            ["owner of", "industry: Acme, ore\nemployer; brand", "", "brand", "brand: X, Acme; none"],
            "relation_f1",
            # only the first names its relation; the prompts ask for no words, and unknown is no relation
            2 * 1 / (6 + 6),
        ),
    ],
)
def test_golden_touchstone(
    ready: Mapping[str, PreparedTask], task: str, answers: list[str], metric: str, score: float
) -> None:
    prepared = ready[GOLDEN + task]
    asked = Asked(prepared, answers)
    assert prepared.entry.source is not None
    part = prepared.entry.source.partition(":")[2]
    assert asked.targets == TOUCHSTONE[part]
    assert asked.prompts == [f"Please answer.\n{touchstone_input(part, n)}\nAnswer:" for n in range(5)]
    assert asked.scores[metric] == pytest.approx(score)
    values = tuple(asked.values(metric))
    assert Items(ids=tuple("abcde"), values=values, aggregation="any").values == values


def test_golden_touchstone_summaries(ready: Mapping[str, PreparedTask]) -> None:
    pytest.importorskip("jieba")
    pytest.importorskip("rouge_chinese")
    answers = ["Acme buys Borealis", "", "Rates fall", "Profit doubles", "mills"]
    asked = Asked(ready[f"{GOLDEN}edtsum"], answers)
    assert asked.scores["rougeL"] == pytest.approx((1 + 0.4 + 1 + 0.5) / 5)
    assert asked.values("rouge_bleu")[::3] == pytest.approx([1, 1])


def test_summaries_need_libraries_that_are_named_with_how_to_install_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_finance_data(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "jieba", None)
    monkeypatch.delitem(sys.modules, "evals.tasks.finance.summaries", raising=False)
    entries = [entry for entry in select(["finance:full"])[0][0].tasks if entry.task.startswith(GOLDEN)]
    suite = Suite(name="golden", about="All of it.", tasks=tuple(entries))
    ready, left_out = prepare([(suite, "full")], data, tmp_path / "cache", offline=True)
    assert [one.task for one in left_out] == [f"{GOLDEN}edtsum"]
    assert 'pip install "cpt-workbench[touchstone]"' in left_out[0].why
    assert len(ready) == len(entries) - 1


def test_the_hubs_conversations_get_the_right_answers_to_earlier_questions() -> None:
    import datasets

    from evals.tasks.finance.scoring import with_right_history

    rows = [
        {"query": "q0?", "answer": "{answer1}", "turn": 0, "dialogue_id": 7},
        {"query": "q0: a {answer0}\nq1?", "answer": "2", "turn": 1, "dialogue_id": 7},
        {"query": "q0? {other}", "answer": "9", "turn": 0, "dialogue_id": 8},
    ]
    filled = with_right_history(datasets.Dataset.from_list(rows))
    assert filled["query"] == ["q0?", "q0: a {answer1}\nq1?", "q0? {other}"]


def test_a_higher_level_holds_the_tasks_of_the_lower() -> None:
    ((suite, _),) = select(["finance"])
    smoke, quick, full = ({entry.task for entry in suite.at(level)} for level in ("smoke", "quick", "full"))
    assert smoke < quick < full
    assert len(full) == 10 + 7 + 7 + 12
