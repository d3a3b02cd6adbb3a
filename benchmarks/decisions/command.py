"""Parse the command line of the studies, say how long they take, run one and record what it found."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import record

from decisions import law, optimizers, rates, schedules, skills
from decisions.sweeps import hours, seeds_of, terminate

STUDIES = {
    "replay": rates,
    "rewarming": rates,
    "kinds": rates,
    "batch": rates,
    "optimizers": optimizers,
    "optimizers-memory": optimizers,
    "schedules": schedules,
    "optimizer-state": schedules,
    "law": law,
    "skills": skills,
}


def existing(word: str) -> Path:
    """Parse the path of a file that is there."""
    path = Path(word)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{word}: there is no such file")
    return path


def shares(word: str) -> tuple[str, ...]:
    """Parse shares of replay: 0,0.25."""
    try:
        found = [float(each) for each in word.split(",")]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found) or not all(0 <= share < 1 for share in found):
        raise argparse.ArgumentTypeError(f"{word!r}: write shares from 0 to below 1, each once: 0,0.25")
    return tuple(f"{share:g}" for share in found)


def domain(word: str) -> tuple[str, Path]:
    """Parse NAME=FILE."""
    name, separator, file = word.partition("=")
    if not separator or not name or not file:
        raise argparse.ArgumentTypeError(f"{word!r}: write NAME=FILE")
    return name, existing(file)


def main(about: str, arguments: list[str] | None = None) -> None:
    """Run a study.

    Args:
        about: Description of the program.
        arguments: Words of the command line; None: those of the process.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--domain", type=domain, required=True, action="append", metavar="NAME=FILE")
    parser.add_argument("--replay", type=existing, required=True, metavar="FILE")
    parser.add_argument("--general", type=existing, required=True, metavar="FILE")
    parser.add_argument("--plan", choices=("full", "short"), default="short")
    parser.add_argument(
        "--shares",
        type=shares,
        metavar="N,N",
        help="of replay, for studies of three texts: the plan's if left out",
    )
    parser.add_argument("--seeds", default="17,18,19", metavar="N,N,N")
    parser.add_argument("--rate", type=float, default=300.0, metavar="N", help="training tokens per second")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs of a sweep at the same time")
    parser.add_argument("--dry-run", action="store_true", help="say how long it would take")
    parser.add_argument("--name", help="name of the result")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    if options.shares and STUDIES[options.study] is not schedules:
        parser.error("--shares is for studies of three texts; the others have their plan's")
    options.runs = options.runs.absolute()
    study = STUDIES[options.study]
    work = study.work(options, len(seeds_of(options)))
    runs, time = sum(each.runs for each in work), hours(work, options.rate)
    print(f"{runs} runs, about {time:.1f} hours from the beginning", file=sys.stderr)
    if not options.dry_run:
        signal.signal(signal.SIGTERM, terminate)
        options.runs.mkdir(parents=True, exist_ok=True)
        found = study.studied(options)
        name = (options.name or options.study).replace("-", "_")
        print(
            record.write(f"decision_{name}", {"plan": options.plan} | found if study is not rates else found)
        )
