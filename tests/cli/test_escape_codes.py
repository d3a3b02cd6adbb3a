"""Nothing from data, names, recipes, arguments or files of runs moves a terminal or turns its text around."""

from __future__ import annotations

import json
import logging
import re
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import fake_stages
import pytest
from rich.console import Console

from cpt.cli import output
from cpt.cli.silence import redirect_warnings
from cpt.cli.views.log import LogView
from cpt.cli.views.tty import TtyView
from cpt.errors import CptError, DataError
from cpt.recipe.events import PlannedStage, RunEnded, RunStarted, StageEnded, StageMessage, StageStarted
from cpt.report.templates import environment

if TYPE_CHECKING:
    from conftest import Command

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202egnp\u2066\x7f"
SHOWN = r"\x1b[31m\u009b2J\u202egnp\u2066\u007f"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def is_harmless(*texts: str) -> bool:
    return not any(CONTROLS.search(text) for text in texts)


def test_arguments_and_file_names(cpt: Command, tmp_path: Path) -> None:
    (tmp_path / f"{EVIL.replace('/', '')}.yaml").write_text("name: 3\n")
    asked = [
        ["validate", f"{EVIL}.yaml"],
        ["validate", f"{EVIL}none.yaml"],
        ["validate", "recipe.yaml", f"pretrain.{EVIL}=3"],
        ["validate", "recipe.yaml", f"{EVIL}=3"],
        ["run", "recipe.yaml", "--only", EVIL],
        ["run", "recipe.yaml", "--force", EVIL],
        ["run", "recipe.yaml", "--", "--num_processes", EVIL],
        ["run", "recipe.yaml", "--", f"--{EVIL}"],
        ["status", EVIL],
        ["diff", EVIL, EVIL],
        ["report", EVIL, EVIL],
        ["ls", f"--{EVIL}"],
        ["ls", EVIL],
        ["init", f"/none{EVIL}/x"],
        ["init", "--template", EVIL],
        [EVIL],
    ]
    for words in asked:
        code, out, err = cpt(*words)
        assert code == 2, words
        assert is_harmless(out, err), (words, err)
        assert r"\x1b" in err, words
        code, out, err = cpt(*words, "--json")
        assert is_harmless(out, err), words


def test_what_a_recipe_says(cpt: Command, recipe_file: Path) -> None:
    quoted = json.dumps(EVIL)
    text = recipe_file.read_text()
    changed = [
        text.replace("name: medical", f"name: {quoted}"),
        text.replace("- report", f"- {quoted}: {{}}"),
        text + f"{quoted}: 3\n",
    ]
    for each in changed:
        assert each != text
        recipe_file.write_text(each)
        code, out, err = cpt("validate", "recipe.yaml")
        assert (code, is_harmless(out, err)) == (2, True)
        assert SHOWN in err


def test_what_a_run_file_says(cpt: Command) -> None:
    assert cpt("run", "recipe.yaml").code == 0
    file = Path("runs/medical/run.json")
    data = json.loads(file.read_text())
    data |= {"error": EVIL, "started": EVIL, "state": "failed", "versions": {EVIL: EVIL}}
    data["stages"]["merge"] |= {"state": EVIL, "gate": EVIL, "kind": EVIL}
    data["recipe"] |= {"base": EVIL}
    file.write_text(json.dumps(data))
    for words in (["status"], ["ls"], ["show"], ["diff", "medical", "recipe.yaml"], ["report"]):
        code, out, err = cpt(*words)
        assert code == 0, err
        assert is_harmless(out, err), words
        assert is_harmless(*cpt(*words, "--json")[1:]), words
    assert SHOWN in cpt("status").out
    assert cpt("status", "--json").json["error"] == EVIL  # the same text, in another spelling


def test_what_a_stage_says_and_what_it_fails_with(cpt: Command) -> None:
    def fail(context: fake_stages.Context, _step: int) -> None:
        context.progress.message(f"reading {EVIL}")
        raise DataError(f"no field 'text'; its fields are: {EVIL}\nsecond line", hint=EVIL)

    fake_stages.HOOKS["merge"] = fail
    code, out, err = cpt("run", "recipe.yaml")
    assert code == 1
    assert is_harmless(out, err)
    assert err.count(SHOWN) >= 3
    assert is_harmless(Path("runs/medical/run.json").read_text())

    def crash(*_: object) -> None:
        raise RuntimeError(EVIL)

    fake_stages.HOOKS["merge"] = crash
    code, out, err = cpt("run", "recipe.yaml")
    assert is_harmless(out, err, Path("runs/medical/error.log").read_text())
    assert SHOWN in Path("runs/medical/error.log").read_text()
    assert is_harmless(cpt("run", "recipe.yaml", "--debug").err)


EVENTS = (
    RunStarted(EVIL, (PlannedStage(EVIL, "run", EVIL, EVIL),)),
    StageStarted(EVIL),
    StageMessage(EVIL, f"{EVIL}\n{EVIL}"),
    StageEnded(EVIL, "finished", 1.0, EVIL),
    RunEnded("finished", 2.0),
)


def test_the_log_view(capsys: pytest.CaptureFixture[str]) -> None:
    stream = StringIO()
    view = LogView(stream)
    for event in EVENTS:
        view(event)
    assert is_harmless(stream.getvalue())
    assert len(stream.getvalue().splitlines()) == 6


def test_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's own codes are there; with all that are of its making taken away, none is left."""
    stream = StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    console = output._Safe(file=stream, force_terminal=True, width=200, color_system=None, markup=False)
    view = TtyView(console)
    for event in EVENTS[:3]:
        view(event)
    console.print(view)
    for event in EVENTS[3:]:
        view(event)
    shown = re.sub(r"\x1b\[(\?25[lh]|\d*[A-Z])|\r", "", stream.getvalue())
    assert is_harmless(shown)
    assert SHOWN in shown


def test_tables_are_as_wide_as_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    table = output.rows("name", "next")
    table.add_row("", EVIL, output.coloured(EVIL))
    output.out().print(table)
    output.out().print(f"{EVIL} plain")
    printed = capsys.readouterr().out
    assert is_harmless(printed)
    assert printed.count(SHOWN) == 3


def test_the_log_of_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)  # a launch has silenced it
    with redirect_warnings(tmp_path / "libraries.log"):
        logging.getLogger("some").warning("read %s", EVIL)
    text = (tmp_path / "libraries.log").read_text()
    assert is_harmless(text)
    assert SHOWN in text


def test_errors_and_hints(capsys: pytest.CaptureFixture[str]) -> None:
    output.explain(CptError(EVIL, hint=EVIL), as_json=True)
    printed = capsys.readouterr()
    assert is_harmless(printed.out, printed.err)


def test_pages() -> None:
    template = environment().from_string("<title>{{ name }}</title><svg>{{ chart }}</svg>")
    from markupsafe import Markup

    page = template.render(name=f"<b>{EVIL}", chart=Markup(f"<text>{EVIL}</text>"))
    assert is_harmless(page)
    assert f"&lt;b&gt;{SHOWN[:4]}" in page
    assert "<text>" in page


def test_rich_still_colours() -> None:
    stream = StringIO()
    output._Safe(file=stream, force_terminal=True, color_system="standard").print("x", style="red")
    assert "\x1b[31mx" in stream.getvalue()
    assert isinstance(output.out(), Console)
