"""What is asked of an organisation's leader and answered, as bytes: what was written is read, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.org.limits import MAX_AGENT_FILE_BYTES
from meshos.errors import MeshError, Refused
from meshos.ids import AgentId, NodeId
from meshos.protocols.leader.limits import ASK_BYTES, REPLY_BYTES
from meshos.protocols.leader.wire import (
    ROLES,
    AgentDeployed,
    AgentProcesses,
    AskDeploy,
    AskNodes,
    AskProcesses,
    AskRemove,
    AskUndeploy,
    OrgNode,
    OrgNodes,
    Question,
    decode_deployed,
    decode_nodes,
    decode_processes,
    decode_question,
    decode_withdrawn,
    encode_deployed,
    encode_nodes,
    encode_processes,
    encode_question,
    encode_withdrawn,
)

TEXT = st.text(max_size=20)
NAME = st.text(min_size=1, max_size=20)
COUNT = st.integers(0, 1 << 40)
NODE = NAME.map(NodeId)
QUESTIONS: st.SearchStrategy[Question] = st.one_of(
    st.builds(AskDeploy, st.binary(max_size=50), TEXT, TEXT),
    st.builds(AskUndeploy, TEXT.map(AgentId), TEXT),
    st.just(AskProcesses()),
    st.just(AskNodes()),
    st.builds(AskRemove, NODE, TEXT),
)


@given(QUESTIONS)
def test_questions(question: Question) -> None:
    assert decode_question(encode_question(question)) == question


@given(st.builds(AgentDeployed, st.binary(max_size=50), NODE, COUNT))
def test_deployments(done: AgentDeployed) -> None:
    assert decode_deployed(encode_deployed(done)) == done


@given(TEXT)
def test_withdrawals(name: str) -> None:
    assert decode_withdrawn(encode_withdrawn(name)) == name


@given(st.lists(st.builds(AgentProcesses, TEXT.map(AgentId), COUNT, COUNT, COUNT, TEXT), max_size=5).map(tuple))
def test_processes(found: tuple[AgentProcesses, ...]) -> None:
    assert decode_processes(encode_processes(found)) == found


@given(
    st.builds(
        OrgNodes,
        NODE,
        COUNT,
        COUNT,
        st.lists(st.builds(OrgNode, NODE, st.sampled_from(ROLES), COUNT), max_size=5).map(tuple),
        st.frozensets(NODE, max_size=4),
    )
)
def test_nodes(nodes: OrgNodes) -> None:
    assert decode_nodes(encode_nodes(nodes)) == nodes


BAD = [
    [],
    ["what"],
    ["nodes", 1],
    ["deploy", b"", ""],
    ["deploy", "", "", ""],
    ["deploy", bytes(MAX_AGENT_FILE_BYTES + 1), "", ""],
    ["deploy", b"", "f" * 2000, ""],
    ["undeploy", "a" * 200, ""],
    ["undeploy", 1, ""],
    ["remove", "", "tester"],
    ["remove", "n" * 200, "tester"],
    ["remove", "n", "t" * 200],
    {"nodes": 1},
    7,
]


@pytest.mark.parametrize("value", BAD, ids=[repr(value)[:30] for value in BAD])
def test_what_is_no_question_is_refused_by_name(value: cbor.Value) -> None:
    with pytest.raises(Refused) as caught:
        decode_question(cbor.encode(value))
    assert caught.value.name == "bad-message"


@pytest.mark.parametrize("decode", [decode_question, decode_deployed, decode_withdrawn, decode_processes, decode_nodes])
@given(data=st.binary(max_size=60))
def test_anything_else_is_refused(decode: object, data: bytes) -> None:
    assert callable(decode)
    try:
        decode(data)
    except MeshError as error:
        assert error.name in ("bad-message", "bad-encoding", "too-large")


def test_sizes_are_looked_at_first() -> None:
    for decode, most in ((decode_question, ASK_BYTES), (decode_deployed, REPLY_BYTES), (decode_nodes, REPLY_BYTES)):
        with pytest.raises(Refused, match="too-large"):
            decode(bytes(most + 1))
