"""The core of the agreement: Castro & Liskov's PBFT (OSDI 1999; TOCS 2002) over blocks, one height at a time.

Theory of operation. Typed messages, checked before, come in by ``receive``; typed effects come out. A height is decided in three phases:
the primary of the view proposes a block with its prepare vote; who accepts it prepares; who holds q prepare votes commits, locked on
the block; q commit votes are the block's certificate, and it is executed. The next height begins then, in the same view. Everything
that happens ends in ``_progress``, which does whatever has become possible, so that no order of arrival matters.

A replica for which something waits and nothing happens leaves the view (``view_change.py`` says why that is safe); one that is behind
fetches blocks that prove themselves (``catching_up.py``). What it signs goes through its ``Ballot``, which writes it down first.

``now`` is the driver's clock in seconds, ``wall_ms`` the wall clock; both are arguments of everything that happens.
"""

from dataclasses import dataclass

from meshos.consensus.pbft.application import Application
from meshos.consensus.pbft.ballot import Ballot
from meshos.consensus.pbft.block import Block, Certified, decode_block, request_hash
from meshos.consensus.pbft.catching_up import CatchingUp
from meshos.consensus.pbft.chain import Chain
from meshos.consensus.pbft.checkpointing import Checkpointing
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.events import Decided, Dropped, Noticed, Send
from meshos.consensus.pbft.evidence import EvidenceBook, decode_evidence, encode_evidence
from meshos.consensus.pbft.limits import HEIGHTS_AHEAD, VIEWS_AHEAD
from meshos.consensus.pbft.messages import (
    AskSeen,
    Body,
    Evidence,
    Fetch,
    FetchBody,
    Message,
    NewView,
    Proposal,
    Relay,
    Seen,
    Status,
    ViewChange,
    Vote,
)
from meshos.consensus.pbft.pool import Pending, Pool
from meshos.consensus.pbft.proposing import choose_requests, fresh_time, judge_fresh, make_block, null_block
from meshos.consensus.pbft.records import BODIES, LIES, ROLLED, lie_key, read
from meshos.consensus.pbft.timers import Timers
from meshos.consensus.pbft.view_change import Changes, Choice, choose, new_view
from meshos.consensus.pbft.voting import Slot
from meshos.consensus.pbft.watching import Watching
from meshos.effects import Persist, Put, WriteBack
from meshos.errors import Broken, MeshError, Refused
from meshos.ids import NodeId
from meshos import cbor
from meshos.storage.store import View
