"""The probe of ends in mid-sentence, on a pretrain stage's held-out text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt.corpus.texts import has_texts, heldout_texts
from cpt.errors import DataError
from cpt.progress import Progress
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.probe_texts import ProbeContext
from cpt.stages.pretrain.samples import ends_of

if TYPE_CHECKING:
    from cpt.monitor.probes.early_end import EarlyEndProbe

SOURCES = ("general", "domain")
"""Text that is read, the first of which some is held out: what a run forgets shows in general text."""


def early_end_probe(monitor: Monitor, probed: ProbeContext, progress: Progress) -> list[EarlyEndProbe]:
    """Return the probe, if it is asked for, a token ends texts, and some text goes on in mid-sentence."""
    import numpy as np

    from cpt.corpus import read_index
    from cpt.models.tokenizer import load_tokenizer
    from cpt.monitor.probes.early_end import EarlyEndProbe, beginnings
    from cpt.stages.corpus.checks import window_for

    if monitor.early_end is None:
        return []
    ends = ends_of(probed)
    source = next((name for name in SOURCES if has_texts(probed.corpus, name, "heldout")), None)
    if not ends or source is None:
        progress.message("ends in mid-sentence are not probed: no token is known to end a text")
        return []
    texts = heldout_texts(probed.corpus, source)
    order = np.random.default_rng(probed.seed).permutation(len(texts))
    try:
        found = beginnings(
            load_tokenizer(probed.folder),
            (texts[index] for index in order),
            window_for(probed.folder, monitor.window),
            read_index(probed.corpus).start_token,
            monitor.early_end_tokens,
        )
    except DataError as error:
        progress.message(f"ends in mid-sentence are not probed: {error.message}")
        return []
    return [EarlyEndProbe(found, ends, monitor.early_end.when(monitor.regular))]
