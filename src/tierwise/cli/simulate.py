"""``tierwise simulate``: a scenario in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tierwise.cli.assignments import parse_assignments, split_values
from tierwise.cli.interrupts import ended_with_its_workers
from tierwise.cli.progress import Progress
from tierwise.cli.results import command_again, make_folder, show, told_where, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.scenario import Scenario


def print_schema(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 -- click's form
    """The JSON Schema of scenarios, for editors and checks elsewhere."""
    if wanted and not context.resilient_parsing:
        import json  # noqa: PLC0415 -- heavy imports belong to the command

        from tierwise.scenario import scenario_schema  # noqa: PLC0415

        click.echo(json.dumps(scenario_schema(), indent=1))
        context.exit()


_MEANT_FOR = {
    "check": ("a check",),
    "seed": ("a run", "a comparison", "a sweep"),
    "out": ("a run", "a comparison", "a sweep"),
    "engine": ("a run",),
    "sensitivity": ("a comparison",),
    "sweeps": ("a sweep",),
    "results": ("a sweep",),
    "dask": ("a sweep",),
    "workers": ("a sweep",),
}
"""What each option is for; those not here are for all."""


@click.command(epilog="Example:  tierwise simulate plant.yaml --set links.up.latency=20ms --out r")
@click.argument("scenarios", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCENARIO [OTHER]")
@click.option("--check", is_flag=True, help="Only check the scenario, and say which engine would run it.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the random numbers; by default the scenario's."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Replace a value of the scenario; repeatable."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for trace, summary and report.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "event", "vector"]),
    default="auto",
    show_default=True,
    help="What runs it; auto takes vector, the faster, where it can.",
)
@click.option("--sensitivity", is_flag=True, help="With two scenarios: which constants would change the verdict.")
@click.option(
    "--sweep", "sweeps", multiple=True, metavar="PATH=A,B,C", help="Run every combination of these values; repeatable."
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of a sweep's finished points; by default SCENARIO.sweep.jsonl.",
)
@click.option("--dask", metavar="ADDRESS", help="Run a sweep on this Dask cluster.")
@click.option("--workers", type=click.IntRange(1), help="Processes of a sweep; by default one a processor.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--schema", is_flag=True, is_eager=True, expose_value=False, callback=print_schema, help="Print the JSON Schema."
)
def simulate(
    scenarios: tuple[Path, ...],
    *,
    check: bool,
    seed: int | None,
    overrides: tuple[str, ...],
    out: Path | None,
    engine: str,
    sensitivity: bool,
    sweeps: tuple[str, ...],
    results: Path | None,
    dask: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run SCENARIO in virtual time: latency, accuracy, energy and cost, the same in every run.

    With two scenarios both meet the same random numbers, and the differences are printed with their intervals.
    --out leaves a page, that opens without a network, and the figures: of a run, a comparison or a sweep.
    """
    changes = parse_assignments(overrides, "--set")
    if len(scenarios) > 2:  # noqa: PLR2004 -- a pair
        raise click.UsageError("takes one scenario, or two to compare")
    refuse_what_has_no_effect(len(scenarios), check=check, sweeps=bool(sweeps))
    if out is not None:
        make_folder(out)
    if sweeps:
        run_sweep(
            scenarios[0],
            changes,
            sweeps,
            seed=seed,
            out=out,
            results=results,
            dask=dask,
            workers=workers,
            as_json=as_json,
        )
    elif len(scenarios) == 2:  # noqa: PLR2004
        run_comparison(scenarios, changes, seed=seed, out=out, sensitivity=sensitivity, as_json=as_json)
    else:
        run_one(scenarios[0], changes, check=check, seed=seed, out=out, engine=engine, as_json=as_json)


def refuse_what_has_no_effect(scenarios: int, *, check: bool, sweeps: bool) -> None:
    """Raises ``click.UsageError`` for an option that the work at hand would pass over in silence."""
    work = "a comparison" if scenarios > 1 else "a sweep" if sweeps else "a check" if check else "a run"
    context = click.get_current_context()
    for option in context.command.params:
        places = _MEANT_FOR.get(option.name or "")
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and places is not None and work not in places:
            raise click.UsageError(f"{option.opts[0]} has no effect on {work}; it is for {' and '.join(places)}")
    if context.params["dask"] is not None and context.params["workers"] is not None:
        raise click.UsageError("--workers has no effect on a Dask cluster, which has its own")


def run_one(
    path: Path,
    changes: dict[str, str],
    *,
    check: bool,
    seed: int | None,
    out: Path | None,
    engine: str,
    as_json: bool,
) -> None:
    """Simulates one scenario and prints its summary."""
    import msgspec  # noqa: PLC0415

    from tierwise.scenario import load_scenario  # noqa: PLC0415 -- heavy imports belong to the command

    if check:
        from tierwise.sim.inputs import input_problems  # noqa: PLC0415

        loaded = load_scenario(path, changes, input_problems)
        click.echo(msgspec.json.encode(facts(loaded)) if as_json else describe(loaded))
        return
    loaded = load_scenario(path, changes)
    from tierwise.sim import simulate as run  # noqa: PLC0415
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415
    from tierwise.sim.compiled import must_compile  # noqa: PLC0415
    from tierwise.sim.results.origin import origin_of  # noqa: PLC0415

    tell_of_numba([loaded], loaded.run.replications)
    more = [] if engine == "auto" else ["--engine", engine]
    with Progress(wanted=not as_json) as line:
        if must_compile():
            line.tell("compiling the kernel: once, some ten seconds")
        summary = run(
            loaded,
            seed=seed,
            engine=engine,  # type: ignore[arg-type]  # click has checked the choice
            out=out,
            origin=None if out is None else origin_of(path, changes, command_again([path], changes, seed, out, more)),
            answers=compute_answers(loaded),
            on_progress=line.simulation(loaded.run.replications * loaded.run.duration / 1e9),
        )
    if as_json:
        click.echo(msgspec.json.encode(summary))
        return
    from tierwise.sim.results.terminal import run_view  # noqa: PLC0415

    show(lambda width: run_view(loaded, summary, width))
    if out is not None:
        told_where(out, "report.html", "summary.json, series.csv and the trace")


def run_comparison(
    scenarios: tuple[Path, ...],
    changes: dict[str, str],
    *,
    seed: int | None,
    out: Path | None,
    sensitivity: bool,
    as_json: bool,
) -> None:
    """Simulates two scenarios with common random numbers and prints what differs."""
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.scenario import load_scenario  # noqa: PLC0415
    from tierwise.sim.compare import LEAST_REPLICATIONS, compare  # noqa: PLC0415
    from tierwise.sim.results.comparison import Compared, Sensitivity, render_comparison  # noqa: PLC0415
    from tierwise.sim.results.origin import origin_of  # noqa: PLC0415
    from tierwise.sim.results.terminal import comparison_view  # noqa: PLC0415
    from tierwise.sim.sensitivity import flips, tried  # noqa: PLC0415

    first, second = (load_scenario(path, changes) for path in scenarios)
    if first.name == second.name:
        first, second = named_by_file((first, second), scenarios)
    tell_of_numba([first, second], max(first.run.replications, second.run.replications, LEAST_REPLICATIONS))
    with Progress(wanted=not as_json) as line:
        found = compare(first, second, seed=seed)
        turned = None
        if sensitivity:
            done = flips(
                first,
                second,
                seed=seed,
                compared=found,
                on_progress=lambda done, of: line.tell(f"sensitivity: {done} of {of} pairs"),
            )
            turned = Sensitivity(tried(first, second), done)
    more = {"flips": [], "tried": []} if turned is None else msgspec.to_builtins(turned)
    plain = {**msgspec.to_builtins(found), **more}
    if out is not None:
        again = command_again(list(scenarios), changes, seed, out, ["--sensitivity"] if sensitivity else [])
        origins = tuple(origin_of(path, changes, again) for path in scenarios)
        compared = Compared((first, second), origins, found, turned)  # type: ignore[arg-type]  # a pair
        write(out, {
            "compare.html": render_comparison(compared).encode(),
            "compare.json": msgspec.json.format(msgspec.json.encode(plain)),
        })  # fmt: skip
    if as_json:
        click.echo(msgspec.json.encode(plain))
        return
    show(lambda width: comparison_view(found, turned, width))
    if out is not None:
        told_where(out, "compare.html", "compare.json")


def named_by_file(scenarios: Sequence[Scenario], paths: Sequence[Path]) -> list[Scenario]:
    """Scenarios of one name, called as their files are, so that they can be told apart."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [one.model_copy(update={"name": name}) for one, name in zip(scenarios, names, strict=True)]


def run_sweep(
    path: Path,
    changes: dict[str, str],
    sweeps: tuple[str, ...],
    *,
    seed: int | None,
    out: Path | None,
    results: Path | None,
    dask: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Runs every combination of the swept values and prints one line each."""
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.scenario import load_scenario  # noqa: PLC0415
    from tierwise.sim.executors import open_executor  # noqa: PLC0415
    from tierwise.sim.results.origin import origin_of  # noqa: PLC0415
    from tierwise.sim.results.sweep import as_csv  # noqa: PLC0415
    from tierwise.sim.results.sweep_page import Swept, render_sweep  # noqa: PLC0415
    from tierwise.sim.results.terminal import sweep_view  # noqa: PLC0415
    from tierwise.sim.sweep import check_values, grid, sweep  # noqa: PLC0415

    loaded = load_scenario(path, changes)
    values = {where: split_values(text) for where, text in parse_assignments(sweeps, "--sweep", "PATH=A,B,C").items()}
    check_values(path, values, changes)
    tell_of_numba([loaded], loaded.run.replications * len(grid(values)))
    file = results or path.with_suffix(".sweep.jsonl")
    with (
        Progress(wanted=not as_json) as line,
        ended_with_its_workers(),
        open_executor(dask=dask, workers=workers) as executor,
    ):
        points = sweep(
            path,
            values,
            file,
            executor,
            overrides=changes,
            seed=seed,
            on_point=lambda done, of: line.tell(f"{done} of {of} points"),
        )
    if out is not None:
        again = command_again([path], changes, seed, out, [part for text in sweeps for part in ("--sweep", text)])
        page = render_sweep(Swept(loaded, origin_of(path, changes, again), points))
        write(out, {"sweep.html": page.encode(), "sweep.csv": as_csv(points).encode()})
    if as_json:
        click.echo(msgspec.json.encode(points))
    else:
        show(lambda width: sweep_view(points, width, loaded.slo))
        click.echo(f"points are kept in {file}")
        if out is not None:
            told_where(out, "sweep.html", "sweep.csv")
    if any(point.error is not None for point in points):
        click.get_current_context().exit(1)


def tell_of_numba(scenarios: Sequence[Scenario], runs: int) -> None:
    """A line on standard error where so many runs of each would be much faster with numba, which is not there."""
    from tierwise.sim.workload import expected_requests, hint  # noqa: PLC0415 -- heavy imports belong to the command

    if told := hint(runs * sum(expected_requests(one) for one in scenarios)):
        click.echo(f"hint: {told}", err=True)


def describe(scenario: Scenario) -> str:
    """``facts`` for people."""
    from tierwise.sim.results.words import counted  # noqa: PLC0415 -- heavy imports belong to the command

    found = facts(scenario)
    engine = f"event engine ({'; '.join(found['reasons'])})" if found["reasons"] else "vectorised engine"
    title = f"{scenario.name}: {scenario.description}\n" if scenario.description else ""
    around = f"{counted(found['links'], 'link')}, {counted(found['nodes'], 'node')}"
    fleet = f"{counted(found['devices'], 'device')} in {counted(found['groups'], 'group')}"
    return (
        f"{title}{scenario.name} is valid: {fleet}, {around}, {found['simulated_s']:g} s. "
        f"Runs on the {engine}." + "".join(f"\nAssumed: {one}" for one in found["assumptions"])
    )


def facts(scenario: Scenario) -> dict[str, Any]:
    """What a checked scenario holds; ``reasons`` say why the event engine runs it, where it does."""
    from tierwise.sim.run import reasons_for_events  # noqa: PLC0415 -- heavy imports belong to the command
    from tierwise.sim.unstated import assumptions  # noqa: PLC0415

    reasons = list(reasons_for_events(scenario))
    return {
        "scenario": scenario.name,
        "devices": sum(group.count for group in scenario.devices.values()),
        "groups": len(scenario.devices),
        "links": len(scenario.links),
        "nodes": len(scenario.nodes),
        "simulated_s": scenario.run.duration / 1e9,
        "engine": "event" if reasons else "vector",
        "reasons": reasons,
        "assumptions": assumptions(scenario),
    }
