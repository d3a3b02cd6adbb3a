"""peft adapters with random weights, and what peft itself makes of them."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def write_adapter(base: Path, folder: Path, kind: type = LoraConfig, seed: int = 5, **config: Any) -> Path:
    """An adapter that changes everything that it can."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if kind is AdaLoraConfig:
        config |= {"total_step": 10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, kind(**{"lora_alpha": 6} | config))
        torch.manual_seed(seed)
        for parameter in (each for each in wrapped.parameters() if each.requires_grad):
            parameter.data += 0.1 * torch.randn_like(parameter)
        wrapped.save_pretrained(folder)
    return folder


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """The weights after `merge_and_unload`."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return {name: tensor.detach().clone() for name, tensor in merged.state_dict().items()}
