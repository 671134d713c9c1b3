"""Transcripts: what is done to a group, line by line, and all that the nodes then say. Read by people, checked by a test.

    $ propose n1 x            what is done
    n1 -> n2 append …         what was sent because of it, and what changed, until the next line with a dollar

The commands are the functions below. With MESH_WRITE_PAGES set, the test writes what is printed now.
"""

import shlex
from collections.abc import Callable, Sequence

from meshos.consensus.raft import messages as m
from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.entries import COMMANDS, Entry
from meshos.consensus.raft.membership import Change, Configuration, decode_configuration
from meshos.errors import MeshError
from meshos.ids import NodeId
from tests.raft.cluster import Cluster, give


def entry(each: Entry) -> str:
    """``3/2 "x"``: index, term, content."""
    content = f'"{each.data.decode()}"' if each.kind == COMMANDS else members(decode_configuration(each.data))
    return f"{each.index}/{each.term} {content}"


def members(configuration: Configuration) -> str:
    """``voters n1 n2, before n1, learners n3``."""
    text = "voters " + " ".join(sorted(configuration.voters))
    for word, nodes in (("before", configuration.outgoing), ("learners", configuration.learners), ("demoted", configuration.demoted)):
        text += f", {word} {' '.join(sorted(nodes))}" if nodes else ""
    return text


def message(each: m.RaftMessage) -> str:
    """One message in words."""
    term = f"term {each.term}"
    match each:
        case m.PreVote() | m.Vote():
            kind = "would you vote?" if isinstance(each, m.PreVote) else "vote (the leader wants it)" if each.transfer else "vote"
            return f"{kind} {term}, my log ends {each.last_index}/{each.last_term}"
        case m.PreVoteReply() | m.VoteReply():
            return f"{'yes' if each.granted else 'no'} {term}"
        case m.TimeoutNow():
            return f"stand {term}"
        case m.Append():
            entries = "; ".join(map(entry, each.entries)) or "nothing"
            return f"append {term}, after {each.prev_index}/{each.prev_term}: {entries}; commit {each.commit}, round {each.round}"
        case m.AppendReply(ok=True):
            return f"appended {term}, up to {each.index}, round {each.round}"
        case m.AppendReply():
            return f"not appended {term}: nothing like {each.index}; perhaps {each.hint_index}/{each.hint_term}"
        case m.Heartbeat():
            return f"heartbeat {term}, commit {each.commit}, round {each.round}"
        case m.HeartbeatReply():
            return f"heard {term}, round {each.round}"
        case m.ReadIndex():
            return f"read {each.number}? {term}"
        case m.ReadIndexReply():
            return f"read {each.number} from {each.index} on, {term}"
    return repr(each)


class Session:
    """One transcript as it runs."""

    def __init__(self) -> None:
        self.cluster = Cluster([])
        self.printed: list[str] = []
        self._known: dict[NodeId, tuple[object, ...]] = {}
        self._sent = 0

    def run(self, line: str) -> list[str]:
        """Carry out one command; gives what it prints."""
        self.printed = []
        name, *words = shlex.split(line)
        command: Callable[..., None] = getattr(self, "do_" + name.replace("-", "_"))
        before = len(self.cluster.wire)
        try:
            command(*words)
        except MeshError as error:
            self.printed.append(f"refused: {error.name}")
        if name not in ("deliver", "settle"):
            self._tell_sent(list(self.cluster.wire)[before:])
        self._tell_changes()
        return self.printed

    def _tell_sent(self, letters: Sequence[tuple[NodeId, NodeId, m.RaftMessage]]) -> None:
        self.printed += [f"{sender} -> {to}  {message(each)}" for sender, to, each in letters]

    def _tell_changes(self) -> None:
        for name, server in self.cluster.servers.items():
            raft = server.raft
            now = (raft.role, raft.term, raft.commit, members(raft.members), tuple(server.reads))
            then = self._known.get(name, ("follower", 0, 1, members(self.cluster.configuration), ()))
            if now != then:
                words = [f"{raft.role} of term {raft.term}"] if now[:2] != then[:2] else []
                words += [f"commits {raft.commit}"] if now[2] != then[2] else []
                words += [str(now[3])] if now[3] != then[3] else []
                words += [f"reads {number} at {index}" for number, index in server.reads[len(then[4]) :]]  # type: ignore[arg-type]
                self.printed.append(f"{name}: {', '.join(words)}")
            self._known[name] = now

    # -- commands ------------------------------------------------------------------------------------------------------

    def do_group(self, *names: str) -> None:
        """A new group; those after ``learners`` have no vote."""
        place = names.index("learners") if "learners" in names else len(names)
        self.cluster = Cluster(names[:place], names[place + 1 :], config=LAN)
        self._known.clear()

    def do_log_of(self, name: str, *terms: str) -> None:
        """``name`` begins with a log of these terms."""
        give(self.cluster, name, [int(term) for term in terms])
        self._known[NodeId(name)] = ("follower", max(map(int, terms)), 1, members(self.cluster.configuration), ())

    def do_time_out(self, name: str) -> None:
        """Its election timeout passes."""
        self.cluster.time_out(name)

    def do_elect(self, name: str) -> None:
        """It becomes leader; what is said for that is not shown."""
        self.cluster.elect(name)

    def do_propose(self, name: str, text: str) -> None:
        """The leader is given a command."""
        self.cluster.propose(name, text.encode())

    def do_read(self, name: str, number: str) -> None:
        """The leader is asked."""
        self.cluster[name].read(self.cluster.now, int(number))
        self.cluster.flush(name)

    def do_change(self, name: str, *changes: str) -> None:
        """``n4=voter n1=removed``."""
        made = [Change(to, NodeId(node)) for node, to in (change.split("=") for change in changes)]  # type: ignore[arg-type]
        self.cluster[name].change(self.cluster.now, made)
        self.cluster.flush(name)

    def do_transfer(self, name: str, to: str) -> None:
        """The leader hands over."""
        self.cluster[name].transfer(self.cluster.now, NodeId(to))
        self.cluster.flush(name)

    def do_deliver(self, count: str = "1") -> None:
        """The oldest messages arrive; what they cause is shown."""
        for _ in range(int(count)):
            before = len(self.cluster.wire)
            self.cluster.deliver_one()
            self._tell_sent(list(self.cluster.wire)[before - 1 :])

    def do_settle(self) -> None:
        """Everything arrives; what is said for that is shown."""
        while self.cluster.wire:
            self.do_deliver()

    def do_quietly(self) -> None:
        """Everything arrives, and nothing of it is shown."""
        self.cluster.settle()

    def do_lose(self) -> None:
        """Everything that is under way is lost."""
        self.cluster.wire.clear()

    def do_cut(self, one: str, other: str) -> None:
        """Nothing passes from one to the other."""
        self.cluster.cut.add((NodeId(one), NodeId(other)))

    def do_isolate(self, *names: str) -> None:
        """Nothing passes between these and the others."""
        self.cluster.isolate(*names)

    def do_heal(self) -> None:
        """Everything passes."""
        self.cluster.heal()

    def do_heartbeat(self, name: str) -> None:
        """The leader's heartbeat is due."""
        self.cluster.now += self.cluster.config.heartbeat_s
        self.cluster[name].tick(self.cluster.now)
        self.cluster.take(name)

    def do_pass(self, seconds: str) -> None:
        """Time passes, quietly."""
        self.cluster.pass_time(float(seconds))

    def do_stall(self, name: str) -> None:
        """Its disk answers no more."""
        self.cluster.servers[NodeId(name)].stalled = True

    def do_sync(self, name: str) -> None:
        """Its disk answers."""
        self.cluster.servers[NodeId(name)].stalled = False
        self.cluster.sync(name)

    def do_crash(self, name: str) -> None:
        """The power goes and comes back."""
        self.cluster.crash(name)

    def do_log(self, name: str) -> None:
        """Show its log."""
        log = self.cluster[name].log
        entries = log.entries(log.first, log.last, 1 << 30)
        self.printed.append("; ".join(entry(each) for each in entries) or "empty")


def steps(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a transcript, each with what it shows; comments and empty lines belong to neither."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line and not line.startswith("#"):
            found[-1][1].append(line)
    return found


def rewritten(text: str, printed: Sequence[list[str]]) -> str:
    """The transcript with what is printed now."""
    lines, outputs = [], iter(printed)
    for line in text.splitlines():
        if line.startswith("$ "):
            lines += [line, *next(outputs)]
        elif not line or line.startswith("#"):
            lines.append(line)
    return "\n".join(lines) + "\n"
