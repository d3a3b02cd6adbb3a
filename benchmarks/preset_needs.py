"""Estimate the memory, time and cost of the packaged recipes on a GPU, as `cpt presets` shows them.

    python benchmarks/preset_needs.py --text medical.jsonl

The text takes the place of every file of the user. The model is SmolLM2-135M's, from a wheel: nothing is
fetched from the hub. Written is recipes/needs.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from presets import MODEL, tiny

from cpt.recipe.authoring import templates
from cpt.recipe.presets import Needs, preset_of

OTHER_MODELS = ("evaluate.against=", "instructed.models.", "merge.base.model=")
"""Keys of a tiny variant that replace models of the hub."""

NEEDS = Path(__file__).parents[1] / "recipes" / "needs.json"


def needs_of(name: str, text: str, options: argparse.Namespace, folder: Path) -> Needs | None:
    """Return what the trainings of a recipe need; None without a training."""
    recipe = folder / f"{name}.yaml"
    recipe.write_text(text, encoding="utf-8")
    preset = preset_of(name, text)
    if preset.tokens is None:
        return None
    for file in preset.data:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(options.text.absolute())
    header = tiny(name) if f"name={name}-tiny" in text else []
    local = [word for word in header if word.startswith(OTHER_MODELS)]
    words = [sys.executable, "-m", "cpt", "estimate", recipe, f"base={MODEL}", *local, "--json"]
    asked = ["--gpu", options.gpu, "--price", str(options.price)]
    done = subprocess.run([*words, *asked], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    stages = found["stages"]
    return Needs(
        gpu=options.gpu,
        tokens=sum(stage["tokens"] for stage in stages),
        memory_bytes=max(stage["peak_bytes"] for stage in stages),
        training_seconds=sum(stage["time"]["seconds"] for stage in stages),
        price=options.price,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, metavar="FILE")
    parser.add_argument("--gpu", default="h100")
    parser.add_argument("--price", type=float, default=2.5, help="of an hour")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in sorted(templates().items()):
            needs = needs_of(name, text, options, Path(folder))
            print(name, needs, file=sys.stderr, flush=True)
            if needs is not None:
                shown = {key: value for key, value in asdict(needs).items() if key != "cost"}
                lines.append(f"  {json.dumps(name)}: {json.dumps(shown)}")
    NEEDS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
