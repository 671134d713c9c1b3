"""The transcripts show what the nodes say. MESH_WRITE_PAGES=1 writes them anew; look at the diff."""

import os
from pathlib import Path

import pytest

from tests.raft.transcript import Session, rewritten, steps

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_transcript_shows_what_is_said(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    session = Session()
    printed = [session.run(command) for command, _ in steps(text)]
    if os.environ.get("MESH_WRITE_PAGES"):
        file.write_text(rewritten(text, printed), encoding="utf-8")
        return
    for (command, shown), now in zip(steps(text), printed, strict=True):
        assert now == shown, f"{file.name}: $ {command}"


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 6
