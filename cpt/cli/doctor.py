"""Define `cpt doctor`: check this machine and this installation, and name the remedy for what is missing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from platform import platform, python_version
from typing import Literal

import typer
from packaging.requirements import Requirement
from rich.text import Text

from cpt import __version__
from cpt.cli.options import DEFAULT_RUNS, Json, Runs
from cpt.cli.output import out, print_json, rows
from cpt.formatting import plural, size

PACKAGE = "cpt-workbench"

LITTLE_DISK = 5_000_000_000
"""Free bytes below which a folder is named: checkpoints of a model of 135M parameters take 1.6 GB each."""

EXTRAS = {
    "8bit": "optimizer: adamw-8bit",
    "float8": "precision: fp8",
    "concepts": "selection of documents by concepts",
    "pii": "removal of personal data",
    "ray": "corpora on several machines",
    "vectors": "FOCUS and WECHSEL initialisation",
    "documents": "PDF, Word and HTML files as sources",
    "transliterate": "transliterated tokenizers (TransMI)",
    "tensorboard": "logs in TensorBoard",
    "trackio": "logs in trackio",
    "wandb": "logs in Weights & Biases",
    "mlflow": "logs in MLflow",
    "vllm": "generation on GPUs",
    "touchstone": "Chinese summaries in the finance suite",
}
"""Optional packages by extra, with what they are for."""


@dataclass(frozen=True)
class Check:
    """A checked thing. state: "ok", "missing" (optional), or "wrong" (cpt will not work)."""

    what: str
    state: Literal["ok", "missing", "wrong"]
    found: str
    remedy: str = ""


def doctor(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Check Python, packages, devices, memory, disks and optional packages of this machine.

    It downloads nothing. Exit codes: 0 cpt can work here, 1 something is wrong.

    Example: cpt doctor --json
    """
    found = list(checks(runs))
    wrong = [each for each in found if each.state == "wrong"]
    if as_json:
        print_json({"healthy": not wrong, "checks": [asdict(each) for each in found]})
    else:
        _print(found, wrong)
    if wrong:
        raise typer.Exit(1)


def checks(runs: Path) -> Iterator[Check]:
    """Yield everything that is checked."""
    yield Check("cpt", "ok", f"{__version__}, Python {python_version()}, {platform()}")
    yield from _packages()
    yield from _devices()
    yield _compiler()
    from cpt.references import cache_folder

    yield _disk("runs", runs, "Free some space, or choose another folder: --runs DIR or CPT_RUNS.")
    yield _disk("cache", cache_folder(), "Free some space, or choose another folder: CPT_CACHE.")
    yield _hub()
    yield from _extras()


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(each) for each in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        return []


def _packages() -> Iterator[Check]:
    """Check the packages that every installation needs."""
    needed = [each for each in _requirements() if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not needed:
        remedy = "Install it from its folder: pip install -e ."
        yield Check("packages", "missing", "cpt itself is not installed, so its needs are not known", remedy)
        return
    faults = [(each, fault) for each in needed if (fault := _fault(each))]
    for each, fault in faults:
        yield Check(each.name, "wrong", fault, f"pip install '{each.name}{each.specifier}'")
    if not faults:
        yield Check("packages", "ok", f"all {len(needed)} are installed in versions that fit")


def _fault(requirement: Requirement) -> str:
    """Return why a requirement is not met; empty if it is."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return "not installed"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{found} is installed, and {requirement.specifier} is needed"


def _devices() -> Iterator[Check]:
    """Check torch and the devices that it sees."""
    try:
        import torch
    except Exception as error:  # a broken installation raises anything
        remedy = "Install it again: pip install --force-reinstall torch; in a checkout: make clean install"
        yield Check("torch", "wrong", f"cannot be imported: {error}", remedy)
        return
    from cpt.estimate.devices import available_bytes
    from cpt.training.distributed.environment import this_hardware

    here = this_hardware()
    products = "multiplies bfloat16 natively" if here.bfloat16 else "has no fast bfloat16: trains in float32"
    if here.is_gpu:
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            yield Check(f"GPU {number}", "ok", f"{facts.name}, {size(facts.total_memory)}, {products}")
    else:
        remedy = _gpu_remedy(torch.version.cuda)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        yield Check("device", "ok", f"no GPU; {plural(cores, 'processor core')}, {products}", remedy)
    free = available_bytes()
    memory = "not known on this system" if free is None else f"{size(free)} free"
    yield Check("memory", "ok", memory)
    yield Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _gpu_remedy(cuda: str | None) -> str:
    """Return the remedy if the machine has an NVIDIA GPU that this torch cannot use."""
    if not Path("/proc/driver/nvidia/version").exists():
        return ""
    if cuda is None:
        return (
            "There is an NVIDIA driver, and this torch is built without CUDA: pip install --force-reinstall "
            "torch --index-url https://download.pytorch.org/whl/cu128"
        )
    return "There is an NVIDIA driver, and torch finds no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES."


def _compiler() -> Check:
    """Check what compiled layers need."""
    from cpt.training.compilation import compiler, compiler_obstacle
    from cpt.training.distributed.environment import this_hardware

    try:
        on_gpu = this_hardware().is_gpu
        reason = compiler_obstacle(on_gpu=on_gpu)
    except Exception:  # a broken installation of torch, of which another check tells
        return Check("compiler", "missing", "not looked for, because torch cannot be imported")
    if reason is None:
        return Check("compiler", "ok", f"{compiler(on_gpu=on_gpu)}, for `compile`")
    return Check("compiler", "missing", reason, _compiler_remedy(on_gpu))


def _compiler_remedy(on_gpu: bool) -> str:
    install = "apt-get install g++ (dnf install gcc-c++, xcode-select --install)"
    if on_gpu:
        install = f"pip install triton, {install}"
    return f"{install}, or train without: compile: false."


def _disk(what: str, folder: Path, remedy: str) -> Check:
    """Check that a folder, or the place where it would be made, can be written to and has space."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(what, "wrong", f"{folder} cannot be written to: {error.strerror}", remedy)
    free = shutil.disk_usage(there).free
    found = f"{folder}, {size(free)} free"
    return Check(what, "ok", found) if free >= LITTLE_DISK else Check(what, "missing", found, remedy)


def _hub() -> Check:
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return Check("hub", "ok", "offline (HF_HUB_OFFLINE): only downloaded models and data are used")
    if get_token():
        return Check("hub", "ok", "logged in")
    return Check("hub", "ok", "not logged in: public models and data only", "hf auth login")


def _extras() -> Iterator[Check]:
    """Check optional packages; each missing one is named with the command that brings it."""
    optional = _requirements()
    for extra, purpose in EXTRAS.items():
        own = [
            each
            for each in optional
            if each.marker
            and each.marker.evaluate({"extra": extra})
            and not each.marker.evaluate({"extra": ""})
        ]
        if not own:
            continue
        faults = [f"{each.name}: {fault}" for each in own if (fault := _fault(each))]
        if faults:
            install = f"pip install '{PACKAGE}[{extra}]'"
            yield Check(f"extra {extra}", "missing", f"{purpose} ({'; '.join(faults)})", install)
        else:
            yield Check(f"extra {extra}", "ok", purpose)


def _print(found: list[Check], wrong: list[Check]) -> None:
    console = out()
    table = rows("", "", "")
    marks = {
        "ok": Text("ok", style="green"),
        "missing": Text("-", style="dim"),
        "wrong": Text("wrong", style="red"),
    }
    for each in found:
        text = Text(each.found)
        if each.remedy:
            text.append(f"\n{each.remedy}", style="cyan")
        table.add_row("", each.what, marks[each.state], text)
    console.print(table)
    if wrong:
        console.print(
            Text(f"{plural(len(wrong), 'thing')} to mend before cpt can work here.", style="bold red")
        )
    else:
        console.print(Text("cpt can work here.", style="bold"))
