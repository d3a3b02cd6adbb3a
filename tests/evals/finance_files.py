"""Tiny data sets of finance in the form in which their authors give them away; every item is invented."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FPB = [
    (f"{company} {deed} in the {quarter} quarter .", label)
    for quarter in ("first", "second", "third", "fourth")
    for company, deed, label in [
        ("Alder Oyj", "raised its dividend", "positive"),
        ("Birch Plc", "closed two mills", "negative"),
        ("Cedar AB", "moved its office to Turku", "neutral"),
        ("Dogwood Oy", "doubled operating profit", "positive"),
        ("Elm Group", "lost its largest customer", "negative"),
        ("Fir Corp", "publishes its report", "neutral"),
    ]
]
FIQA = [
    ("post", "$AAA breaking out, love it", "Positive"),
    ("headline", "Acme warns on profit", "Negative"),
    ("post", "$BBB trades sideways", "Neutral"),
    ("headline", "Borealis wins tender", "Positive"),
    ("post", "$CCC is a sell", "Negative"),
]
TAGS = (
    ("Consider whether the headline mentions the price of gold.", "Price or Not"),
    ("Look for indications that the price of gold is increasing.", "Direction Up"),
    ("Look for indications that the price of gold is decreasing.", "Direction Down"),
    ("Look for indications that the price of gold is stable.", "Direction Constant"),
    ("Consider whether the headline references past prices of gold.", "PastPrice"),
    ("Look for any mention of future gold prices.", "FuturePrice"),
    ("Consider whether the headline discusses past events related to gold.", "PastNews"),
    ("Look for any references to future events concerning gold.", "FutureNews"),
    ("Consider if the headline compares gold with other assets.", "Asset Comparision"),
)
HEADLINES = [f"gold {'gains' if number % 2 else 'slips'} to ${1200 + number}" for number in range(22)]
NER = [
    (
        "Alice Stone of Acme Bank lives in Boston .",
        ["B-PER", "I-PER", "O", "B-ORG", "I-ORG", "O", "O", "B-LOC", "O"],
    ),
    ("Borrower", ["B-PER"]),
    ("Acme Bank and Acme Bank", ["B-ORG", "I-ORG", "O", "B-ORG", "I-ORG"]),
    ("State of Ohio", ["O", "O", "B-LOC"]),
    ("Bob Hill pays Lender", ["B-PER", "I-PER", "O", "B-PER"]),
]
FOMC = [
    ("Rates will need to rise further.", 1),
    ("Further easing may be warranted.", 0),
    ("The Committee met in Washington.", 2),
    ("Inflation pressures call for tightening.", 1),
    ("Purchases will continue to support growth.", 0),
]
FINQA = [
    ("what is the growth?", "0.25"),
    ("what is the average?", "127.4"),
    ("did sales exceed costs?", "yes"),
    ("what is the change?", "-12.0"),
    ("what is the total?", "1577"),
]
CONTEXT = "Context: sales were 100 and then 125 .\n|year|sales|\n|2019|100|\n|2020|125|\n"
NER_INSTRUCTION = (
    "In the sentences extracted from financial agreements in U.S. SEC filings, identify the named entities "
    "that represent a person ('PER'), an organization ('ORG'), or a location ('LOC'). "
    "The required answer format is: 'entity name, entity type'. For instance, in \"Elon Musk, CEO of SpaceX, "
    'announced the launch from Cape Canaveral.", the entities would be: '
    "'Elon Musk, PER\nSpaceX, ORG\nCape Canaveral, LOC'"
)
TURNS = [("what were sales in 2019?", 100.0), ("and in 2020?", 125.0), ("what is the growth?", 0.25)]
TATQA = [
    ("What was paid?", ["the cost plus a fee"], "span", ""),
    ("What were sales in 2020?", ["$1,496.5"], "span", "million"),
    ("What are the types?", ["fixed price", "cost plus"], "multi-span", ""),
    ("What is the change in sales?", -12.6, "arithmetic", "million"),
    ("What is the change in percent?", 17.7, "arithmetic", "percent"),
    ("How many types are there?", "2", "count", ""),
]
FINANCEBENCH = [
    ("metrics-generated", "What is the FY2018 capex of Acme in millions?", "$1577.00"),
    ("domain-relevant", "Is Acme capital-intensive?", "No, Acme manages its fixed assets well."),
    ("metrics-generated", "What is the margin?", "65.4%"),
    ("novel-generated", "Where does Acme operate?", "United States, EMEA and APAC"),
    ("metrics-generated", "What is the quick ratio?", "0.66"),
    ("metrics-generated", "What is the change in ratio?", "-0.02"),
    ("metrics-generated", "What are the days payable?", "93.86"),
    ("novel-generated", "Did debt rise?", "Yes"),
    ("novel-generated", "What are the debts?", "There are none"),
    ("domain-relevant", "Who are its customers?", "Airlines and the government"),
]
TOUCHSTONE = {
    "cra-lendingclub/cra-lendingclub": ["good", "bad", "good", "good", "bad"],
    "CFA-multiple_choice/cfa_l1": ["A", "B", "C", "D", "B"],
    "CMIN-US/CMIN-US": ["1", "0", "1", "1", "0"],
    "fpb/fpb": ["positive", "negative", "neutral", "positive", "neutral"],
    "fiqasa/fiqasa": ["positive", "negative", "neutral", "positive", "neutral"],
    "headlines/headlines": ["Yes", "No", "No", "Yes", "No"],
    "fomc/fomc": ["hawkish", "dovish", "neutral", "hawkish", "neutral"],
    "finqa/finqa": [f"The answer is:{value}" for value in ("0.25", "7.5", "yes", "12", "100")],
    "convfinqa/convfinqa": [f"The answer is:{value}" for value in ("0.25", "7.5", "3", "12", "100")],
    "ner/ner": ["Acme, ORG", "Borrower, PER", "Ohio, LOC", "Acme, ORG\nBob, PER", "Lender, PER"],
    "finred/finred": [
        "owner_of",
        "industry: Acme, steel",
        "employer",
        "founded_by",
        "brand: X, Acme; brand: Y, Acme",
    ],
    "edtsum/edtsum": [
        "Acme buys Borealis",
        "Gold falls",
        "Rates rise again",
        "Profit doubles",
        "Acme sells mills",
    ],
}


def write_finance_data(folder: Path) -> Path:
    """Write every data set below a folder."""
    _text(
        folder / "fpb/Sentences_50Agree.txt", "\ufeff" + "".join(f"{text}@{label}\n" for text, label in FPB)
    )
    for split in ("train", "valid", "test"):
        _lines(folder / f"flare/fiqasa_{split}.jsonl", _fiqa())
    _lines(folder / "flare/headlines_valid.jsonl", _headlines())
    for split in ("valid", "test"):
        _lines(folder / f"flare/ner_{split}.jsonl", _ner())
    _lines(folder / "flare/FinQA_valid.jsonl", (_finqa(*item) for item in FINQA))
    rows = "".join(f'{number},"{text}",2015,{label},{number}\n' for number, (text, label) in enumerate(FOMC))
    for split in ("train", "test"):
        _text(folder / f"fomc_communication/{split}.csv", f"index,sentence,year,label,orig_index\n{rows}")
    _json(folder / "convfinqa/dev_turn.json", [_turn(place) for _ in range(2) for place in range(len(TURNS))])
    _json(folder / "tatqa_dataset_test_gold.json", [_tatqa()])
    _lines(folder / "financebench_open_source.jsonl", (_financebench(*item) for item in FINANCEBENCH))
    for part, outputs in TOUCHSTONE.items():
        rows_of_part = [
            {"instruction": "Please answer.", "input": touchstone_input(part, number), "output": output}
            for number, output in enumerate(outputs)
        ]
        _json(folder / f"EN-benchmark/{part}_test.json", rows_of_part)
    return folder


def touchstone_input(part: str, number: int) -> str:
    """The text of an item of Golden Touchstone."""
    return f"Item {number}" + (" Acme of Ohio to Bob the Borrower and Lender" if part == "ner/ner" else "")


def conversation(prompt: str, answer: str, **more: Any) -> dict[str, Any]:
    """A line of FLARE's files."""
    turns = [{"from": "human", "value": prompt}, {"from": "agent", "value": answer}]
    return {"id": "x0", "conversations": turns, **more}


def _fiqa() -> Iterable[dict[str, Any]]:
    for kind, text, label in FIQA:
        for instruction in (
            f"What is the sentiment of the following financial {kind}: Positive, Negative, or Neutral?",
            f"Assess this financial {kind} and determine its sentiment: Positive, Negative, or Neutral?",
        ):
            yield conversation(
                f"{instruction}\nText: {text}\nAnswer:", label, text=f"Text: {text}", label=label
            )


def _headlines() -> Iterable[dict[str, Any]]:
    for number, headline in enumerate(HEADLINES):
        for place, (hint, tag) in enumerate(TAGS):
            prompt = f"{hint}. Is there a {tag} in this? Please answer Yes or No.\nText: {headline}\nAnswer:"
            yield conversation(prompt, "Yes" if place in (0, 1 + number % 2) else "No")


def _ner() -> Iterable[dict[str, Any]]:
    for text, tags in NER:
        for instruction in (
            NER_INSTRUCTION,
            "When analyzing sentences from U.S. SEC filings, identify entities.",
        ):
            answer = "\n".join(ner_answers(text, tags))
            yield conversation(f"{instruction}\nText: {text}\nAnswer:", answer, text=text, label=tags)


def ner_answers(text: str, tags: list[str]) -> list[str]:
    """The lines that name the entities of tagged words."""
    entities: list[list[str]] = []
    for word, tag in zip(text.split(), tags, strict=True):
        if tag.startswith("B-"):
            entities.append([tag[2:], word])
        elif tag.startswith("I-"):
            entities[-1].append(word)
    return [f"{' '.join(words)}, {kind}" for kind, *words in entities]


def _finqa(question: str, answer: str) -> dict[str, Any]:
    instruction = "Please answer the given financial question based on the context."
    return conversation(f"{instruction}\n{CONTEXT}Question: {question}\nAnswer:", answer)


def _turn(place: int) -> dict[str, Any]:
    questions, results = [question for question, _ in TURNS], [result for _, result in TURNS]
    annotation = {
        "amt_pre_text": "before .",
        "amt_table": "<table>100 125</table>",
        "amt_post_text": "after .",
        "dialogue_break": questions,
        "exe_ans_list": results,
        "cur_dial": questions[: place + 1],
        "exe_ans": results[place],
        "turn_ind": place,
    }
    return {"id": f"report_{place}", "annotation": annotation}


def _tatqa() -> dict[str, Any]:
    questions = [
        {
            "uid": str(number),
            "order": number,
            "question": question,
            "answer": answer,
            "answer_type": kind,
            "scale": scale,
        }
        for number, (question, answer, kind, scale) in enumerate(TATQA, start=1)
    ]
    paragraphs = [
        {"uid": "p2", "order": 2, "text": "The second paragraph."},
        {"uid": "p1", "order": 1, "text": "The first paragraph."},
    ]
    table = {"uid": "t", "table": [["", "2020"], ["Sales", "$1,496.5"]]}
    return {"table": table, "paragraphs": paragraphs, "questions": questions}


def _financebench(kind: str, question: str, answer: str) -> dict[str, Any]:
    evidence = [
        {"evidence_text": "Capex 1,577", "doc_name": "ACME"},
        {"evidence_text": "Assets 9", "doc_name": "ACME"},
    ]
    return {
        "question_type": kind,
        "question": question,
        "answer": answer,
        "evidence": evidence,
        "company": "Acme",
    }


def _text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _json(file: Path, value: Any) -> None:
    _text(file, json.dumps(value))


def _lines(file: Path, rows: Iterable[Any]) -> None:
    _text(file, "\n".join(json.dumps(row) for row in rows))
