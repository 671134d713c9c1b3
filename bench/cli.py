"""``mesh bench NAME``: joins the command line by the entry point ``meshos.commands``."""

import importlib
import inspect
import signal
from pathlib import Path
from typing import Annotated

import typer

from meshos.bench.machine import calibration, this_machine
from meshos.bench.report import Report
from meshos.errors import BadInput
from meshos.node.cli import output
from meshos.node.runtime.matrix_threads import load_numpy
from meshos.node.terminal import mute

BENCHMARKS = {
    "testnet": "how long a 4-org testnet takes to be ready, and what a node weighs",
    "join": "one command from an empty folder to the first call of a new member, step by step",
    "calls": "a trivial tool called across organisations, beside the same tool over one warm MCP session",
    "links": "a frame over a link, on TLS and on QUIC, beside bare TLS, bare aioquic and py-libp2p",
    "relay": "a call through a member that relays, beside a direct one",
    "paths": "one of two paths cut under 200 calls a second: calls that fail, and how long none is answered",
    "lossy": "calls and bulk over 50 ms and 1 % of loss, beside QUIC alone",
    "churn": "connects, disconnects and kills for two hours: what is left behind on a node",
    "strangers": "calls between members while 200 connections of strangers work on a node",
    "discovery": "finding agents: time at the API, and quality beside BM25 and MiniLM alone",
    "cells": "what a question finds in the few cells that it is sent to, of what it would find in all",
    "scale": "a search among 100,000 and among a million records that sixteen holders have in cells",
    "planet": "finding agents among a thousand simulated nodes far apart, some of them gone, lying or cut off",
    "membership": "how soon a killed node is declared dead by all, and whether a live one ever is",
    "raft": "a write that three processes agree on and have on disk, beside etcd",
    "pbft": "a transfer that four organisations agree on and have on disk, beside what this machine verifies",
    "ledger": "how soon a validator that comes late is where the others are, and what the state tree costs",
    "soak": "kill -9 of random processes under load: whether all that was acknowledged is there, and once",
    "sim": "virtual seconds per real second",
    "recorder": "what recording costs a call",
    "leaks": "10,000 calls, then idle: what is left behind",
}


def register(root: typer.Typer) -> None:
    """Add ``mesh bench`` to the command line."""
    root.command("bench")(bench)


def bench(
    name: Annotated[str | None, typer.Argument(help="Which one; without a name, they are listed.")] = None,
    short: Annotated[bool, typer.Option(help="Fewer runs: a look, not a figure.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0.1, max=1440, help="How long: soak, churn.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="What decides who is killed when: soak, churn, planet.")] = None,
    page: Annotated[Path | None, typer.Option(dir_okay=False, help="Where a picture of the run goes, an SVG: planet.")] = None,
    transactions: Annotated[int | None, typer.Option(min=1, max=10_000_000, help="How many the late one has missed: ledger.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Measure the product on this machine. Example: mesh bench calls"""
    options = {"minutes": minutes, "seed": seed, "transactions": transactions, "page": page}
    given = {key: value for key, value in options.items() if value is not None}
    if name is None and json_:
        output.document("bench", {"benchmarks": [{"name": each, "measures": what} for each, what in BENCHMARKS.items()]})
        return
    if name is None:
        for each, what in BENCHMARKS.items():
            print(f"{each:12} {what}")
        return
    if name not in BENCHMARKS:
        raise BadInput("unknown-benchmark", f"there is no benchmark {name[:40]!r}", hint=f"one of {', '.join(BENCHMARKS)}")
    told = [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us in the background has it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it of SIGHUP
            signal.signal(number, lambda number, frame: _interrupt(told, signal.Signals(number)))
    load_numpy()  # as a node does
    measure = importlib.import_module(f"meshos.bench.{name}").measure
    unknown = given.keys() - inspect.signature(measure).parameters
    if unknown:
        raise BadInput("usage", f"--{min(unknown)} means nothing to {name}", hint=f"mesh bench {name}")
    said = "".join(f" --{key} {value}" for key, value in given.items())
    report = Report(name, f"mesh bench {name}{' --short' if short else ''}{said}", this_machine())
    report.noise = calibration()
    try:
        measure(report, short=short, **given)
    except BaseException as error:
        if not _is_interruption(error):
            raise
        raise typer.Exit(128 + told[-1]) from None
    report.noise = max(report.noise, calibration())
    report.print(as_json=json_)
    if any(row.met is False for row in report.rows):
        raise typer.Exit(1)


def _interrupt(told: list[signal.Signals], number: signal.Signals) -> None:
    """SIGTERM or SIGHUP, as Ctrl-C: trio takes that to where it may end, and what a benchmark has started is ended by its ``finally``."""
    told.append(number)
    if number == signal.SIGHUP:
        mute()
    signal.raise_signal(signal.SIGINT)


def _is_interruption(error: BaseException) -> bool:
    """Whether it is a Ctrl-C, however many nurseries it has come through."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_interruption, error.exceptions))
    return isinstance(error, KeyboardInterrupt)
