"""Conversations that a chat model samples: their form, which are dropped, resumption, both engines."""

from __future__ import annotations

import json
import shutil
import sys
import types
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from tiny import CHAT_TEMPLATE, write_chat_model
from transformers import GPT2Config, GPT2LMHeadModel

from cpt.corpus import self_generated_chats
from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.readers.conversations import Conversations, TemplateRenderer
from cpt.corpus.self_generated import _Sampler, load_for_prompts
from cpt.corpus.self_generated_chats import Exchange, _ChatSampler, _Turns, generate_chats
from cpt.errors import StageFailed
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import MessageProgress, NullProgress

OPENING = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
ANSWERING = "<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>\n"


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model's folder; do not write into it."""
    return write_chat_model(tmp_path_factory.mktemp("chat") / "model")


def items(model: Path, work: Path, **options: Any) -> list[Item]:
    settings = {"tokens": 300, "length": 24, "batch": 16, "temperature": 1.0, "seed": 1}
    marks = {"start_token": "<s>", "end_token": "</s>", "progress": NullProgress()}
    return list(generate_chats(model, **(settings | marks | options), work=work))


@pytest.fixture(scope="module")
def plain(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Item], Path]:
    """The entries of a finished run, and the folder of its batches: do not write into it."""
    work = tmp_path_factory.mktemp("plain")
    return items(chat_model, work), work


def documents(found: list[Item]) -> list[Document]:
    return [item for item in found if isinstance(item, Document)]


def exchanges(work: Path) -> list[list[Exchange]]:
    batches = [json.loads(path.read_text())["samples"] for path in sorted(work.glob("batch-*.json"))]
    return [[Exchange(**row) for row in batch] for batch in batches]


def turns_of(model: Path, length: int = 16) -> _Turns:
    return _Turns(model, TemplateRenderer(model, "<s>", "</s>"), length)


def test_a_document_is_a_conversation_of_the_template(plain: tuple[list[Item], Path]) -> None:
    made = documents(plain[0])
    kept = [exchange for batch in exchanges(plain[1]) for exchange in batch if not exchange.fault]
    texts = {
        f"{OPENING}{each.prompt}{ANSWERING}{f'{each.answer}{END}' if each.ended else each.answer.strip()}"
        for each in kept
    }
    assert made
    assert {document.text for document in made} <= texts
    assert all(document.marked and not document.loss_weights for document in made)
    assert {document.ended for document in made} == {True, False}
    assert all(document.text.endswith(END) == document.ended for document in made)
    assert all(document.text.count("<|im_start|>") == 3 for document in made)
    assert len({document.id for document in made}) == len(made)


def test_sampling_goes_on_until_the_conversations_that_are_kept_hold_the_tokens(
    plain: tuple[list[Item], Path],
) -> None:
    names = {document.id for document in documents(plain[0])}
    counts = [
        sum(each.tokens for row, each in enumerate(batch) if f"chat-{number:05d}-{row:03d}" in names)
        for number, batch in enumerate(exchanges(plain[1]))
    ]
    assert len(counts) > 2
    assert sum(counts) >= 300 > sum(counts[:-1])


def test_conversations_without_a_whole_prompt_and_an_answer_are_dropped_and_counted(
    chat_model: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    progress = MessageProgress(told.append)
    found = items(chat_model, tmp_path, tokens=3000, batch=200, progress=progress)
    sampled = [each for batch in exchanges(tmp_path) for each in batch]
    assert len(found) == len(sampled)
    for item, each in zip(found, sampled, strict=True):
        if each.fault:
            assert isinstance(item, Removed)
            assert item.reason == each.fault
        else:
            assert isinstance(item, Document)
            assert item.ended == each.ended
            assert each.prompt == each.prompt.strip() != ""
            assert each.answer.strip()
            assert 2 <= each.tokens <= 24
    faults = Counter(each.fault for each in sampled)
    assert {"", "cut_prompt", "empty_prompt", "empty_answer"} == set(faults)
    cut = sum(not each.ended and not each.fault for each in sampled)
    begin, reasons = told[-1].split("; left out: ")
    assert (
        begin
        == f"of {len(sampled):,} sampled conversations {faults['']:,} are kept, {cut:,} of them unfinished"
    )
    assert sorted(reasons.split(", ")) == sorted(
        f"{reason} {count}" for reason, count in faults.items() if reason
    )
    assert told[0].startswith("of 144 sampled conversations ")  # after the first batch, and at the end
    assert len(told) == 2


@pytest.mark.parametrize(
    ("template", "asked", "shown"),
    [
        ("{{ '<s>' }}{% for m in messages %}[{{ m.content }}] {% endfor %}", "<s>[Hm?] ", "[Hm?] Well, I"),
        (
            "{% for m in messages %}{{ m.role + ':' }}{% if m.role == 'assistant' %}<t></t>{% endif %}"
            "{{ m.content }}|{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
            "user:Hm?|assistant:",
            "user:Hm?|assistant:Well, I",
        ),
        (
            "{% for m in messages %}{{ m.content | trim + ' /' + m.role + ' ' }}{% endfor %}",
            "Hm? /user ",
            "Hm? /user Well, I",
        ),
        (
            "{% for m in messages %}{{ '[' if m.role == 'user' else ' ' }}{{ m.content }}"
            "{{ ']' if m.role == 'user' }}{% endfor %}",
            "[Hm?]",
            "[Hm?] Well, I",
        ),
    ],
    ids=["bracketed", "thinking", "trimmed", "spaced"],
)
def test_an_unfinished_answer_stands_where_the_template_has_it(
    tmp_path: Path, template: str, asked: str, shown: str
) -> None:
    """The template writes at most white space more before an answer than when it asks for one."""
    renderer = TemplateRenderer(changed(tmp_path / "model", template), "<s>", "</s>")
    turns = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Well, I "}]
    assert renderer.prompt(turns[:1]) == asked
    text, begin = renderer.unfinished(turns)
    assert text == shown
    item = Conversations(("messages",), renderer, 0.0).item("1", {"messages": turns}, ended=False)
    assert isinstance(item, Document)
    assert (item.text, item.ended, item.marked) == (shown, False, True)
    assert item.loss_weights == ((begin, 0.0), (len(shown), 1.0))
    assert text[begin:].lstrip() == "Well, I"


def test_both_turns_together_have_the_length_and_the_prompt_half_of_it(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow, asked = _Sampler.follow, []

    def noted(self: _Sampler, prompts: Any, lengths: list[int], *rest: Any) -> list[list[int]]:
        asked.append(lengths)
        return follow(self, prompts, lengths, *rest)

    monkeypatch.setattr(_Sampler, "follow", noted)
    items(chat_model, tmp_path, tokens=20, length=24)
    [first, *_] = exchanges(tmp_path)
    prompts, answers = asked[:2]
    assert set(prompts) == {12}
    assert all(12 <= length < 24 for length in answers)
    whole = [each for each in first if not each.fault and not each.ended]
    assert [each.tokens for each in whole] == [24] * len(whole)
    assert {each.tokens for each in first if each.fault == "cut_prompt"} == {12}


@pytest.mark.parametrize(
    "option", [{"seed": 2}, {"temperature": 1.3}, {"length": 17}, {"batch": 15}, {"tokens": 90}], ids=str
)
def test_every_option_matters(
    chat_model: Path, tmp_path: Path, plain: tuple[list[Item], Path], option: dict[str, Any]
) -> None:
    assert items(chat_model, tmp_path, **option) != plain[0]


def test_a_killed_run_samples_only_the_rest(
    chat_model: Path, tmp_path: Path, plain: tuple[list[Item], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = _ChatSampler.sample
    calls: list[int] = []

    def counted(self: _ChatSampler, *arguments: Any) -> list[Exchange]:
        calls.append(arguments[0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(self, *arguments)

    monkeypatch.setattr(_ChatSampler, "sample", counted)
    with pytest.raises(KeyboardInterrupt):
        items(chat_model, tmp_path)
    assert items(chat_model, tmp_path) == plain[0]
    assert len(calls) == 1 + len(exchanges(plain[1]))
    assert exchanges(tmp_path) == exchanges(plain[1])


def test_kept_batches_need_no_model(
    chat_model: Path, plain: tuple[list[Item], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_generated_chats, "load_for_prompts", None)
    assert items(chat_model, plain[1]) == plain[0]


def test_a_damaged_batch_is_sampled_again(
    chat_model: Path, tmp_path: Path, plain: tuple[list[Item], Path]
) -> None:
    work = Path(shutil.copytree(plain[1], tmp_path / "work"))
    file = work / "batch-00001.json"
    whole = file.read_text()
    file.write_text(whole.replace('"tokens": ', '"tokens": 1', 1))
    assert items(chat_model, work) == plain[0]
    assert file.read_text() == whole


@pytest.mark.parametrize("kind", ["relative", "learned"])
def test_an_answer_in_a_padded_batch_is_the_answer_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The greatest logit is nearly always drawn at this temperature, so only the prompt decides."""
    monkeypatch.setattr("cpt.models.packed_model.resolve_precision", lambda _: torch.float32)
    model = write_chat_model(tmp_path / "model", scale=20, logit=0)
    if kind == "learned":  # with relative positions it does not matter where they begin
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.4}
        GPT2LMHeadModel(GPT2Config(vocab_size=302, bos_token_id=0, eos_token_id=1, **sizes)).save_pretrained(
            model
        )
    engine, turns = load_for_prompts("transformers", model, "<s>", "</s>"), turns_of(model, 24)
    prompts = [turns.prompt(text) for text in ("a", "The heart of the matter", "Nine kidneys", "b" * 20)]
    assert len({len(prompt) for prompt in prompts}) > 2
    together = engine.follow(prompts, [24] * 4, 1e-6, 3, {1})
    alone = [engine.follow([prompt], [24], 1e-6, 3, {1})[0] for prompt in prompts]
    assert [engine.marks.read(row) for row in together] == [engine.marks.read(row) for row in alone]
    assert len({tuple(row) for row in alone}) == len(prompts)


def stand_in(monkeypatch: pytest.MonkeyPatch, *rows: Exchange) -> list[int]:
    """Give every batch these conversations, again and again; return the sizes of the batches."""
    sizes: list[int] = []

    def sample(self: _ChatSampler, batch: int, *_: Any) -> list[Exchange]:
        sizes.append(batch)
        return [rows[row % len(rows)] for row in range(batch)]

    monkeypatch.setattr(_ChatSampler, "sample", sample)
    monkeypatch.setattr(self_generated_chats, "load_for_prompts", lambda *_: None)
    return sizes


GOOD = Exchange("Is it late?", "No, it is early.", 10, True, "")


def test_a_turn_that_spells_a_special_token_is_dropped(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spelt = [Exchange("Is it?", f"No.{mark}", 99, True, "") for mark in ("<|im_end|>", "</s>", "&lt;/s&gt;")]
    asked = Exchange("<|im_start|>system", "Yes.", 99, True, "")
    sizes = stand_in(monkeypatch, asked, *spelt, GOOD)
    found = items(chat_model, tmp_path, tokens=20, batch=5)
    assert [getattr(item, "reason", "") for item in found[1:6]] == ["special_token_in_message"] * 4 + [""]
    assert len(documents(found)) == 2  # of 10 tokens each: the others are not counted
    assert sizes == [1, 5, 5]  # after a batch of which nothing was kept, a whole one


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_prompts_have_the_weight_that_is_set(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: float
) -> None:
    stand_in(monkeypatch, GOOD)
    [document] = documents(items(chat_model, tmp_path, tokens=5, prompt_weight=weight))
    begin = len(f"{OPENING}{GOOD.prompt}{ANSWERING}")
    end = begin + len(f"{GOOD.answer}<|im_end|>")
    assert document.loss_weights == ((begin, weight), (end, 1.0), (len(document.text), weight))
    assert document.marked


@pytest.mark.parametrize("batch", [16, 300])
def test_a_model_that_never_ends_a_turn_is_named(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    cut = Exchange("I", "", 16, False, "cut_prompt")
    silent = Exchange("Why?", "", 18, True, "empty_answer")
    sizes = stand_in(monkeypatch, cut, cut, cut, silent)
    with pytest.raises(StageFailed) as caught:
        items(chat_model, tmp_path, tokens=10**6, batch=batch)
    count = len(sizes) * batch
    assert 256 <= count < 256 + batch
    assert f"none of the last {count} samples" in caught.value.message
    assert f"(cut_prompt {count * 3 // 4}, empty_answer {count // 4})" in caught.value.message


def changed(folder: Path, template: str) -> Path:
    write_chat_model(folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "with no special token"),
        ("{{ raise_exception('no user') }}", "refuses a conversation that the user begins: .*no user"),
        (CHAT_TEMPLATE.replace("Be kind.", "Be kind. " * 40), "are more than the 128 positions"),
    ],
    ids=["plain", "refusing", "long"],
)
def test_a_template_that_cannot_be_used_is_named(tmp_path: Path, template: str, says: str) -> None:
    with pytest.raises(StageFailed, match=says):
        items(changed(tmp_path / "model", template), tmp_path / "work")


def test_a_text_with_more_tokens_than_were_sampled_leaves_room_for_its_answer(chat_model: Path) -> None:
    turns = turns_of(chat_model)
    assert turns.fits(turns.prompt("a"), 16)
    assert turns.fits([0] * 112, 16)
    assert not turns.fits([0] * 113, 16)


def test_turns_open_and_end_as_the_template_has_them(tmp_path: Path) -> None:
    """A space before the user's text is left to the model: tokenizers join it to the word."""
    own = "<s>{% for m in messages %}{{ '<|im_start|> ' + m.content + '<|im_end|>' if m.role == 'user' "
    own += "else m.content + '</s>' }}{% endfor %}"
    tokenizer = load_tokenizer(model := changed(tmp_path / "model", own))
    begin, start, end, last = map(tokenizer.token_to_id, ("<s>", "<|im_start|>", "<|im_end|>", "</s>"))
    turns = _Turns(model, TemplateRenderer(model, "<s>", None), 16)
    assert turns.opening == [begin, start]
    assert (turns.prompt_ends, turns.answer_ends) == ({end}, {last})
    assert turns.prompt("a") == [begin, start, *tokenizer.encode(" a").ids, end]
    assert {begin, start, end, last} == turns.special


class _LLM:
    """Stands in for vLLM: turns that end, an empty one, one that begins anew, and one that is cut."""

    asked: ClassVar[list[list[dict[str, list[int]]]]] = []
    wanted: ClassVar[list[Any]] = []

    def __init__(self, **settings: Any) -> None:
        self.asked.clear()
        self.wanted.clear()

    def generate(self, prompts: list[Any], wanted: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked.append(prompts)
        self.wanted += wanted
        end = max(wanted[0].stop_token_ids)
        cut = [42] * wanted[-1].max_tokens
        rows = [([40, 41, end], end), ([44, 45], end), ([], end), ([43], 0), (cut, None)]
        made = [SimpleNamespace(token_ids=ids, stop_reason=stop) for ids, stop in rows]
        return [SimpleNamespace(outputs=[made[at % 5]]) for at in range(len(prompts))]


def test_vllm_samples_both_turns(chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = types.ModuleType("vllm")
    vllm.LLM, vllm.SamplingParams = _LLM, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    items(chat_model, tmp_path, engine="vllm", tokens=120, batch=5)
    tokenizer, turns = load_tokenizer(chat_model), turns_of(chat_model)
    first, second = tokenizer.decode([40, 41]), tokenizer.decode([44, 45])
    assert exchanges(tmp_path)[0] == [
        Exchange(first, first, 4, True, ""),
        Exchange(second, second, 4, True, ""),
        Exchange("", "", 0, False, "empty_prompt"),
        Exchange(tokenizer.decode([43]), "", 1, False, "cut_prompt"),
        Exchange(tokenizer.decode([42] * 12), "", 12, False, "cut_prompt"),
    ]
    opened, answered = _LLM.asked[:2]
    assert opened == [{"prompt_token_ids": turns.opening}] * 5
    assert answered == [{"prompt_token_ids": turns.prompt(text)} for text in (first, second)]
    assert all(set(each.stop_token_ids) == turns.special for each in _LLM.wanted)
    assert all(each.temperature == 1.0 for each in _LLM.wanted)
    assert [each.max_tokens for each in _LLM.wanted[:7]] == [12] * 5 + [22] * 2
    seeds = [each.seed for each in _LLM.wanted]
    assert len(set(seeds)) == len(seeds)
