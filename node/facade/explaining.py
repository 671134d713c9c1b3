"""Why something is as it is, in plain sentences: members, agents and their scores, tasks, decisions, motions."""

from collections.abc import Mapping
from typing import cast

from meshos.consensus.ledger.motions import CARRIED, EXPIRED, MOVED, REJECTED, VOTED_AGAINST, VOTED_FOR
from meshos.consensus.ledger.testimonies import Discharge
from meshos.node.api import shapes
from meshos.protocols.directory.explaining import Explained
from meshos.protocols.directory.weighing import NOTHING, Weigh, counted
from meshos.times import rfc3339


def member(subject: str, shown: shapes.MemberView, seen_by: str, discharge: Discharge | None = None) -> shapes.Explanation:
    """A node, as the one called ``seen_by`` sees it; ``discharge``: that the ledger has it hold nothing of the directory."""
    said = shown.note or "nobody says that it is gone"
    line = f"{shown.name} of {shown.org} is {shown.state} as {seen_by} sees it, incarnation {shown.incarnation}: {said}"
    lines = (line, *(() if discharge is None else (_discharged(discharge),)), *(_path(path) for path in shown.paths))
    data: dict[str, object] = {"state": shown.state, "incarnation": shown.incarnation}
    if discharge is not None:
        data["dischargedUntil"] = rfc3339(discharge.until_ms)
    return shapes.Explanation(subject, "member", lines, data)


def _discharged(discharge: Discharge) -> str:
    said = ", ".join(f"{org.rpartition(':')[2]} ({reason})" for org, reason in discharge.said)
    return f"it holds nothing of the directory until {rfc3339(discharge.until_ms)}: it was caught lying by {said}"


def _path(path: shapes.PathView) -> str:
    like = "not measured yet" if path.rtt_ms is None else f"a round trip takes {path.rtt_ms:.1f} ms, {100 * path.loss:.1f} % is lost"
    return f"what is sent there goes over {path.path}, as {path.why}: {like}" if path.carries else f"{path.path} stands by: {like}"


def agent(view: shapes.AgentView) -> shapes.Explanation:
    """An agent: whose it is, and what is known of it."""
    seen = view.availability
    lines = [
        f"{view.name} of {view.mesh_id}, version {view.version}, signed by its owner",
        f"trust {view.trust_score:.0f}: {view.trust_evidence} receipts and proofs stand behind it (none gives 50)",
        *(["it is in quarantine: no call goes to it"] if view.quarantined else []),
        "this node has not called it yet"
        if seen.avg_latency_ms is None
        else f"this node measured {seen.avg_latency_ms:.0f} ms a call, and {100 * (seen.uptime or 0):.0f} % of its calls answered",
    ]
    return shapes.Explanation(view.agent_id, "agent", tuple(lines), {"trustScore": view.trust_score, "version": view.version})


WORDS_TOLD = 12
"""Words of a question that are told one by one, those that count most."""


def score(explained: Explained, weigh: Weigh) -> shapes.Explanation:
    """Why an agent has its score for a question, and whether it is in the answer."""
    record, parts = explained.record, explained.parts
    had = sorted((word for word in parts.words if word.part), key=lambda word: -word.part)
    lacking = [word.word for word in parts.words if not word.part]
    words = ", ".join(f"{word.word} {word.part:.4f} (weight {word.rarity:.1f})" for word in had[:WORDS_TOLD]) or "none of the question's"
    if lacking:
        words = f"{words}; it has no {', '.join(lacking[:WORDS_TOLD])}"
    lines = [
        f"{record.name} of {record.mesh_id} scores {explained.score:.4f}: it fits {explained.fit:.4f}, and {_weighing(explained, weigh)}",
        f"meaning {parts.meaning:.4f}: the cosine of question and record is {parts.cosine:.4f}, a third of which counts",
        f"words {sum(word.part for word in parts.words):.4f}: {words}",
        f"pieces {parts.pieces:.4f}: piece by piece the question comes {parts.nearness:.4f} near it, half of which counts",
        *(f"it {'fulfils' if one.fulfilled else 'does not fulfil'}: {one.text}" for one in explained.conditions),
        _place(explained),
    ]
    if explained.cell is not None:
        asked = "was" if explained.asked else "was not"
        lines.append(f"it lies in cell {explained.cell}, which {asked} among the {explained.answer.cells_asked} asked for this question")
    if not explained.answer.complete:
        lines.append(f"{explained.answer.cells_missing} of {explained.answer.cells_asked} cells did not answer")
    return shapes.Explanation(record.agent_id, "score", tuple(lines), _facts(explained, weigh))


def _weighing(explained: Explained, weigh: Weigh) -> str:
    if weigh == NOTHING:
        return "nothing else is weighed"
    of = counted(explained.measured, explained.record.profile.per_query)
    said = [f"{name} {getattr(of, name):.4f} × {getattr(weigh, name):g}" for name in ("trust", "latency", "price") if getattr(weigh, name)]
    return f"weighed with {', '.join(said)}, over {1 + weigh.trust + weigh.latency + weigh.price:g}"


def _place(explained: Explained) -> str:
    if explained.rank is not None:
        return f"it ranks {explained.rank} of {len(explained.answer.agents)} that are found"
    if explained.barred is not None:
        return f"it is not found: {explained.barred} is in quarantine"
    if not explained.passes:
        return "it is not found, for what it does not fulfil"
    if explained.under is not None:
        return f"it is shown under {explained.under}, which is alike and ranks higher: --all of discover shows each"
    if not explained.asked:
        return "it is not found: its cell was not asked, as others come nearer to the question"
    hidden = "" if explained.cell is None else ", or its holders left it out"
    return f"it is not among the {len(explained.answer.agents)} that are found: others fit better{hidden}"


def _facts(explained: Explained, weigh: Weigh) -> shapes.Json:
    parts, of = explained.parts, counted(explained.measured, explained.record.profile.per_query)
    return {
        "score": explained.score,
        "fit": explained.fit,
        "meaning": {"part": round(parts.meaning, 6), "cosine": round(parts.cosine, 6)},
        "words": [{"word": word.word, "weight": round(word.rarity, 4), "part": round(word.part, 6)} for word in parts.words],
        "pieces": {"part": round(parts.pieces, 6), "nearness": round(parts.nearness, 6)},
        "weighed": {name: {"weight": getattr(weigh, name), "value": round(getattr(of, name), 6)} for name in ("trust", "latency", "price")},
        "conditions": [{"text": one.text, "fulfilled": one.fulfilled} for one in explained.conditions],
        "rank": explained.rank,
        "alikeTo": explained.under,
        "quarantined": explained.barred is not None,
        "cell": explained.cell,
        "cellAsked": explained.asked,
        "cellsAsked": explained.answer.cells_asked,
        "cellsMissing": explained.answer.cells_missing,
    }


def task(view: shapes.TaskView) -> shapes.Explanation:
    """A task: how it ended, how long that took, and what went wrong."""
    lines = [f"{view.task_id} on {view.agent_id} {view.status.replace('_', ' ')}" + (f", by {view.node}" if view.node else "")]
    if view.timing.tool_ms is not None:
        lines.append(f"{view.timing.total_ms:.0f} ms in all, {view.timing.tool_ms:.0f} ms of them at its provider")
    if view.error is not None:
        lines.append(f"{view.error.detail} [{view.error.name}]")
    return shapes.Explanation(view.task_id, "task", tuple(lines), {"status": view.status})


def decision(view: shapes.Json) -> shapes.Explanation:
    """A decision: what it does, how it stands, and who did what about it."""
    (kind, what), *_ = cast("Mapping[str, object]", view["action"]).items()
    needed = f"needs {view['needed']} approvals and has {view['approvals']}" if view["needed"] else "needs no approval"
    lines = [f"{str(view['id'])[:8]} is {view['state']}: {kind} {what}", f"its risk is {view['risk']} of 100, so it {needed}"]
    for wish in cast("list[Mapping[str, object]]", view["people"]):
        lines.append(f"people with {wish['percent']} % of human power say {wish['act']}, {wish['needed']} % decide")
    for entry in cast("list[Mapping[str, object]]", view["trail"]):
        because = f": {entry['why']}" if entry["why"] else ""
        who = f" by {entry['who']}" if entry["who"] else ""
        lines.append(f"{rfc3339(cast(int, entry['time_ms']))} {entry['what']}{who}{because}")
    return shapes.Explanation(str(view["id"]), "decision", tuple(lines), {"state": view["state"], "risk": view["risk"]})


_SENTENCES = {
    MOVED: "{who} moved it, and is for it",
    VOTED_FOR: "{who} voted for it",
    VOTED_AGAINST: "{who} voted against it",
    CARRIED: "with that it was carried: {votes}",
    REJECTED: "with that it was rejected: {votes}",
    EXPIRED: "its time was over, and it was not carried: {votes}",
}
"""What is on record of a motion. Its end stands in the name of whoever moved it, whose doing it is not: the vote before has decided it."""


def motion(view: shapes.Json) -> shapes.Explanation:
    """A motion: what it does, how the vote stands or ended, and who did what about it."""
    lines = [f"{str(view['id'])[:8]} is {view['state']}: {view['what']}"]
    if view["state"] == "open":
        lines.append(f"for it: {view['for']} of {view['seats']} organisations with a vote; {view['needed']} carry it")
        lines.append(f"against it: {view['against']}; {view['blocking']} reject it; it ends {rfc3339(cast(int, view['expires_ms']))}")
        waits = ", ".join(did.rpartition(":")[2] for did in cast("list[str]", view["waitsFor"]))
        lines.append(f"it waits for {waits or 'nobody'}")
    for entry in cast("list[Mapping[str, object]]", view["trail"]):
        said = _SENTENCES[str(entry["what"])].format(who=entry["who"], votes=f"{view['for']} for it, {view['against']} against it")
        lines.append(f"{rfc3339(cast(int, entry['time_ms']))} {said}")
    return shapes.Explanation(str(view["id"]), "motion", tuple(lines), {"state": view["state"], "what": view["what"]})
