"""Lines of bounded length out of any chunks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.adapters.onprem.lines import LineReader, TooLong

MAX = 20


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=8), st.data())
def test_any_chunks_give_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    reader, got = LineReader(MAX), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        assert reader.pending <= MAX
        stream = stream[size:]
    expected = [line for line in lines if line]
    assert len(got) == len(expected)
    for line, wanted in zip(got, expected, strict=True):
        if len(wanted) <= MAX:
            assert line == wanted
        else:
            assert isinstance(line, TooLong) and line.size == len(wanted)
            assert wanted.startswith(line.head) and wanted.endswith(line.tail)


def test_a_dropped_line_holds_nothing_but_its_ends() -> None:
    reader = LineReader(1000)
    for _ in range(1000):
        assert reader.feed(b"x" * 1000) == []
    assert reader.pending == 0 and reader.dropping == 1_000_000
    (line,) = reader.feed(b'y,"id":7}\n')
    assert isinstance(line, TooLong) and line.size == 1_000_009 and len(line.head) == len(line.tail) == 256
    assert reader.feed(b"next\n") == [b"next"]


def test_whose_answer_it_was_is_told_from_either_end_and_never_from_the_middle() -> None:
    def told(head: bytes, tail: bytes = b"") -> int | None:
        return TooLong(0, head, tail).request_id()

    assert told(b'{"jsonrpc":"2.0","id":12,"result":{') == 12
    assert told(b' { "id" : 12 , "jsonrpc"') == 12
    assert told(b'{"jsonrpc":"2.0","result":{"text":"', b'"}]},"id":12}') == 12
    assert told(b'{"jsonrpc":"2.0","result":{"text":"', b'"}]}, "id": 12, "jsonrpc": "2.0"} ') == 12
    assert told(b'{"jsonrpc":"2.0","result":{"id":12,') is None
    assert told(b'{"result":[', b'{"id":12}]}') is None
    assert told(b'{"jsonrpc":"2.0","id":"12",') is None
    assert told(b"") is None
