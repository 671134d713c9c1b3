"""Small files are there whole, with their mode, whatever was there before."""

import os
from pathlib import Path

import pytest

from meshos.storage.files import write_whole


def test_a_file_is_replaced_whole_and_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old and longer")
    path.chmod(0o644)
    write_whole(path, b"new", 0o600)
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_a_folder_that_is_not_there_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_whole(tmp_path / "missing" / "file", b"x", 0o644)
