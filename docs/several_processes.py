"""Write the table of features on several processes into docs/several-gpus.md.

    python docs/several_processes.py

The features and the rounding are those of the runs that the tests compare with one process.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "several-gpus.md"
BEGIN, END = "<!-- written by docs/several_processes.py -->\n", "<!-- end -->\n"

sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "training")]


def page() -> str:
    """Return the page with the present table."""
    from combinations import table

    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n" + table() + "\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE} is up to date")
