"""`cpt merge extract`: extract an adapter from the difference of two models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import show_progress
from cpt.errors import CannotMerge, CptError, DataError
from cpt.formatting import plural, size
from cpt.references import locate

if TYPE_CHECKING:
    from cpt.progress import Progress
    from merging.candidates import Candidate
    from merging.extraction import Extraction, HeldTensor


def extract(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model that was trained from the base.")],
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model that it was trained from.")],
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the adapter.")],
    rank: Annotated[
        int, typer.Option("--rank", metavar="R", min=1, help="Rank of the pairs of factors.")
    ] = 64,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--modules", metavar="NAME", help="Only these matrices: q_proj. May be repeated. \\[default: all]"
        ),
    ] = None,
    low_rank_only: Annotated[
        bool,
        typer.Option(
            "--low-rank-only",
            metavar="",
            help="Leave out norms and rows of embeddings, which are otherwise stored whole.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Extract the difference of a model from its base as a LoRA adapter; print the share that it holds.

    Each matrix's difference becomes two factors, nearest to it for their rank. The result is a folder that
    peft and `cpt merge --add` load. Nothing is written for models that do not fit (exit code 2).

    Example: cpt merge extract merged --base HuggingFaceTB/SmolLM2-135M --rank 64 --out adapter
    """
    from merging.extraction import write_adapter
    from merging.writer import check_free

    check_free(output)
    with show_progress(resumable=False) as view:
        first, second = _read({"the base": base, "the model": model}, view)
        where = locate(base, Path.cwd())
        view.message(f"extracting rank {rank} tensor by tensor")
        report = write_adapter(
            first,
            second,
            rank,
            output,
            modules=modules,
            low_rank_only=low_rank_only,
            base_name=where,
            progress=lambda done, total: view.update(done, total, "tensors"),
        )
    if as_json:
        facts = asdict(report) | {"norm": report.norm, "kept": report.kept}
        return print_json({"folder": str(output), **facts})
    return _print(report, output)


def _read(references: dict[str, str], progress: Progress) -> Iterator[Candidate]:
    """Read both models; report everything that is wrong with them at once."""
    from merging.adapters import read_model, resolve_input

    found, problems = [], []
    for name, reference in references.items():
        try:
            found.append(read_model(name, resolve_input(locate(reference, Path.cwd()), progress)))
        except DataError as error:
            problems.append(f"{name}: {error}")
        except CptError as error:
            problems.append(f"{name}: {error.message}")
    if problems:
        raise CannotMerge(problems)
    yield from found


def _print(report: Extraction, output: Path) -> None:
    written = sum(file.stat().st_size for file in output.iterdir())
    console = out()
    console.print(Text(str(output), style="bold"))
    console.print(
        f"  rank {report.rank}, {report.numbers:,} numbers, {size(written)}: "
        f"holds {report.kept:.2%} of the difference's norm ({report.norm:.4g})"
    )
    table = rows("tensors", "held as", "number#", "norm#", "kept#", "least#")
    for (kind, how), group in _by_kind(report.tensors).items():
        norm = sum(each.norm**2 for each in group) ** 0.5
        kept = sum(each.kept**2 for each in group) ** 0.5
        least = min(each.kept / each.norm if each.norm else 1.0 for each in group)
        table.add_row(
            "", kind, how, str(len(group)), f"{norm:.4g}", f"{kept / (norm or 1):.2%}", f"{least:.2%}"
        )
    console.print(table)
    if report.unchanged:
        console.print(f"  {plural(report.unchanged, 'tensor')} of both models are the same.")


def _by_kind(tensors: tuple[HeldTensor, ...]) -> dict[tuple[str, str], list[HeldTensor]]:
    """Group tensors by the end of their name and the way in which they are held."""
    groups: dict[tuple[str, str], list[HeldTensor]] = {}
    for each in tensors:
        parts = each.tensor.removesuffix(".weight").split(".")[-2:]
        kind = ".".join(part for part in parts if not part.isdecimal())
        groups.setdefault((kind, each.how), []).append(each)
    return groups
