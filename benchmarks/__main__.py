"""Figures for README and docs, each from a real broker and a real cluster on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import compare, deduplication, growth, latency, life, outage, planted, state, throughput
from benchmarks.compare import CASES
from benchmarks.peers.catalog import PEERS
from surecount.console import run
from surecount.local.flink import parse_settings

app = typer.Typer(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
Rate = Annotated[int, typer.Option(help="Events a second.")]


@app.callback(invoke_without_command=True)
def compare_command(
    context: typer.Context,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PEERS)}; may come again.")] = None,
    case: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(CASES)}; may come again.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each at each of its two sizes, in turns.")] = 3,
    limit: Annotated[float, typer.Option(help="Seconds after which a run is given up.")] = 180.0,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, one round.")] = False,
    size: Annotated[
        list[int] | None, typer.Option(min=1, help="How many events, in place of a case's own sizes; may come again.")
    ] = None,
    to: Annotated[Path, typer.Option(help="The folder for the table and all figures.")] = Path("bench-reports"),
) -> None:
    """Without a command: the same work on surecount and on what one would pick instead."""
    if context.invoked_subcommand is None:
        compare.run(case or ["few", "many"], only or [], 1 if quick else rounds, limit, quick, to, size or [])


@app.command("growth")
def growth_command(
    axis: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(growth.AXES)}; may come again.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Other programs than surecount and flink-sql.")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Runs of each, in turns, after one of the largest that warms up.")
    ] = 2,
    limit: Annotated[float, typer.Option(help="Seconds after which a run is given up.")] = 180.0,
    to: Annotated[Path, typer.Option(help="The folder for tables, pictures and all figures.")] = Path("bench-reports"),
) -> None:
    """How cost grows with records, keys, windows, aggregates, partitions and slots."""
    growth.run(axis or list(growth.AXES), only or ["surecount", "flink-sql"], rounds, limit, to)


@app.command("latency")
def latency_command(
    rate: Rate = 20_000,
    seconds: Annotated[int, typer.Option(help="For how long.")] = 120,
    checkpoint: Annotated[str, typer.Option(help="The checkpoint interval.")] = "5 s",
    batch_time: Annotated[str, typer.Option(help="The pipeline's performance.batch_time.")] = "100 ms",
) -> None:
    """From the watermark passing a window's end to its results being written, and to being readable."""
    latency.run(rate, seconds, checkpoint, batch_time)


@app.command("deduplication")
def deduplication_command(
    events: Annotated[int, typer.Option(help="Events; 600,000 to a minute of event time.")] = 10_000_000,
    duplicates: Annotated[float, typer.Option(help="Fraction of them sent twice.")] = 0.1,
    rounds: Annotated[int, typer.Option(help="Runs of each, interleaved.")] = 2,
    alone: Annotated[bool, typer.Option("--alone", help="Without Flink SQL.")] = False,
    limit: Annotated[int, typer.Option(help="Seconds after which a run is given up.")] = 900,
    batch_records: Annotated[int, typer.Option(help="The pipeline's performance.batch_records.")] = 100_000,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of Flink's, for both.")
    ] = None,
) -> None:
    """Bounded ingest beside Flink SQL's deduplication: time, state, memory."""
    deduplication.run(
        events, duplicates, rounds, limit, parse_settings(settings or []), batch_records=batch_records, alone=alone
    )


@app.command("life")
def life_command(
    rate: Rate = 20_000,
    rounds: Annotated[int, typer.Option(help="Kills of each kind of process.")] = 5,
) -> None:
    """Stop, start, rescale, upgrade and kills of every kind of process under load: from each to the next result."""
    life.run(rate, rounds)


@app.command("outage")
def outage_command(
    rate: Rate = 20_000,
    before: Annotated[int, typer.Option(help="Seconds before the kill, in which the JVMs warm up.")] = 150,
    away: Annotated[int, typer.Option(help="Seconds without the cluster.")] = 60,
    after: Annotated[int, typer.Option(help="Seconds after its return.")] = 75,
    idle_after: Annotated[int, typer.Option(help="The pipeline's source.idle_after, s.")] = outage.IDLE_AFTER_S,
) -> None:
    """One of two pathways' clusters is killed for a while: gaps in the results, restarts, books."""
    outage.run(rate, before, away, after, idle_after)


@app.command("planted")
def planted_command(
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(planted.PLANTED)}.")] = None,
    seed: Annotated[int, typer.Option(help="Of the chaos.")] = 1,
    minutes: Annotated[float, typer.Option(help="Of chaos, each.")] = 1.5,
    rate: Rate = 1_000,
) -> None:
    """Whether chaos catches faults that are planted in the jobs' code."""
    planted.measure(only or list(planted.PLANTED), seed, minutes, rate)


@app.command("state")
def state_command(
    rate: Rate = 20_000,
    seconds: Annotated[int, typer.Option(help="For how long.")] = 600,
    keys: Annotated[int, typer.Option(help="Distinct keys in one-hour windows.")] = 10_000,
) -> None:
    """How large checkpoints become while windows stay open."""
    state.run(rate, seconds, keys)


@app.command("throughput")
def throughput_command(
    rounds: Annotated[int, typer.Option(help="Runs of each, interleaved.")] = 3,
    only: Annotated[list[throughput.Case] | None, typer.Option(help="Leave out the other cases.")] = None,
    peer: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A PyFlink program to run beside each of ours on the same topic. It gets --src, --results and "
            "--rejects TOPIC, --bootstrap SERVERS, --checkpoints URL and --bounded.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Seconds after which a run is given up.")] = 300,
) -> None:
    """Whole elapsed time of bounded runs, each audited."""
    throughput.run(rounds, only or list(throughput.Case), peer, limit)


if __name__ == "__main__":
    run(app)
