"""What is done with the evidence of a lie: kept, told to all, and put before the application. See ``evidence.py``."""

from collections.abc import Callable

from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.evidence import EvidenceBook, decode_evidence, encode_evidence
from meshos.consensus.pbft.messages import Evidence
from meshos.consensus.pbft.records import LIES, lie_key
from meshos.effects import Put, WriteBack


class Accusing:
    """``submit`` has a request ordered."""

    def __init__(self, desk: Desk, submit: Callable[[bytes], None]) -> None:
        self._desk = desk
        self._submit = submit
        self._book = EvidenceBook()
        for _, data in desk.store.scan(LIES):
            self._book.add(decode_evidence(data))

    def accuse(self, evidence: Evidence) -> None:
        """A validator has lied; both signatures hold."""
        if not self._book.add(evidence):
            return
        desk = self._desk
        data = encode_evidence(evidence)
        desk.write(WriteBack((Put(lie_key(evidence.one.epoch, evidence.one.index), data),)))
        desk.broadcast(evidence)
        request = desk.application.accusation(data)
        if request is not None:
            self._submit(request)

    def knows(self, epoch: int, index: int) -> bool:
        """Whether a lie of this validator was found in this epoch: no need to look for more."""
        return self._book.knows(epoch, index)

    def all(self) -> list[Evidence]:
        """What was found."""
        return self._book.all()
