"""Turn text into training data: readers, deduplication and split, packed token shards, the data order.

Reading order: documents, readers, build, selection, packing, shards, tokenised_source, tokenise, stream.
"""

from cpt.corpus.documents import Document, read_documents
from cpt.corpus.index import CorpusIndex, read_index
from cpt.corpus.mixture import replay_rows
from cpt.corpus.stream import TrainingStream
from cpt.corpus.tokenise import open_source, retokenise
from cpt.corpus.tokenised_source import PackedSequence, TokenisedSource

__all__ = [
    "CorpusIndex",
    "Document",
    "PackedSequence",
    "TokenisedSource",
    "TrainingStream",
    "open_source",
    "read_documents",
    "read_index",
    "replay_rows",
    "retokenise",
]
