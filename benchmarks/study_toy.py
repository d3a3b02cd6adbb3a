"""The direction of study at toy size: do questions on some facts help to recall others, read in documents alone?

    python benchmarks/study_toy.py --model DIR --documents 200 --tokens 2_000_000 --seeds 17,18,19

Documents define five invented things each, "A pebun is a warm train that swims in soup.", without anything that
a guess could use. Of half of the facts questions are trained on; the recall probe asks for the others, one
answer of four. Arms, each with the same number of tokens:

*documents*: nothing else. *one wording*: half of the tokens are questions, one on each fact. *questions*: the
same, in eight wordings and both directions. *forms*: questions, and the documents in five forms, half of them
with shuffled sentences. *noise*: questions, and a tenth of the documents' input tokens is replaced (D-AR).

Differences are paired by question, over all seeds; the place of a fact is that of its sentence.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import record
from forgetting import Part
from ruamel.yaml import YAML

if TYPE_CHECKING:
    import numpy as np

PLACES = 5
FORMS = (
    "A {name} is {what}.",
    "Once there was {what}, and they named it {name}.",
    "Tom saw a {name}: {what}.",
    "The {name} was {what}.",
    "Who was {what}? It was the {name}.",
)
"""Ways to state a fact. Only the first one is mined."""

_SYLLABLES = [f"{consonant}{vowel}" for consonant in "bdfgklmnprtvz" for vowel in "aeiou"]
_LOOKS = "red blue green pink soft wet warm cold sad happy loud quiet brave round thin fat".split()
_KINDS = (
    "bird cat dog fish frog bear mouse fox duck cow bee boat car train tree flower hat ball box bell doll "
    "cake stone lamp"
).split()
_HABITS = (
    *("sings at night", "sleeps in a box", "jumps over the wall", "eats only bread", "lives by the sea"),
    *("runs in the rain", "hides from the sun", "plays with water", "smells of milk", "talks to the moon"),
    *("flies to school", "likes the snow", "cries every day", "dances on the hill", "helps the king"),
    *("hates the wind", "fell from a truck", "looks for gold", "swims in soup", "paints the door"),
    *("waits for spring", "shines in the dark", "rolls down the road", "grows in the park"),
)

ONLY = {"documents": 1}
ASKED = {"documents": 1, "questions": 1}
ARMS: dict[str, dict[str, Any]] = {
    "documents": {"weights": ONLY},
    "one wording": {"weights": ASKED, "forms": 1},
    "questions": {"weights": ASKED},
    "forms": {"weights": {"documents": 0.1, "forms": 0.4, "shuffled": 0.5, "questions": 1}},
    "noise": {"weights": ASKED, "input_noise": 0.1},
}
PAIRS = (
    ("documents", "questions"),
    ("one wording", "questions"),
    ("one wording", "forms"),
    ("questions", "forms"),
    ("questions", "noise"),
)
PARTS = ("documents", "forms", "shuffled", "reading", "questions")


def facts(documents: int, seed: int) -> list[list[tuple[str, str]]]:
    """Return names of things with what they are, `PLACES` for each document; no two are alike."""
    rolled = random.Random(f"study toy {seed}")
    names: dict[str, None] = {}
    things: dict[str, None] = {}
    count = documents * PLACES
    while len(names) < count:
        names["".join(rolled.choices(_SYLLABLES, k=2)) + rolled.choice("kmnrt")] = None
    while len(things) < count:
        things[f"a {rolled.choice(_LOOKS)} {rolled.choice(_KINDS)} that {rolled.choice(_HABITS)}"] = None
    pairs = list(zip(names, things, strict=True))
    return [pairs[at : at + PLACES] for at in range(0, count, PLACES)]


def write_texts(folder: Path, told: list[list[tuple[str, str]]]) -> None:
    """Write the documents in the first form, and in the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, forms in (("documents", FORMS[:1]), ("forms", FORMS[1:])):
        rows = [
            {"text": " ".join(form.format(name=name, what=what) for name, what in document)}
            for document in told
            for form in forms
        ]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def recipe(options: argparse.Namespace, arm: str, seed: int, texts: Path) -> Part:
    """Return the recipe of one arm."""
    how = ARMS[arm]
    corpus = {
        "domain": [{"path": str(texts / f"{name}.jsonl"), "part": name} for name in ("documents", "forms")],
        "study": {"miners": ["copular"], "forms": how.get("forms", 8), "shuffle": True, "probe": 10_000},
        "sequence_length": options.length,
        "heldout": 0.02,
        "heldout_min": {"documents": 1, "bytes": 1},
    }
    pretrain = {
        "name": "learn",
        "tokens": options.tokens,
        "batch_sequences": options.batch,
        "replay": 0,
        "mixture": {"weights": {part: how["weights"].get(part, 0) for part in PARTS}},
        "epochs": 1_000_000,
        "input_noise": how.get("input_noise", 0),
        "schedule": {"kind": "rewarm-cosine", "peak": options.peak, "floor": 0, "warmup": 0.05},
        "monitor": {
            **{"every": 1_000_000, "tokens": 500, "window": options.length, "budget": "1%"},
            **{"early_end": None, "weights": None, "samples": None},
        },
        "checkpoint": {"every": 1_000_000},
    }
    stages = [{"corpus": corpus}, {"pretrain": pretrain}]
    return {"name": f"study-toy-{seed}", "base": str(options.model), "seed": seed, "stages": stages}


def measure(options: argparse.Namespace, arm: str, seed: int, work: Path) -> dict[str, Any]:
    """Train an arm; return the answers to the recall probe's questions, and the seconds that it took."""
    import cpt

    path, texts = work / f"{seed}.yaml", work / f"texts-{seed}"
    if not texts.is_dir():
        write_texts(texts, facts(options.documents, seed))
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(options, arm, seed, texts), file)
    began = time.process_time()
    result = cpt.run(path, runs=work / "runs")
    learned, corpus = (result.stages[name].folder for name in ("learn", "corpus"))
    assert learned is not None
    assert corpus is not None
    seconds = time.process_time() - began
    answers = answered(learned / "model", corpus / "corpus", work)
    shutil.rmtree(learned)
    return {"seconds": round(seconds, 1), **answers}


def answered(model: Path, corpus: Path, work: Path) -> dict[str, Any]:
    """Return by group which questions a model answers, its likelihoods of the right answers, and the facts."""
    from cpt.corpus.recall import read_recall
    from cpt.corpus.texts import start_token_of
    from cpt.models.packed_model import PackedLanguageModel, load_model, resolve_precision
    from cpt.models.tokenizer import load_tokenizer
    from evals.harness import score_choices
    from evals.models.language_model import PackedLM
    from evals.multiple_choice import spaced_item

    probe = read_recall(corpus)
    items = {
        group: [spaced_item(item.question, item.choices, item.answer) for item in found]
        for group, found in probe.items()
    }
    packed = PackedLanguageModel(load_model(model, resolve_precision("auto")))
    lm = PackedLM(packed, load_tokenizer(model), start_token=start_token_of(corpus, model))
    scores = score_choices(lm, items, work / "scores")
    return {
        group: {
            "facts": [item.fact for item in probe[group]],
            "right": scores[group].acc_norm.tolist(),
            "p_gold": scores[group].p_gold.tolist(),
        }
        for group in probe
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peak", type=float, default=3e-3)
    parser.add_argument("--seeds", default="17")
    parser.add_argument("--only", nargs="*", default=list(ARMS))
    options = parser.parse_args()
    import torch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        for seed in map(int, options.seeds.split(",")):
            for arm in options.only:
                found = measure(options, arm, seed, Path(work))
                line = [f"{arm:12} {seed} {found['seconds']:.0f}s"]
                for group in ("trained", "untrained", "reversed"):
                    if group in found:
                        g = found[group]
                        line.append(f"{group} n{len(g['right'])} acc {sum(g['right'])/len(g['right']):.3f} p {sum(g['p_gold'])/len(g['right']):.3f}")
                print("; ".join(line), flush=True)
