"""cpt: a workbench for continual pretraining and domain adaptation of language models."""

TYPE_CHECKING = False  # what `typing` says, without loading it

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Look the version up when it is asked for: `cpt` answers Ctrl-C before anything is imported."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cpt-workbench")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0+unknown"
