"""Files sent along with a call: put into the agent's private folder, their paths into the arguments, removed afterwards."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from meshos.adapters.onprem import limits
from meshos.adapters.onprem.mcp_values import check_arguments
from meshos.cbor import Value
from meshos.errors import BadInput
from meshos.ids import TaskId


def carries_files(arguments: Mapping[str, Value]) -> bool:
    """Whether an argument is a file: bytes, or ``{"filename": text, "content": bytes}``."""
    return any(_content(value) is not None for value in arguments.values())


def _content(value: Value) -> tuple[str, bytes] | None:
    if isinstance(value, bytes):
        return "", value
    if isinstance(value, dict) and value.keys() == {"filename", "content"}:
        name, content = value["filename"], value["content"]
        if isinstance(name, str) and isinstance(content, bytes):
            return name, content
    return None


def safe_name(name: str) -> str:
    """The last part of a stranger's file name, of harmless characters only."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("\\", "/").rpartition("/")[2])[:100].lstrip(".")
    return cleaned or "file"


def deliver(inbox: Path, task: TaskId, arguments: Mapping[str, Value]) -> tuple[dict[str, Value], Path]:
    """Write the files below ``inbox`` (blocking); the arguments with paths in their places, and the folder to ``remove``.

    Raises BadInput ``bad-arguments`` beyond limits.MAX_FILE_BYTES in all; OSError for a full disk.
    """
    folder = inbox / safe_name(task)
    files = {name: found for name, value in arguments.items() if (found := _content(value)) is not None}
    if sum(len(content) for _, content in files.values()) > limits.MAX_FILE_BYTES:
        most = limits.MAX_FILE_BYTES >> 20
        raise BadInput("bad-arguments", f"the files sent along have more than {most} MiB", hint="send a link to them instead")
    folder.mkdir(mode=0o755)
    os.chmod(folder, 0o755)
    delivered = dict(arguments)
    try:
        for index, (name, (filename, content)) in enumerate(files.items()):
            path = folder / f"{index}-{safe_name(filename or name)}"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with open(handle, "wb") as file:
                os.fchmod(handle, 0o644)
                file.write(content)
            delivered[name] = str(path)
        check_arguments(delivered)
    except BaseException:
        remove(folder)
        raise
    return delivered, folder


def empty(agents: Path) -> None:
    """Take away what the calls of a node that was killed left in its agents' inboxes (``agents``/agent/replica/inbox; blocking).

    For the start of a node only: later a call may be under way whose files these are, also while its agent is started again.
    """
    for left in list(agents.glob("*/*/inbox/*")):
        remove(left)


def remove(folder: Path) -> None:
    """Take a delivery away; what is gone already is no error."""
    shutil.rmtree(folder, ignore_errors=True)
