"""Finding agents: how good the ranking is beside BM25 and MiniLM alone, and how long an answer takes at the API of a running mesh.

Quality: ``meshos.bench.retrieval``. Time: 2,000 real cards are published at one organisation by ``mesh publish``; when another
organisation's node holds them all and has checked their vectors, it is asked the frozen questions, one at a time.
"""

import itertools
import json
import time
from pathlib import Path

import httpx

from meshos.bench import retrieval, spreading
from meshos.bench.live import Live, LiveNode, metrics, testnet
from meshos.bench.machine import cpu_ms
from meshos.bench.report import Report, Row, percentile, row
from meshos.errors import Failed

CARDS, CARDS_SHORT = 2_000, 200
QUESTIONS, QUESTIONS_SHORT, WARM_UP = 500, 100, 20
ROUNDS, ROUNDS_SHORT = 10, 3
P95_BAR_MS = 100.0
SPREAD_S = 900.0
"""How long the cards may take to reach the other organisation, their vectors checked."""


def measure(report: Report, *, short: bool) -> None:
    """Quality, then time at the API; a short run embeds few cards, so it says nothing of quality."""
    material = retrieval.material()
    records = CARDS_SHORT if short else CARDS
    if short:
        report.notes.append("quality is not measured in a short run: embedding all cards takes minutes")
    else:
        _quality(report, retrieval.measure(material))
    with testnet() as live:
        published_s, spread_s = _publish(live, material, records)
        asked, cpu = _ask(live.nodes()[1], material, QUESTIONS_SHORT if short else QUESTIONS)
        published = spreading.published_ms(live, ROUNDS_SHORT if short else ROUNDS)
        withdrawn = spreading.withdrawn_ms(live, ROUNDS_SHORT if short else ROUNDS)
    what = f"discover at the API of another org, {records} records, warm"
    report.rows += [
        row(what, asked, "ms", bar=f"p95 < {P95_BAR_MS:g} ms", met=percentile(asked, 0.95) < P95_BAR_MS),
        Row("processor time of the asked node, one question", cpu, "ms", count=len(asked)),
        Row(f"mesh publish of {records} cards, embedding included", published_s, "s"),
        Row("from then until another org holds and has checked them all", spread_s, "s"),
        row("one more record sent to a node, until a question finds it at all four", published, "ms"),
        row("an agent withdrawn, until none of the four has its record", withdrawn, "ms"),
    ]


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
        row("question to ranking inside one process, with its embedding", found.times_ms, "ms"),
        Row("embedding of one card", found.embedding_ms, "ms", count=quality.cards),
    ]


def _publish(live: Live, material: retrieval.Material, records: int) -> tuple[float, float]:
    """Seconds of the publication at alpha, and seconds from then until beta's node had it all."""
    cards = dict(itertools.islice(material.cards.items(), records))
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


def _write(file: Path, cards: dict[str, str]) -> None:
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
