"""cpt: a workbench for continual pretraining and domain adaptation of language models."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cpt-workbench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
