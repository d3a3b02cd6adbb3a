"""The file that names a model's new tokens."""

from pathlib import Path

import pytest

from cpt.errors import DataError
from cpt.models.token_ids import NEW_TOKENS_FILE, read_new_tokens, write_new_tokens


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_new_tokens(tmp_path) == ()
    write_new_tokens(tmp_path, [5, 3, 5])
    assert read_new_tokens(tmp_path) == (3, 5)


@pytest.mark.parametrize("content", ["", "[3]", '{"ids": 3}', '{"ids": ["a"]}'])
def test_another_content_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / NEW_TOKENS_FILE).write_text(content)
    with pytest.raises(DataError, match="is no list of new tokens"):
        read_new_tokens(tmp_path)
