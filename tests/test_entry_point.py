"""The command as it starts: Ctrl-C at any moment is an exit code, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

INTERRUPTED_IMPORT = """
import importlib.abc, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
sys.argv = ["cpt", "ls"]
from cpt.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["cpt.cli", "cpt.errors", "typer", "rich.console", "importlib.metadata"])
def test_ctrl_c_while_modules_are_loaded(module: str, tmp_path: Path) -> None:
    code = INTERRUPTED_IMPORT.format(module=module)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_the_script_and_the_module_are_the_same_and_load_nothing_before() -> None:
    assert 'cpt = "cpt.__main__:main"' in (ROOT / "pyproject.toml").read_text()
    code = "import sys; old = set(sys.modules); import cpt.__main__; print(sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['cpt', 'cpt.__main__']"


def test_the_version_is_known() -> None:
    import cpt

    assert cpt.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cpt.nothing  # type: ignore[attr-defined]  # noqa: B018
