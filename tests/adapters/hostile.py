"""An MCP server written without any library, that misbehaves as its first argument says. Lines in, lines out."""

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
LOCK = threading.Lock()
CANCELLED: dict[int, threading.Event] = {}
TOOLS = (
    "echo",
    "sleep",
    "exit",
    "big",
    "nonsense",
    "not_utf8",
    "endless",
    "read",
    "write",
    "fork",
    "env",
    "deep",
    "flood",
    "stop",
    "ask",
    "who",
    "eat",
    "kill",
    "sockets",
    "share",
    "spin",
    "fill",
    "syscall",
)


def raw(data: bytes) -> None:
    with LOCK:
        while data:
            data = data[os.write(1, data) :]


def say(message: dict[str, object]) -> None:
    raw(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def answer(number: int, value: object, failed: bool = False) -> None:
    say({"id": number, "result": {"content": [], "structuredContent": {"value": value}, "isError": failed}})


def attempt(what: str, work: object) -> str:
    try:
        return f"{what}: {work()}"  # type: ignore[operator]
    except OSError as error:
        return f"refused {error.errno}"


def look(path: str) -> object:
    if os.path.isdir(path):
        return sorted(os.listdir(path))
    with open(path) as file:
        return file.read()


def scribble(path: str) -> int:
    with open(path, "w") as file:
        return file.write("x")


def connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(path)
        return "spoke"


def pair(kind: int) -> str:
    one, other = socket.socketpair(type=kind)
    with one, other:
        one.sendall(b"x")
        return other.recv(1).decode()


def system_call(number: int, *arguments: int) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = int(libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments)))
    if done < 0:
        raise OSError(ctypes.get_errno(), "syscall")
    return done


def call(number: int, tool: str, given: dict[str, object]) -> None:
    if tool == "echo":
        answer(number, given)
    elif tool == "sleep":
        event = CANCELLED.setdefault(number, threading.Event())
        cancelled = event.wait(float(str(given["seconds"])))
        if cancelled:
            with open(os.path.join(os.environ["HOME"], "cancelled"), "w") as file:
                file.write(str(number))
        else:
            answer(number, "slept")
    elif tool == "exit":
        print("the last words of a broken program", file=sys.stderr, flush=True)
        os._exit(int(str(given.get("code", 3))))
    elif tool == "big":
        size, piece = int(str(given["bytes"])), b"x" * (1 << 20)
        with LOCK:
            os.write(1, b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % number)
            while size > 0:
                part = piece[: min(size, len(piece))]
                while part:
                    done = os.write(1, part)
                    size, part = size - done, part[done:]
            os.write(1, b'"}]}}\n')
    elif tool == "nonsense":
        raw(b"this is no JSON\n[1, 2\n\x00\x01\n{}\n" + b"y" * 100_000 + b"\n")
        answer(number, "after nonsense")
    elif tool == "not_utf8":
        raw(b"\xff\xfe\xfd broken \xc3\n")
        raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff\xfe"}]}}\n' % number)
    elif tool == "endless":
        while True:
            raw(b"z" * 65536)
    elif tool == "read":
        answer(number, attempt("read", lambda: look(str(given["path"]))))
    elif tool == "write":
        answer(number, attempt("wrote", lambda: scribble(str(given["path"]))))
    elif tool == "kill":
        answer(number, attempt("killed", lambda: os.kill(int(str(given["pid"])), 0)))
    elif tool == "fork":
        child = subprocess.Popen(
            [sys.executable, "-c", f"import os, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid(); {given['code']}"],
            stdin=subprocess.DEVNULL,
            stdout=None if given.get("keep_pipes") else subprocess.DEVNULL,
        )
        answer(number, child.pid)
    elif tool == "env":
        answer(number, dict(os.environ))
    elif tool == "who":
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        answer(
            number, {"uid": os.getuid(), "groups": os.getgroups(), "cwd": os.getcwd(), "pid": os.getpid(), "ppid": os.getppid(), **status}
        )
    elif tool == "deep":
        raw(b'{"jsonrpc":"2.0","id":%d,"result":{"structuredContent":{"a":%s1%s}}}\n' % (number, b"[" * 40, b"]" * 40))
    elif tool == "flood":
        for index in range(20_000):
            raw(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%d}}\n' % index)
        answer(number, "after the flood")
    elif tool == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif tool == "ask":
        say({"id": "s-1", "method": "sampling/createMessage", "params": {}})
        say({"id": "s-2", "method": "ping"})
        answer(number, "asked")
    elif tool == "sockets":
        answer(
            number,
            {
                "unix": attempt("unix", lambda: connect(str(given["path"]))),
                "stream pair": attempt("pair", lambda: pair(socket.SOCK_STREAM)),
                "datagram pair": attempt("pair", lambda: pair(socket.SOCK_DGRAM)),
                "inet": attempt("inet", lambda: socket.socket(socket.AF_INET).close()),
                "vsock": attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM).close()),
            },
        )
    elif tool == "syscall":
        answer(number, attempt("done", lambda: system_call(*given["words"])))  # type: ignore[misc]
    elif tool == "share":  # memory that no rlimit of a process counts
        memory = mmap.mmap(-1, int(str(given["bytes"])))
        for at in range(0, len(memory), 4096):
            memory[at] = 1
        answer(number, "shared")
    elif tool == "fill":
        home = os.environ["HOME"]
        if given["with"] == "bytes":
            while True:
                with open(f"{home}/{time.monotonic_ns()}", "wb") as file:
                    file.write(bytes(1 << 20))
        elif given["with"] == "files":
            for index in range(10**9):
                os.close(os.open(f"{home}/{index}", os.O_CREAT))
        else:
            os.chdir(home)
            for _ in range(200):
                os.mkdir("d")
                os.chdir("d")
    elif tool == "spin":
        answer(number, "spinning")
        while True:
            pass
    elif tool == "eat":
        try:
            block = bytearray(int(str(given["bytes"])))
            answer(number, len(block))
        except MemoryError:
            answer(number, "MemoryError")
    else:
        say({"id": number, "error": {"code": -32602, "message": "no such tool \x1b[31m"}})


def serve() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        number, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if method == "initialize":
            if MODE == "hang":
                continue
            version = "1999-01-01" if MODE == "old" else "2025-06-18"
            say(
                {
                    "id": number,
                    "result": {"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "hostile", "version": "1"}},
                }
            )
        elif method == "tools/list":
            tools: list[dict[str, object]] = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            tools[0] |= {"description": "Gives back what it is given.", "annotations": {"readOnlyHint": True, "idempotentHint": True}}
            if MODE == "bad-tools":
                tools = [{"name": 7}]
            if MODE == "twice":
                tools += tools[:1]
            page: dict[str, object] = {"tools": tools}
            if MODE == "pages":
                at = int(params.get("cursor", 0))
                page = {"tools": tools[at : at + 5], **({"nextCursor": str(at + 5)} if at + 5 < len(tools) else {})}
            if MODE == "endless-pages":
                page = {"tools": [], "nextCursor": "again"}
            say({"id": number, "result": page})
        elif method == "tools/call":
            work = (number, params["name"], params.get("arguments", {}))
            if work[1] == "echo":
                call(*work)  # a thread for each of many at once is more than an agent may have
            else:
                threading.Thread(target=call, args=work, daemon=True).start()
        elif method == "ping":
            if MODE != "mute-pings":
                say({"id": number, "result": {}})
        elif method == "notifications/cancelled":
            CANCELLED.setdefault(params["requestId"], threading.Event()).set()


if MODE == "crash":
    print("cannot import the module that it needs", file=sys.stderr, flush=True)
    sys.exit(7)
if MODE == "garbage":
    while True:
        print("Welcome to my program!", flush=True)
if MODE == "no-newline":
    while True:
        os.write(1, b"#" * 65536)
if MODE == "noisy":
    threading.Thread(target=lambda: [os.write(2, b"noise " * 10_000 + b"\n") for _ in iter(int, 1)], daemon=True).start()
if MODE == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if MODE == "sleepy-start":
    time.sleep(0.5)
serve()
if MODE == "stubborn":
    while True:
        time.sleep(60)
