"""The link codec: messages to bytes and back, without I/O (in the manner of h11 and aioquic).

Theory of operation. Both sides begin with a hello (version, genesis, node id, lanes, a number that is new with every
start of the process); the one that accepted the connection answers only after it has read the other's. After that
each side sends frames:

    length u32 | kind u8 | lane u8 | stream u32 | payload      at most 64 KiB in all, the length checked before anything

A message is one FIRST frame (u32 size of the whole message, then its first bytes) and as many MORE frames as it takes.
The streams of a lane are numbered in the order of their FIRST frames, so a frame that is replayed, left out or out of
order is noticed. Messages of one frame and messages of many take turns; those of many take turns among themselves, at
most ACTIVE_MESSAGES of them in a lane, which also bounds what may lie half received. Control goes before work, work before
bulk. What is written is pulled (``data_to_send``), so a slow reader costs nothing but the bounded queue.

Any broken rule raises Refused with a name, and the codec is of no use any more: close the connection.
"""

import struct
from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Final

from meshos.errors import MeshError, Refused, busy
from meshos.flow import Lane
from meshos.ids import OrgDid
from meshos.protocols.rpc import frames
from meshos.protocols.rpc.events import Message, Notice
from meshos.protocols.rpc.frames import FIRST, GOODBYE, HELLO, LANE_OF, LANES, MORE, PING, PONG, REFUSAL, REROUTED, Hello
from meshos.protocols.rpc.limits import (
    ACTIVE_MESSAGES,
    BODY_BYTES,
    CONTROL_FRAME_BYTES,
    FRAME_BYTES,
    FRAME_HEADER_BYTES,
    FRAME_PAYLOAD_BYTES,
    MESSAGE_HEAD_BYTES,
    OUTBOUND_BYTES,
    OUTBOUND_MESSAGES,
)
from meshos.protocols.rpc.messages import HEAD_LENGTH, decode_message, encode_message, may_have_body, with_body
from meshos.protocols.rpc.outbound import Outbound, OutLane
from meshos.protocols.rpc.partials import Holding, Partials

_SIZE = struct.Struct("!I")
_TOKEN = struct.Struct("!Q")
_SIZES = struct.Struct("!IH")
"""What a message begins with: its size, and that of its head."""

FIRST_HEADER = struct.Struct("!IBBII")
"""The header of a FIRST frame, and the size of its message."""

assert _SIZES.size == _SIZE.size + HEAD_LENGTH.size and FIRST_HEADER.size == FRAME_HEADER_BYTES + _SIZE.size
_MOST: Final = {lane: HEAD_LENGTH.size + MESSAGE_HEAD_BYTES + size for lane, size in BODY_BYTES.items()}


class _Partial:
    """A half received message: its head is decoded, ``missing`` bytes of its body have not come, none for ``age`` looks."""

    __slots__ = ("age", "body", "message", "missing")

    def __init__(self, message: Message, missing: int) -> None:
        self.message = message
        self.missing = missing
        self.age = 0
        self.body = BytesIO()  # grows as bytes arrive, and gives them up without a copy


class LinkCodec:
    """One end of one connection. ``dialled`` says whether this end opened it, ``own`` is the hello it sends. What it holds
    of half received messages counts for ``org``; ``evicted`` hears that they had to be dropped, and the connection must end.

    ``peer_hello`` is set once the other's hello was read and accepted; ``pong`` is the token of the last answered ping;
    ``goodbye`` says that the other side sends no more messages; ``rerouted`` that it has found another path unanswered;
    ``waiting`` is how many messages are not yet wholly in what ``data_to_send`` gave.
    """

    def __init__(
        self,
        own: Hello,
        *,
        dialled: bool,
        org: OrgDid,
        expect: str,
        partials: Partials,
        evicted: Callable[[MeshError], None] | None = None,
    ) -> None:
        self.peer_hello: Hello | None = None
        self.goodbye = self.rerouted = False
        self.pong: int | None = None
        self.frames_sent = self.frames_received = 0
        self._own = own
        self._expect = expect
        self._partials = partials
        self._holding = Holding(org, self._evict)
        self._evicted = evicted
        self._lanes: frozenset[Lane] = frozenset()
        self._urgent: deque[bytes] = deque()  # hello, goodbye, refusal: whole frames
        self._answer: bytes | None = None  # a pong that is due; only the latest, so that a flood of pings costs nothing
        self._out: dict[Lane, OutLane] = {lane: OutLane(lane) for lane in LANES}
        self.waiting = 0
        self._parting = self._said_goodbye = False
        self._greeted = dialled  # whether our own hello is on its way
        self._buffer = bytearray()
        self._need = 0  # no frame is complete below so many bytes
        self._in: dict[tuple[Lane, int], _Partial] = {}
        self._expected_stream: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._active_in: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._error: MeshError | None = None
        if dialled:
            self._urgent.append(frames.hello_frame(own))

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, lane: Lane, message: Message) -> None:
        """Queue ``message``; raises Refused ``busy`` when the lane is full, ``message-too-large``, ``bad-rpc-message``."""
        out = self._out[lane]
        head, body = encode_message(message)
        if len(body) > out.most:
            raise Refused("message-too-large", f"{len(body)} bytes do not go on the {lane} lane, which takes {out.most}")
        if self._parting or (self.peer_hello is not None and lane not in self._lanes):
            raise Refused("link-closing", f"this connection takes nothing more on its {lane} lane")
        size = len(head) + len(body)
        queued = out.bytes + size
        if queued > OUTBOUND_BYTES[lane] or len(out) >= OUTBOUND_MESSAGES[lane]:
            raise busy(f"the {lane} lane of the link to {self._expect}")
        out.bytes = queued
        self.waiting += 1
        (out.short if size <= out.fragment else out.long).append(Outbound(message, head, body, size))

    def writable(self, lane: Lane) -> bool:
        """Whether a message of the lane's largest size would still be taken."""
        out = self._out[lane]
        return out.bytes + _MOST[lane] <= OUTBOUND_BYTES[lane] and len(out) < OUTBOUND_MESSAGES[lane]

    def ping(self, token: int) -> None:
        """Ask the other side for a pong with ``token`` (u64)."""
        self._urgent.append(frames.frame(PING, _TOKEN.pack(token)))

    def reroute(self) -> None:
        """Tell the other side that another path did not answer, and what was on it may be lost."""
        self._urgent.append(frames.frame(REROUTED, b""))

    def part(self) -> None:
        """Take no more messages; after those that wait, tell the other side so."""
        self._parting = True

    def refuse(self, error: MeshError) -> None:
        """Drop what waits and tell the other side, as the last thing, why the connection is closed."""
        self.forget_unsent()
        self._parting = self._said_goodbye = True
        self._urgent.append(frames.refusal_frame(error))

    def data_to_send(self, max_bytes: int) -> bytes:
        """The next bytes to write, at most ``max_bytes`` (which is at least FRAME_BYTES); empty when there are none."""
        assert max_bytes >= FRAME_BYTES
        parts: list[bytes | memoryview] = list(self._urgent)
        room = max_bytes - sum(map(len, parts))
        self._urgent.clear()
        if self._answer is not None:
            parts.append(self._answer)
            room -= len(self._answer)
            self._answer = None
        if self.peer_hello is not None:
            for out in self._out.values():
                if out.bytes:
                    room = self._fill(out, parts, room)
            if self._parting and not self.waiting and room >= FRAME_HEADER_BYTES and not self._said_goodbye:
                parts.append(frames.frame(GOODBYE, b""))
                self._said_goodbye = True
        return b"".join(parts)

    def urgent(self) -> bool:
        """Whether a frame waits that carries no message."""
        return bool(self._urgent) or self._answer is not None

    def unsent(self) -> list[tuple[Lane, Message]]:
        """Those messages, in the order in which they were queued; the other side cannot have read any of them."""
        return [(out.lane, item.message) for out in self._out.values() for queue in (out.active, out.short, out.long) for item in queue]

    def forget_unsent(self) -> None:
        """Drop what waits."""
        for out in self._out.values():
            for queue in (out.short, out.long, out.active):
                queue.clear()
            out.bytes = 0
        self.waiting = 0

    def _fill(self, out: OutLane, parts: list[bytes | memoryview], room: int) -> int:
        """Frames of one lane into ``parts`` while a whole fragment fits into ``room``; gives what room is left."""
        least = FRAME_HEADER_BYTES + _SIZE.size + out.fragment
        while out.bytes and room >= least:
            if out.short and not (out.long or out.active):
                room = self._fill_short(out, parts, room, least)
                continue
            item = out.pick()
            assert item is not None
            first = item.offset == 0
            count = min(out.fragment, item.size - item.offset)
            if first:
                parts.append(self._first_header(out, item, count))
                room -= _SIZE.size
            else:
                parts.append(frames.header(count, MORE, out.lane, item.stream))
            parts.extend(item.piece(count))
            room -= FRAME_HEADER_BYTES + count
            out.bytes -= count
            self.frames_sent += 1
            if item.offset < item.size:
                out.active.append(item)
            else:
                self.waiting -= 1
        return room

    def _fill_short(self, out: OutLane, parts: list[bytes | memoryview], room: int, least: int) -> int:
        """The same where all that waits fits into one frame each: mostly so."""
        short = out.short
        while short and room >= least:
            item = short.popleft()
            size = item.size
            parts += (self._first_header(out, item, size), item.head, item.body)
            room -= FRAME_HEADER_BYTES + _SIZE.size + size
            out.bytes -= size
            self.frames_sent += 1
            self.waiting -= 1
        out.turn_long = True
        return room

    def _first_header(self, out: OutLane, item: Outbound, count: int) -> bytes:
        """Begin ``item`` with ``count`` bytes of it."""
        item.stream = stream = out.next_stream
        out.next_stream = (stream + 1) & 0xFFFFFFFF
        return FIRST_HEADER.pack(_SIZE.size + count, FIRST, out.number, stream, item.size)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes; raises the Refused that ends this connection."""
        return [message for _, message in self.receive_lanes(data)]

    def receive_lanes(self, data: bytes) -> list[tuple[Lane, Message]]:
        """As ``receive``, with the lane that each came on."""
        if self._error is not None:
            raise self._error
        try:
            return self._parse(data)
        except MeshError as error:
            self._error = error
            self.close()
            raise

    def close(self) -> None:
        """Drop half received messages, and give back the memory that was counted for them."""
        self._partials.give(self._holding, self._holding.bytes)
        self._in.clear()
        self._buffer.clear()

    def age(self) -> int:
        """Look at the half received messages: how many looks in a row the slowest of them has not moved (0: all have)."""
        oldest = 0
        for partial in self._in.values():
            oldest = max(oldest, partial.age)
            partial.age += 1
        return oldest

    def partial(self) -> int:
        """How many messages lie half received."""
        return len(self._in)

    def _evict(self, error: Refused) -> None:
        """The pool is full, and this connection holds most of it."""
        self._error = error
        self.close()
        if self._evicted is not None:
            self._evicted(error)

    def _parse(self, data: bytes) -> list[tuple[Lane, Message]]:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        done: list[tuple[Lane, Message]] = []
        begin, end = 0, len(data)
        while end - begin >= FRAME_HEADER_BYTES:
            length, kind, lane, stream = frames.HEADER.unpack_from(data, begin)
            if length > FRAME_PAYLOAD_BYTES:
                raise Refused("frame-too-large", f"a frame of {length} bytes, at most {FRAME_PAYLOAD_BYTES} are read")
            after = begin + FRAME_HEADER_BYTES + length
            if self.peer_hello is None and (kind not in (HELLO, REFUSAL) or length > CONTROL_FRAME_BYTES):
                raise Refused("bad-frame", "the connection does not begin with a hello")
            if after > end:
                self._need = after - begin
                break
            self.frames_received += 1
            payload, begin = begin + FRAME_HEADER_BYTES, after
            if kind in (FIRST, MORE):
                name = LANE_OF.get(lane)
                if name is None or name not in self._lanes or self.goodbye:
                    raise Refused("bad-frame", "a message on a lane that this connection does not have")
                piece = self._first if kind == FIRST else self._more
                if (message := piece(name, stream, data, payload, after)) is not None:
                    done.append((name, message))
            else:
                self._control(kind, lane, stream, data[payload:after])
        else:
            self._need = FRAME_HEADER_BYTES
        if begin < end:
            self._buffer += memoryview(data)[begin:]
        return done

    def _control(self, kind: int, lane: int, stream: int, payload: bytes) -> None:
        """Everything that is no part of a message."""
        if lane or stream or len(payload) > CONTROL_FRAME_BYTES:
            raise Refused("bad-frame", "a control frame with a lane, a stream or too long a payload")
        if kind == HELLO and self.peer_hello is None:
            hello = frames.read_hello(payload)
            if hello.relay and self._greeted:  # who accepts a connection is not relayed over it
                raise Refused("bad-hello", "the answer to a hello asks for a relay")
            self._lanes = frames.agree(self._own, hello, self._expect)
            self.peer_hello = hello
            if not self._greeted:
                self._urgent.append(frames.hello_frame(self._own))
                self._greeted = True
        elif kind == PING and len(payload) == _TOKEN.size:
            self._answer = frames.frame(PONG, payload)
        elif kind == PONG and len(payload) == _TOKEN.size:
            (self.pong,) = _TOKEN.unpack(payload)
        elif kind == GOODBYE and not payload and not self.goodbye:
            self.goodbye = True
        elif kind == REROUTED and not payload:
            self.rerouted = True
        elif kind == REFUSAL:
            raise frames.read_refusal(payload)
        else:
            raise Refused("bad-frame", f"a frame of kind {kind} has no place here")

    def _first(self, lane: Lane, stream: int, data: bytes, begin: int, end: int) -> Message | None:
        """A message begins with ``data[begin:end]``; gives it if that is all of it."""
        if stream != self._expected_stream[lane]:
            raise Refused("frame-out-of-order", f"message {stream} of the {lane} lane begins, {self._expected_stream[lane]} is next")
        self._expected_stream[lane] = (stream + 1) & 0xFFFFFFFF
        if end - begin < _SIZES.size + 1:
            raise Refused("bad-frame", "a message that begins with less than its head")
        total, head_length = _SIZES.unpack_from(data, begin)
        if head_length > MESSAGE_HEAD_BYTES or total - head_length > BODY_BYTES[lane] + HEAD_LENGTH.size:
            raise Refused("message-too-large", f"a message of {total} bytes on the {lane} lane")
        head = begin + _SIZES.size
        body = head + head_length
        missing = total - (end - begin - _SIZE.size)
        if body > end or missing < 0:
            raise Refused("bad-frame", "a message whose first piece and its sizes do not agree")
        message = decode_message(data[head:body], data[body:end])
        if lane == "bulk" and type(message) is Notice:
            raise Refused("bad-rpc-message", "a notice on the bulk lane, which casts do not use")
        if missing:
            self._begin(lane, stream, message, memoryview(data)[body:end], missing)
            return None
        return message

    def _begin(self, lane: Lane, stream: int, message: Message, piece: memoryview, missing: int) -> None:
        """Keep what there is of a message that comes in several pieces."""
        if not may_have_body(message):
            raise Refused("bad-rpc-message", "a body where there can be none")
        if self._active_in[lane] >= ACTIVE_MESSAGES[lane]:
            raise Refused("too-many-partial", f"more than {ACTIVE_MESSAGES[lane]} half received messages on the {lane} lane")
        self._partials.take(self._holding, len(piece))
        partial = _Partial(message, missing)
        partial.body.write(piece)
        self._in[lane, stream] = partial
        self._active_in[lane] += 1

    def _more(self, lane: Lane, stream: int, data: bytes, begin: int, end: int) -> Message | None:
        """``data[begin:end]`` goes on with a message; gives it if it is whole now."""
        partial = self._in.get((lane, stream))
        if partial is None:
            raise Refused("frame-out-of-order", f"a piece of message {stream} of the {lane} lane, of which none is missing")
        if not 0 < end - begin <= partial.missing:
            raise Refused("bad-frame", "a piece that is empty, or longer than what is missing")
        self._partials.take(self._holding, end - begin)
        partial.body.write(memoryview(data)[begin:end])
        partial.age = 0
        partial.missing -= end - begin
        if partial.missing:
            return None
        del self._in[lane, stream]
        self._active_in[lane] -= 1
        size = partial.body.tell()
        self._partials.give(self._holding, size)
        return with_body(partial.message, partial.body.getvalue())
