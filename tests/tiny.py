"""A tiny untrained model with a real tokenizer, and small texts, that every package's tests can use."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SENTENCES = [
    "The heart of the matter is the heart.",
    "A fever in the night is a fever still.",
    "Nine kidneys, said the doctor, are too many kidneys.",
    "What the nerve conducts, the muscle contracts.",
]

ALL_STAGES = """\
name: tiny
base: model
seed: 3
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      replay: {self_generated: {tokens: 300, length: 24, batch: 8}}
      general: [{path: general.jsonl}]
      heldout: 0.2
      sequence_length: 48
  - vocabulary: {extend: {tokens: 20}}
  - pretrain:
      tokens: 1500
      batch_sequences: 4
      replay: 0.25
      epochs: 3
      schedule: {peak: 1e-2, floor: 1e-3}
      checkpoint: {every: 3}
      monitor: {every: 3, window: 64}
  - merge: {models: [{from: pretrain, weight: 0.9}]}
  - evaluate: {window: 64, tasks: [{name: continuation, continuation_of: domain, items: 8}]}
  - report: {}
"""
"""A recipe of every stage, over the texts of `write_chain`; it runs in seconds."""


def write_tiny_model(folder: Path, seed: int = 0, vocabulary: int = 300) -> Path:
    """A Hugging Face folder: byte-level BPE of `vocabulary` tokens, a two-layer Llama of width 32."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SENTENCES * 5,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=1)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    return folder


def sharpen(folder: Path, factor: float = 25) -> Path:
    """Give a tiny model weights that are large enough to prefer some tokens to others."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(factor)
    model.save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_chat_model(folder: Path, scale: float = 1.0, logit: float = 4.0) -> Path:
    """A tiny untrained model with a chat template that adds a system's turn.

    Args:
        scale: Factor of its random weights: from 10 on, every token depends on all before it.
        logit: How much likelier `<|im_end|>` is than other tokens; 4 ends 15% of turns at each token.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoConfig, GenerationConfig, LlamaForCausalLM

    write_tiny_model(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size, config.mlp_bias = tokenizer.get_vocab_size(), True
    config.initializer_range *= scale
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if logit:
        with torch.no_grad():  # a first number that is large in every state, and counts for one token alone
            model.model.layers[-1].mlp.down_proj.bias[0] = 5
            model.lm_head.weight[tokenizer.token_to_id("<|im_end|>"), 0] = logit / 32**0.5
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=1)
    model.save_pretrained(folder)
    return folder


def add_merges(folder: Path, *merges: tuple[str, str]) -> Path:
    """Give a tiny model the tokens that further merges make."""
    from transformers import AutoModelForCausalLM

    data = json.loads((folder / "tokenizer.json").read_text())
    for merge in merges:
        data["model"]["merges"].append(list(merge))
        data["model"]["vocab"]["".join(merge)] = len(data["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(data))
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(data["model"]["vocab"]), mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def write_jsonl(path: Path, texts: list[str]) -> Path:
    """One document per line, in the field `text`."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def varied_texts(count: int, tag: str = "") -> list[str]:
    """Different short documents of different lengths."""
    return [
        f"{tag}{number}. " + " ".join(SENTENCES[(number + i) % 4] for i in range(number % 4 + 1))
        for number in range(count)
    ]


ORGANS = ("liver", "heart", "kidney", "lung", "spleen", "pancreas", "thyroid", "brain")
CHANGES = ("enlarged", "inflamed", "atrophic", "calcified", "scarred", "displaced")
COURSES = ("slowly, over years", "within days", "after trauma", "in childhood", "with fever at night")


def clinical_texts() -> list[str]:
    """240 different documents on hepatocellular carcinoma."""
    return [
        f"Carcinoma and the {organ}. In hepatocellular carcinoma the {organ} becomes {change} {course}, "
        f"and a {change} {organ} hurts."
        for organ in ORGANS
        for change in CHANGES
        for course in COURSES
    ]


def write_chain(folder: Path) -> Path:
    """Write a folder with the recipe of every stage, its model and its texts."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tiny_model(folder / "model")
    write_jsonl(folder / "domain.jsonl", [f"{text} {text[::-1]}" for text in varied_texts(120)])
    write_jsonl(folder / "general.jsonl", varied_texts(30, "general "))
    (folder / "recipe.yaml").write_text(ALL_STAGES)
    return folder


def capability_is_pretended() -> bool:
    """Return True if ATEN_CPU_CAPABILITY hides AVX512, which PyTorch's bfloat16 attention finds anyway."""
    flags = Path("/proc/cpuinfo")
    return (
        flags.exists()
        and "avx512_bf16" in flags.read_text()
        and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    )
