"""Finding agents: how good the ranking is beside BM25 and MiniLM alone, and how long an answer takes at the API of a running mesh.

Quality: ``meshos.bench.retrieval``. Time: all real cards, servers and tools, are published at one of eight organisations by ``mesh
publish``; when another organisation's node holds them all and has checked their vectors, it is asked the frozen questions, one at a
time. Then the organisations move that the directory is cut into cells, and it is asked again.
"""

import itertools
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import httpx

from meshos.bench import retrieval, spreading
from meshos.bench.live import Live, LiveNode, metrics, testnet
from meshos.bench.machine import cpu_ms
from meshos.bench.report import Report, Row, percentile, row
from meshos.errors import Failed

ORGS, ORGS_SHORT = 8, 4
CARDS_SHORT = 200
QUESTIONS, QUESTIONS_SHORT, WARM_UP = 500, 100, 20
ROUNDS, ROUNDS_SHORT = 10, 3
P50_BAR_MS, P95_BAR_MS, SPREAD_BAR_MS, EMBED_BAR_MS = 40.0, 100.0, 2_000.0, 12.0
SPREAD_S = 1_800.0
"""How long the cards may take to reach the other organisation, their vectors checked, eight nodes sharing the processors."""

CUT_S = 300.0
"""How long it may take from the last vote until all nodes answer in cells."""


def measure(report: Report, *, short: bool) -> None:
    """Quality, then time at the API; a short run embeds few cards, so it says nothing of quality."""
    material = retrieval.material()
    questions, rounds = (QUESTIONS_SHORT, ROUNDS_SHORT) if short else (QUESTIONS, ROUNDS)
    if short:
        report.notes.append(
            "quality is not measured in a short run: embedding all cards takes minutes; nor are cells, which need 2,000 cards"
        )
    else:
        _quality(report, retrieval.measure(material))
    cards = dict(itertools.islice(material.cards.items(), CARDS_SHORT)) if short else {**retrieval.tools(), **material.cards}
    with testnet(orgs=ORGS_SHORT if short else ORGS) as live:
        published_s, spread_s = _publish(live, cards)
        report.rows += [
            Row(f"mesh publish of {len(cards)} cards, embedding included", published_s, "s"),
            Row("from then until another org holds and has checked them all", spread_s, "s"),
        ]
        where = f"at another org of {len(live.nodes())}, {len(cards)} records"
        report.rows += _asked(live, material, questions, f"{where}, whole")
        if not short:
            report.rows.append(Row("from the last vote until all answer in cells", _cut(live), "s"))
            report.rows += _asked(live, material, questions, f"{where}, in cells")
        report.rows += [
            _within("one more record sent to a node, until a question finds it at all", spreading.published_ms(live, rounds)),
            _within("an agent withdrawn, until no node has its record", spreading.withdrawn_ms(live, rounds)),
        ]


def _within(what: str, taken: list[float]) -> Row:
    return row(what, taken, "ms", bar=f"<= {SPREAD_BAR_MS:g} ms", met=max(taken) <= SPREAD_BAR_MS)


def _asked(live: Live, material: retrieval.Material, questions: int, where: str) -> list[Row]:
    asked, cpu = _ask(live.nodes()[1], material, questions)
    met = percentile(asked, 0.5) <= P50_BAR_MS and percentile(asked, 0.95) <= P95_BAR_MS
    return [
        row(f"discover {where}", asked, "ms", bar=f"p50 <= {P50_BAR_MS:g}, p95 <= {P95_BAR_MS:g} ms", met=met),
        Row(f"processor time of the asked node, one question, {where.rpartition(', ')[2]}", cpu, "ms", count=len(asked)),
    ]


def _cut(live: Live) -> float:
    """Have the organisations vote for cells, and wait until each node answers by them; seconds since the last vote that was needed."""
    nodes = live.nodes()
    motion = {"motion": {"parameters": {"directory-cells": 1}}}
    with nodes[0].client() as client:
        moved = client.post("/v1/proposals", json=motion).raise_for_status().json()
    for node in nodes[1:]:
        with node.client() as client:
            deadline = time.monotonic() + spreading.PATIENCE_S
            while (state := client.get(f"/v1/proposals/{moved['id']}")).status_code != HTTPStatus.OK and time.monotonic() < deadline:
                time.sleep(spreading.POLL_S)
            if state.raise_for_status().json()["state"] == "open":
                client.post(f"/v1/proposals/{moved['id']}/votes", json={"choice": "for"}).raise_for_status()
    began = time.monotonic()
    while not all(_in_cells(node) for node in nodes):
        if time.monotonic() - began > CUT_S:
            raise Failed("bench-command-failed", f"some node does not answer in cells after {CUT_S:g} s")
        time.sleep(0.2)
    return time.monotonic() - began


def _in_cells(node: LiveNode) -> bool:
    with node.client() as client:
        answer = client.post("/v1/discover", json={"query": "any agent", "limit": 1}).raise_for_status().json()
    return answer["cellsAsked"] > 1 and answer["complete"] is True


def _quality(report: Report, found: retrieval.Found) -> None:
    quality, labels = found.quality, retrieval.LABELS
    asked = f"{quality.questions} frozen questions over {quality.cards} cards"
    report.rows += [Row(f"MRR@10, {labels[name]}", mrr, "", count=quality.questions) for name, mrr in quality.mrr.items()]
    for name, (ratio, low, high) in sorted(quality.ratios.items(), key=lambda item: -item[1][0]):
        bound = name == quality.better()
        beyond = "" if name in retrieval.BAR_AGAINST else "additional, not of the bar: "
        report.rows.append(
            Row(
                f"{beyond}ours over {labels[name]}, 95 % from {low:.4f} to {high:.4f}",
                ratio,
                "x",
                bar=f">= {retrieval.BAR:g}, lower bound > 1" if bound else "",
                met=quality.met() if bound else None,
            )
        )
    styles = [
        f"{style} {values['ours']:.3f} (BM25 {values['bm25']:.3f}, MiniLM {values['minilm']:.3f})"
        for style, values in quality.by_style.items()
    ]
    report.notes.append(f"{asked}; by style: {', '.join(styles)}")
    report.rows += [
        row(
            "embedding of one question",
            found.read_ms,
            "ms",
            bar=f"p50 <= {EMBED_BAR_MS:g} ms",
            met=percentile(found.read_ms, 0.5) <= EMBED_BAR_MS,
        ),
        row("question to ranking inside one process, with its embedding", found.times_ms, "ms"),
        Row("embedding of one card", found.embedding_ms, "ms", count=quality.cards),
    ]


def _publish(live: Live, cards: Mapping[str, str]) -> tuple[float, float]:
    """Seconds of the publication at alpha, and seconds from then until beta's node had it all."""
    file = live.folder.parent / "cards.jsonl"
    _write(file, cards)
    asked = live.nodes()[1]
    before = metrics(asked)["mesh_directory_records"]
    began = time.perf_counter()
    published = live.mesh("publish", str(file), "--org", "alpha")
    published_s = time.perf_counter() - began
    if published["accepted"] != len(cards):
        told = f"{published['accepted']} of {len(cards)} cards were published: {str(published['refused'])[:300]}"
        raise Failed("bench-command-failed", told)
    while (now := metrics(asked))["mesh_directory_records"] < before + len(cards) or now["mesh_directory_unchecked"]:
        if time.perf_counter() - began - published_s > SPREAD_S:
            raise Failed("bench-command-failed", f"{asked.name} holds {now['mesh_directory_records']:g} records after {SPREAD_S:g} s")
        time.sleep(0.2)
    return published_s, time.perf_counter() - began - published_s


def _ask(node: LiveNode, material: retrieval.Material, questions: int) -> tuple[list[float], float]:
    """Milliseconds of each question once warm, and the processor time that the node used for one."""
    taken = []
    with node.client() as client:
        for number, question in enumerate(itertools.islice(itertools.cycle(material.questions), questions + WARM_UP)):
            if number == WARM_UP:
                used = cpu_ms(node.pid)
            took = _asked_ms(client, question.text)
            if number >= WARM_UP:
                taken.append(took)
    return taken, (cpu_ms(node.pid) - used) / questions


def _write(file: Path, cards: Mapping[str, str]) -> None:
    """As lines of an MCP registry: what these cards were taken from."""
    lines = [json.dumps({"name": name, "description": text, "packages": []}) for name, text in cards.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _asked_ms(client: httpx.Client, question: str) -> float:
    began = time.perf_counter()
    answer = client.post("/v1/discover", json={"query": question, "limit": 10})
    took = (time.perf_counter() - began) * 1000
    if len(answer.raise_for_status().json()["agents"]) != 10:
        raise Failed("bench-command-failed", f"a question found fewer than ten agents: {answer.text[:200]}")
    return took
