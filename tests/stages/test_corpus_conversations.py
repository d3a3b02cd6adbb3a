"""Conversations as sources of the corpus stage: rendering, weights of prompts, what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from corpus_runs import Heard, byte_model, domain, problems, records, run, write
from pydantic import ValidationError
from tokenizers import Tokenizer

from cpt.corpus import open_source, read_documents, read_index
from cpt.corpus.documents import Document
from cpt.corpus.readers.conversations import TemplateRenderer
from cpt.errors import SourceError
from cpt.models.tokenizer import load_tokenizer
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import Source
from cpt.stages.corpus.sources import read_sources

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if loop.index0 % 2 and m.role == 'user' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
TALK = [{"role": "user", "content": "Is 37 a fever?"}, {"role": "assistant", "content": "No."}]
RENDERED = "<|im_start|>user\nIs 37 a fever?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>\n"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    return byte_model(tmp_path)


@pytest.fixture
def chat_base(base: Artifact) -> Artifact:
    folder = base.path("model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return base


def test_a_conversation_is_the_templates_text_and_tokens(chat_base: Artifact, tmp_path: Path) -> None:
    path = records(tmp_path / "chat.jsonl", {"messages": TALK})
    replay = [{"path": path, "chat": "messages"}]
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=replay, sequence_length=128)
    tokenizer = load_tokenizer(chat_base.path("model"))
    ids = open_source(corpus, "replay").sequence(0).tokens.tolist()
    turn, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    assert (ids.count(turn), ids.count(end)) == (2, 2)
    assert ids[:2] == [tokenizer.token_to_id("<s>"), turn]
    assert ids[-1] == tokenizer.token_to_id("</s>")
    assert ids.count(ids[0]) == ids.count(ids[-1]) == 1


def test_every_form_of_conversation_is_read(chat_base: Artifact, tmp_path: Path) -> None:
    shared = [{"from": "human", "value": "Is 37 a fever?"}, {"from": "gpt", "value": "No."}]
    forms = {
        "a": ({"conversations": shared}, "conversations"),
        "b": ({"q": "Is 37 a fever?", "a": "No."}, {"prompt": "q", "completion": "a"}),
        "c": ({"q": TALK[:1], "a": TALK[1:]}, {"prompt": "q", "completion": "a"}),
    }
    datasets.Dataset.from_list([{"messages": TALK}]).save_to_disk(tmp_path / "saved")
    sources = [Source(path=str(tmp_path / "saved"), chat="messages")]
    for name, (row, chat) in forms.items():
        sources.append(Source(path=records(tmp_path / f"{name}.jsonl", row), chat=chat))
    renderer = TemplateRenderer(chat_base.path("model"), "<s>", "</s>")
    assert [item.text for item in read_sources(sources, Heard(), {}, renderer)] == [RENDERED] * 4
    whole = TemplateRenderer(chat_base.path("model"), None, None)
    assert whole.render(TALK) == f"<s>{RENDERED}</s>"


def test_conversations_that_cannot_be_used_are_counted(chat_base: Artifact, tmp_path: Path) -> None:
    def talk(content: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": content}]}

    path = records(
        tmp_path / "chat.jsonl",
        {"messages": TALK},
        {"messages": None},
        {"messages": []},
        talk(None),
        talk([{"type": "image"}]),
        {"messages": TALK[:1] * 2},
        *(talk(f"a{mark}b") for mark in ("<|im_end|>", "&lt;/s&gt;", "\uff1c/s\uff1e", "</\u200bs>")),
    )
    replay = [{"path": path, "chat": "messages"}]
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=replay)
    counts = read_index(corpus).sources["replay"]
    found = {reason: count for reason, count in counts.removed_documents.items() if count}
    assert found == {
        "empty": 2,
        "message_without_content": 1,
        "content_not_text": 1,
        "refused_by_template": 1,
        "special_token_in_message": 4,
    }
    assert counts.documents_in == 10


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "a"}, "no field 'messages'; its fields are: text"),
        ({"messages": "hello"}, "holds a string, not a list of messages"),
        ({"messages": ["hello"]}, "message 1 of field 'messages' has no role"),
        ({"messages": [{"role": "narrator", "content": ""}]}, "the unknown role narrator"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "half of a surrogate pair"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_line(
    chat_base: Artifact, tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    path = records(tmp_path / "chat.jsonl", row)
    with pytest.raises(SourceError) as caught:
        run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=[{"path": path, "chat": "messages"}])
    assert f"{path}:1: " in str(caught.value)
    assert says in str(caught.value)


def test_conversations_of_the_domain_are_trained_on_only(chat_base: Artifact, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Question {number}?"}]} for number in range(60)]
    chat = {"path": records(tmp_path / "chat.jsonl", *rows), "chat": "messages"}
    least = {"documents": 12, "bytes": 1, "most": 0.2}
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path), chat], heldout_min=least)
    splits = read_index(corpus).sources["domain"].splits
    assert splits["train"].marked == 60
    assert splits["heldout"].documents >= 12
    assert not any("Question" in document.text for document in read_documents(corpus, "domain", "heldout"))


def test_conversations_are_checked_before_anything_runs(base: Artifact) -> None:
    chat = {"path": "a.jsonl", "chat": "messages"}
    assert problems(base, replay=[chat])["replay.0.chat"] == "the base model has no chat template"
    assert "cannot be measured" in problems(general=[chat])["general.0.chat"]
    assert "no fields with conv" in problems(replay=[{**chat, "format": "pdf"}])["replay.0.chat"]
    assert "transliterate" in str(problems(replay=[{**chat, "transliterate": True}]))
    for wrong in ({}, {"prompt": "a"}, {"messages": "a", "prompt": "b", "completion": "c"}):
        with pytest.raises(ValidationError):
            Source.model_validate({"path": "a", "chat": wrong})


LONG_TALK = [
    *TALK,
    {"role": "user", "content": "And 39?"},
    {"role": "assistant", "content": "Yes, it is."},
    {"role": "user", "content": "Thanks"},
]


def learnt(document: Document) -> list[str]:
    """The stretches of a document on which the loss has weight 1."""
    ends = [0, *(end for end, _ in document.loss_weights)]
    runs = zip(ends, ends[1:], (weight for _, weight in document.loss_weights), strict=False)
    return [document.text[begin:end] for begin, end, weight in runs if weight == 1]


def prompted(path: str, *, weight: float = 0, **chat: str) -> dict[str, Any]:
    return {"path": path, "chat": {**(chat or {"messages": "messages"}), "prompt_weight": weight}}


@pytest.mark.parametrize("marks", [("<s>", "</s>"), (None, None)], ids=["marks", "none"])
def test_answers_are_learnt_with_the_token_that_ends_their_turn(
    chat_base: Artifact, tmp_path: Path, marks: tuple[str | None, str | None]
) -> None:
    path = records(tmp_path / "chat.jsonl", {"messages": LONG_TALK, "q": "Ill?", "a": "No."})
    renderer = TemplateRenderer(chat_base.path("model"), *marks)
    sources = [
        Source.model_validate(prompted(path)),
        Source.model_validate(prompted(path, prompt="q", completion="a")),
        Source.model_validate({"path": path, "chat": "messages"}),
    ]
    talk, pair, whole = read_sources(sources, Heard(), {}, renderer)
    end = "\n" if marks[1] else "\n</s>"  # which the corpus adds otherwise
    assert learnt(talk) == ["No.<|im_end|>", "Yes, it is.<|im_end|>"]
    assert learnt(pair) == [f"No.<|im_end|>{end}"]
    assert [document.loss_weights[-1][0] for document in (talk, pair)] == [len(talk.text), len(pair.text)]
    assert (whole.text, whole.loss_weights) == (talk.text, ())


def test_short_answers_end_where_they_end_after_a_long_start_token(
    chat_base: Artifact, tmp_path: Path
) -> None:
    folder, long = chat_base.path("model"), "<|begin_of_a_long_text|>"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([long])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("{{ bos_token }}", long))
    path = records(tmp_path / "chat.jsonl", {"messages": LONG_TALK})
    renderer = TemplateRenderer(folder, long, None)
    [talk] = read_sources([Source.model_validate(prompted(path))], Heard(), {}, renderer)
    assert not talk.text.startswith(long)
    assert learnt(talk) == ["No.<|im_end|>", "Yes, it is.<|im_end|>"]


def test_a_conversation_may_begin_with_the_assistant(chat_base: Artifact, tmp_path: Path) -> None:
    folder = chat_base.path("model")
    template = TEMPLATE.replace("{% for", "{{ messages[0].role and '' }}{% for", 1)
    template = template.replace("loop.index0 % 2", "loop.index0 > 9")
    (folder / "chat_template.jinja").write_text(template)
    path = records(tmp_path / "chat.jsonl", {"messages": [{"role": "assistant", "content": "Hello."}, *TALK]})
    renderer = TemplateRenderer(folder, "<s>", "</s>")
    [talk] = read_sources([Source.model_validate(prompted(path))], Heard(), {}, renderer)
    assert isinstance(talk, Document), talk
    assert learnt(talk) == ["<|im_start|>assistant\nHello.<|im_end|>", "No.<|im_end|>\n"]


def test_the_weight_of_prompts_is_that_of_their_tokens(chat_base: Artifact, tmp_path: Path) -> None:
    path = records(tmp_path / "chat.jsonl", {"messages": TALK})
    settings = {"domain": [domain(tmp_path)], "sequence_length": 128, "end_token": None}
    tokenizer = load_tokenizer(chat_base.path("model"))
    for weight in (0, 0.25):
        replay = [prompted(path, weight=weight), write(tmp_path / "plain.jsonl", "plain text")]
        corpus, _, _ = run(chat_base, tmp_path / str(weight), replay=replay, **settings)
        counts = read_index(corpus).sources["replay"].splits["train"]
        source = open_source(corpus, "replay")
        [row] = [source.sequence(number) for number in range(len(source))]
        assert row.weights is not None
        talk, plain = np.split(np.arange(len(row.tokens)), row.piece_lengths[:1])
        assert (row.weights[plain] == 1).all()
        chosen = talk[1:][row.weights[talk[1:]] == 1]
        assert (
            tokenizer.decode(row.tokens[chosen].tolist(), skip_special_tokens=False) == "No.<|im_end|>\n</s>"
        )
        assert set(row.weights[talk[1:]].tolist()) == {weight, 1}
        prompts = len(talk) - 1 - len(chosen)
        assert counts.tokens_without_loss == (0 if weight else prompts)
        assert [row.without_loss for row in source.rows(np.arange(len(source)))] == [0 if weight else prompts]


def test_conversations_without_a_place_for_their_answers_are_counted(
    chat_base: Artifact, tmp_path: Path
) -> None:
    former = "{{ m.content | upper if m.role == 'assistant' and not loop.last else m.content }}"
    template = TEMPLATE.replace("{{ m.content }}", former)
    (chat_base.path("model") / "chat_template.jinja").write_text(template)
    path = records(
        tmp_path / "chat.jsonl", {"messages": TALK}, {"messages": LONG_TALK}, {"messages": TALK[:1]}
    )
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=[prompted(path)])
    counts = read_index(corpus).sources["replay"]
    assert {reason: count for reason, count in counts.removed_documents.items() if count} == {
        "answer_not_found": 1,
        "no_answer": 1,
    }
    assert counts.splits["train"].documents == 1


def test_a_weight_of_prompts_is_a_share(chat_base: Artifact) -> None:
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValidationError):
            Source.model_validate(prompted("a.jsonl", weight=wrong))
