"""Bad inputs and kills in quantity: every fault case of the tests, and kill -9 in every stage and command.

    python benchmarks/faults.py --kills 200
    python benchmarks/faults.py --cases 0 --kills 200

Prints each fault with its case and the seed; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import record

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from faults.cases import Case, cases, faults  # noqa: E402
from faults.kills import kills  # noqa: E402
from faults.workspace import write_finished_workspace  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=5, help="of drawn values and moments")
    parser.add_argument("--only", default="", help="cases whose names begin with this")
    parser.add_argument("--cases", type=int, default=10**6, help="so many cases, drawn by the seed")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="cases at once")
    parser.add_argument("--patience", type=float, default=2.0, help="factor on the ten seconds of a hang")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        finished = write_finished_workspace(Path(root) / "finished")
        asked = [case for case in cases(options.seed) if case.name.startswith(options.only)]
        if options.cases < len(asked):
            asked = random.Random(options.seed).sample(asked, options.cases)
        wrong: dict[str, list[str]] = {}

        def tried(number: int, case: Case) -> None:
            found = faults(case, finished, Path(root) / f"case-{number}", options.patience)
            if found:
                wrong[case.name] = found
                print(
                    f"{case.name} | {' '.join(case.words)[:150]!r}\n    " + "\n    ".join(found), flush=True
                )

        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(tried, range(len(asked)), asked))
        groups = Counter(case.name.split()[0] for case in asked)
        print(f"seed {options.seed}: {len(wrong)} of {len(asked)} cases with a fault; {dict(groups)}")
        killed = kills(finished, Path(root), options.kills, options.seed) if options.kills else {}
    print(killed)
    differing = sum(each["differing"] + each["left_over"] for each in killed.values())
    if asked and not options.only:
        figures = {"seed": options.seed, "cases": dict(groups), "faults": wrong}
        record.write("faults", figures)
    if killed:
        record.write("faults_kills", {"seed": options.seed, "killed": killed})
    return 1 if wrong or differing else 0


if __name__ == "__main__":
    sys.exit(main())
