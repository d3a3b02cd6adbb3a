"""Writes the page of the run with everything, to be looked at: python tests/report/show.py PAGE.html"""

from __future__ import annotations

import sys
from pathlib import Path

from full_run import full_run

from cpt.report.facts import gather
from cpt.report.page import render

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(gather(full_run())), encoding="utf-8")
