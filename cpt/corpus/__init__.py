"""Turn text into training data: readers, deduplication and split, packed token shards, the data order.

Reading order: documents, readers, build, selection, shards, tokenise, stream.
"""

from cpt.corpus.documents import Document, read_documents
from cpt.corpus.index import CorpusIndex, read_index
from cpt.corpus.mixture import replay_rows
from cpt.corpus.shards import PackedSequence, TokenisedSource
from cpt.corpus.stream import TrainingStream
from cpt.corpus.tokenise import open_source, retokenise

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
