"""The direction of study at toy size: do questions on some facts help to recall others, which were only read?

    python benchmarks/study_toy.py --tokens 300_000,1_200_000 --seeds 17,18,19

Documents define five invented things each ("A pebun is a warm train that swims in soup."), with nothing that
a guess could use. Of half of the things questions are trained on; the recall probe asks for the others, in
new wordings, one answer of four. The model is a random Llama of 0.5 million weights, or --model. Each arm
has the same number of tokens:

*documents*: nothing else. *one wording*: half of the tokens are questions, one on each thing, in one of both
directions. *questions*: the same, in up to eight wordings and both directions. *forms*: questions, and the
documents in five forms, half of them with shuffled sentences. *noise*: questions, and a tenth of the
documents' input tokens is replaced (D-AR).

Differences are means over seeds; the place of a thing is that of its sentence. Runs that are recorded
already are not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import record
from forgetting import Part
from ruamel.yaml import YAML
from seeds import mean_over_seeds

Answers = dict[str, str]
"""Facts, places, answers and likelihoods of questions, each in one line."""

PLACES = 5
FORMS = (
    "A {name} is {what}.",
    "Once there was {what}, and they named it {name}.",
    "Tom saw a {name}: {what}.",
    "The {name} was {what}.",
    "Everyone called {what} the {name}.",
)
"""Ways to state a fact. Only the first one is mined."""

_SYLLABLES = [f"{consonant}{vowel}" for consonant in "bdfgklmnprtvz" for vowel in "aeiou"]
_LOOKS = (
    *("red", "blue", "green", "pink", "soft", "wet", "warm", "cold"),
    *("sad", "happy", "loud", "quiet", "brave", "round", "thin", "fat"),
)
_KINDS = (
    *("bird", "cat", "dog", "fish", "frog", "bear", "mouse", "fox", "duck", "cow", "bee", "boat"),
    *("car", "train", "tree", "flower", "hat", "ball", "box", "bell", "doll", "cake", "stone", "lamp"),
)
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


def recipe(options: argparse.Namespace, arm: str, tokens: int, seed: int, texts: Path, model: Path) -> Part:
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
        "tokens": tokens,
        "batch_sequences": options.batch,
        "replay": 0,
        "mixture": {"weights": {part: how["weights"].get(part, 0) for part in PARTS}},
        "epochs": 1_000_000,
        "input_noise": how.get("input_noise", 0),
        "schedule": {"kind": "rewarm-cosine", "peak": options.peak, "floor": 0, "warmup": 0.05},
        "monitor": {
            **{"every": 1_000_000, "tokens": 500, "window": options.length, "probe_share": "1%"},
            **{"early_end": None, "weights": None, "samples": None},
        },
        "checkpoint": {"every": 1_000_000},
    }
    stages = [{"corpus": corpus}, {"pretrain": pretrain}]
    return {"name": f"study-toy-{seed}", "base": str(model), "seed": seed, "stages": stages}


def measure(options: argparse.Namespace, arm: str, tokens: int, seed: int, work: Path) -> dict[str, Any]:
    """Train an arm; return its answers to the recall probe's questions, and seconds of processor time."""
    import cpt

    told, texts, path = facts(options.documents, seed), work / f"texts-{seed}", work / f"{seed}.yaml"
    write_texts(texts, told)
    model = options.model.absolute() if options.model else write_model(work / f"model-{seed}", told, seed)
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(options, arm, tokens, seed, texts, model), file)
    began = time.process_time()
    result = cpt.run(path, runs=work / "runs")
    seconds = time.process_time() - began
    learned, corpus = (result.stages[name].folder for name in ("learn", "corpus"))
    assert learned is not None
    assert corpus is not None
    places = {name: at for pairs in told for at, (name, _) in enumerate(pairs, start=1)}
    answers = answered(learned / "model", corpus / "corpus", places, work)
    shutil.rmtree(learned)
    return {"seconds": round(seconds, 1), **answers}


def answered(model: Path, corpus: Path, places: dict[str, int], work: Path) -> dict[str, Any]:
    """Return by group which questions a model answers, and its likelihoods of the right answers."""
    from cpt.corpus.recall import read_recall
    from cpt.corpus.texts import start_token_of
    from cpt.models.packed_model import PackedLanguageModel, load_model, resolve_precision
    from cpt.models.tokenizer import load_tokenizer
    from evals.harness import score_choices
    from evals.models.language_model import PackedLM
    from evals.multiple_choice import spaced_item

    probe = read_recall(corpus)
    items = {
        group: [spaced_item(item.question, item.choices, item.answer) for item in probe[group]]
        for group in ("trained", "untrained")
    }
    packed = PackedLanguageModel(load_model(model, resolve_precision("auto")))
    lm = PackedLM(packed, load_tokenizer(model), start_token=start_token_of(corpus, model))
    scores = score_choices(lm, items, work / "scores")
    return {
        group: {
            "facts": _line(item.fact for item in probe[group]),
            "places": _line(places[item.fact] for item in probe[group]),
            "right": _line(int(each) for each in scores[group].acc_norm),
            "p_gold": _line(round(float(each), 4) for each in scores[group].p_gold),
        }
        for group in ("trained", "untrained")
    }


def _line(values: Iterable[Any]) -> str:
    """Join values: a list of numbers takes a line for each in the result's file."""
    return " ".join(map(str, values))


def _numbers(line: str) -> Any:
    import numpy as np

    return np.array(line.split(), dtype=float)


def write_model(folder: Path, told: list[list[tuple[str, str]]], seed: int) -> Path:
    """Write a random Llama whose tokens are the words of the documents and questions, and syllables."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from cpt.corpus.study.language import load_language

    language = load_language("en")
    texts = [form.format(name=name, what=what) for form in FORMS for pairs in told for name, what in pairs]
    for task, unseen in product(("copular.define", "copular.name"), (False, True)):
        texts += list(language.wordings(task, unseen=unseen))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    marks = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=768, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **{"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 512, **sizes},
        **{"num_key_value_heads": 4, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1},
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the differences of pairs of arms on untrained things: means over seeds, by tokens and place."""
    found = []
    sizes = dict.fromkeys(row["tokens"] for row in rows)
    for tokens, (before, after) in product(sizes, PAIRS):
        answers = {(row["arm"], row["seed"]): row["untrained"] for row in rows if row["tokens"] == tokens}
        pairs = [
            (old, answers[after, seed])
            for (arm, seed), old in answers.items()
            if arm == before and (after, seed) in answers
        ]
        assert all(old["facts"] == new["facts"] for old, new in pairs), "the probe is the same for all arms"
        told = {int(place) for old, _ in pairs for place in old["places"].split()}
        for place in (None, *sorted(told)) if pairs else ():
            found.append(
                {
                    **{"tokens": tokens, "before": before, "after": after, "place": place},
                    "questions": sum(len(_of_place(old, "right", place)) for old, _ in pairs),
                    **{key: _difference(pairs, key, place) for key in ("right", "p_gold")},
                }
            )
    return found


def _difference(pairs: list[tuple[Answers, Answers]], key: str, place: int | None) -> dict[str, Any]:
    """Return the means of two arms, and of their difference with its interval."""
    from evals.comparing.statistics import compare_accuracy, compare_means

    compare = compare_accuracy if key == "right" else compare_means
    found = [compare(*(_of_place(side, key, place) for side in pair), confidence=0.95) for pair in pairs]
    levels = {side: sum(getattr(f, side).value for f in found) / len(found) for side in ("before", "after")}
    return {**levels, **mean_over_seeds([asdict(each.difference) for each in found])}


def _of_place(answers: Answers, key: str, place: int | None = None) -> Any:
    """Return the numbers of questions on things of one place, or all: [questions]."""
    found = _numbers(answers[key])
    return found[_numbers(answers["places"]) == place] if place else found


def _share(answers: Answers, place: int | None = None) -> float:
    """Return the share of questions, on things of one place or all, that are answered."""
    right = _of_place(answers, "right", place)
    return float(right.mean()) if len(right) else float("nan")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the share of questions that are answered, by arm, seed, group and place."""
    places = "".join(f"{f'place {place}':>9}" for place in range(1, PLACES + 1))
    heads = f"{'tokens':>10}{'seed':>5}{'seconds':>9}{'trained':>9}{'untrained':>11}"
    lines = [f"{'arm':<13}{heads}{places}"]
    for row in rows:
        shares = [f"{_share(row['trained']):>9.3f}", f"{_share(row['untrained']):>11.3f}"]
        shares += [f"{_share(row['untrained'], place):>9.3f}" for place in range(1, PLACES + 1)]
        start = f"{row['arm']:<13}{row['tokens']:>10,}{row['seed']:>5}{row['seconds']:>9.0f}"
        lines.append(start + "".join(shares))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder; by default a random model")
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--tokens", default="300_000,1_200_000", help="of every arm, a run for each number")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--batch", type=int, default=8, help="sequences of a step")
    parser.add_argument("--peak", type=float, default=3e-3)
    parser.add_argument("--seeds", default="17,18,19")
    parser.add_argument("--only", nargs="*", choices=ARMS, default=list(ARMS), help="arms")
    parser.add_argument("--name", default="study_toy", help="of the result file")
    options = parser.parse_args()
    same = ("documents", "length", "batch", "peak")
    setting = {"model": options.model.name if options.model else "random"}
    setting |= {name: getattr(options, name) for name in same}
    earlier, rows = record.RESULTS / f"{options.name}.json", list[dict[str, Any]]()
    if earlier.exists():
        figures = json.loads(earlier.read_text(encoding="utf-8"))["figures"]
        rows = figures["rows"] if figures["setting"] == setting else []
    with tempfile.TemporaryDirectory() as work:
        sizes, seeds = (list(map(int, each.split(","))) for each in (options.tokens, options.seeds))
        for tokens, seed, arm in product(sizes, seeds, options.only):
            made = {"arm": arm, "tokens": tokens, "seed": seed}
            if not any(made.items() <= row.items() for row in rows):
                rows.append(made | measure(options, arm, tokens, seed, Path(work)))
                record.write(options.name, {"setting": setting, "pairs": compared(rows), "rows": rows})
                print(table(rows), flush=True)


if __name__ == "__main__":
    main()
