"""Continual pretraining and domain adaptation of language models.

`cpt.run` runs a recipe. Everything in `__all__` is imported when it is first used: the command handles Ctrl-C
before anything is imported, and `import cpt` takes no time.
"""

__all__ = ["RunResult", "StageResult", "__version__", "run"]

TYPE_CHECKING = False  # as in `typing`, without loading that

if TYPE_CHECKING:
    from cpt.api import RunResult, StageResult, run

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "__version__":
            return _version()
        from cpt import api

        return getattr(api, name)

    def _version() -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cpt-workbench")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0+unknown"
