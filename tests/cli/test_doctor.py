"""`cpt doctor`: what is right, what is missing with its remedy, what is wrong."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from cpt.cli import doctor
from cpt.cli.doctor import EXTRAS, checks

NEEDS = ["torch>=2.6", "rich>=13", "bitsandbytes>=0.50; extra == '8bit'", "ray>=2.40; extra == 'ray'"]
HERE = {"torch": "2.13.0", "rich": "13.9", "bitsandbytes": "0.51"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Packages of an invented installation, to be changed."""
    there = dict(HERE)

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(doctor, "requires", lambda _: NEEDS)
    monkeypatch.setattr(doctor, "version", version)
    return there


def found(runs: Path) -> dict[str, Any]:
    return {each.what: each for each in checks(runs)}


def test_a_whole_installation(installed: dict[str, str], tmp_path: Path, called: Any) -> None:
    here = found(tmp_path / "runs")
    assert here["packages"].found == "all 2 are installed in versions that fit"
    assert here["extra 8bit"].state == "ok"
    assert here["extra ray"].state == "missing"
    assert here["extra ray"].remedy == "pip install 'cpt-workbench[ray]'"
    assert not (tmp_path / "runs").exists()
    done = called("doctor", "--runs", tmp_path / "runs", "--json")
    assert done.code == 0
    assert done.json["healthy"]
    assert {"cpt", "packages", "torch", "memory", "runs", "cache", "hub"} <= {
        e["what"] for e in done.json["checks"]
    }


def test_what_is_wrong_is_named_with_the_command_that_mends_it(
    installed: dict[str, str], tmp_path: Path, called: Any
) -> None:
    del installed["rich"]
    installed["torch"] = "2.1"
    here = found(tmp_path)
    assert (here["rich"].state, here["rich"].remedy) == ("wrong", "pip install 'rich>=13'")
    assert here["torch"].found != ""
    assert "packages" not in here
    done = called("doctor", "--runs", tmp_path)
    assert done.code == 1
    assert "2 things to mend" in done.out
    assert "2.1 is installed, and >=2.6 is needed" in done.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(installed: dict[str, str], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert found(tmp_path / "runs")["runs"].state == "wrong"
    tmp_path.chmod(0o700)


def test_little_disk_is_named(
    installed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 10**18)
    assert found(tmp_path)["runs"].remedy.startswith("Free some space")


def test_every_extra_of_the_package_has_a_purpose() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) - {"dev", "docs", "trackers"} == set(EXTRAS)


def test_a_missing_compiler_is_named_with_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "compiled layers need Triton, and there is none for this GPU"
    monkeypatch.setattr("cpt.training.compilation.compiler_obstacle", lambda **_: reason)
    check = doctor._compiler()
    assert (check.state, check.found) == ("missing", reason)
    assert check.remedy.endswith("compile: false.")
    monkeypatch.setattr("cpt.training.compilation.compiler_obstacle", lambda **_: None)
    assert doctor._compiler().state == "ok"


def test_a_torch_that_cannot_be_imported_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # the import system then raises
    (check,) = doctor._devices()
    assert (check.what, check.state) == ("torch", "wrong")
    assert "make clean install" in check.remedy  # with the tested version, which pip alone does not know
