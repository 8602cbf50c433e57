"""`lehr check` and `lehr plan` of a sweep: what varies, and what it costs."""

from __future__ import annotations

from dataclasses import fields

from lehr.cli import columns
from lehr.cli.asked import Asked
from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.spec.search import Range
from lehr.sweep import demands, program, trying
from lehr.sweep.pricing import Cost
from lehr.sweep.program import Program

_OURS = ("measured", "step_s", "storage")  # options of `lehr plan` that go with a sweep


def good(made: Program, file: str) -> str:
    """What `lehr check` says of a sweep that can begin."""
    corners = sum(1 for _ in trying.every(made.search))
    keys = _count(len(made.search.space), "key")
    who = f"{made.search.algorithm}, {made.search.scheduler}"
    looked = f"{_count(corners, 'corner')} of the space looked at"
    trials = _count(made.trials, "trial")
    return f"{file}: good. {made.run_id}: a sweep of {trials} over {keys} ({who}); {looked}"


def step_seconds(base: Plan, asked: Asked) -> tuple[float, str] | None:
    """What a trial's step takes and who says so; None where nobody was asked.

    Raises:
        UserError: an option does not go with a sweep, or a run says nothing of its steps.
    """
    other = next((each.name for each in fields(asked)
                  if each.name not in _OURS and getattr(asked, each.name) != each.default), None)  # fmt: skip
    if other is not None:
        came = "the job is a sweep: a forecast over replicas is of one job"
        do = "leave it out, or look at one trial: --set search=null"
        raise UserError(letter(f"--{other.replace('_', '-')}", came, do=do))
    if asked.step_s is not None:
        if not asked.step_s > 0:
            raise UserError(letter("--step-s", f"{asked.step_s:g} came", accepted="a number above 0"))
        return asked.step_s, "--step-s"
    if not asked.measured:
        return None
    from lehr.cli import forecast, stored

    name = asked.measured[0]
    found = forecast.of_run(name, stored.find(name, asked.storage).folder, 0.0)
    nearest = min(found, key=lambda each: abs(each.step.replicas - base.replicas))
    return nearest.step.step_s, f"run {name}, {_count(nearest.step.replicas, 'replica')}"


def show(made: Program, asked: Asked) -> None:
    """Print the sweep's cost.

    Raises:
        UserError: an option does not go with a sweep.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    base = made.base()
    told = rows(made, base, program.cost(made), step_seconds(base, asked))
    table = Table(title=f"plan of sweep {made.run_id}", title_justify="left", show_header=False, box=None,
                  pad_edge=False)  # fmt: skip
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in told:
        table.add_row(Text(name), Text(value))
    Console(soft_wrap=False, highlight=False).print(table)


def rows(
    made: Program, base: Plan, cost: Cost, measured: tuple[float, str] | None = None
) -> list[tuple[str, str]]:
    """The lines of the table: what is said, and what of it."""
    return [
        *(("varies" if not place else "", f"{path}: {_range(given)}")
          for place, (path, given) in enumerate(made.search.space.items())),
        ("trials", f"{made.trials:,}, proposed by {made.search.algorithm}, seed {made.search.seed}"),
        ("metric", f"{made.search.mode} {made.search.metric}, {_reports(made, base)}"),
        ("ends early", _ends(made, cost)),
        ("trial", _trial(base, cost)),
        ("slots", _slots(cost, base)),
        ("steps", _steps(cost)),
        ("checkpoints", _bytes(cost, base)),
        ("time", _time(made, cost, measured)),
        ("storage", f"{made.spec.storage}/{made.run_id}"),
    ]  # fmt: skip


def _range(given: Range) -> str:
    if given.kind == "choice":
        text = f"one of {', '.join(map(program.words, given.values))}"
    else:
        text = f"{given.kind} {program.words(given.values[0])} to {program.words(given.values[1])}"
    step = f" in steps of {given.step:g}" if given.step is not None else ""
    when = " and ".join(f"{path} is {' or '.join(map(program.words, values))}"
                        for path, values in given.conditions.items())  # fmt: skip
    return f"{text}{step}{f', when {when}' if when else ''}"


def _reports(made: Program, base: Plan) -> str:
    every = demands.reports_every(made.search, base)
    if every.steps is None:
        often = f"every {every.minutes:g} min and " if every.minutes else ""
        return f"reported {often}at the end"
    return f"reported every {_count(every.steps, 'step')} and at the end"


def _ends(made: Program, cost: Cost) -> str:
    search = made.search
    if search.scheduler == "none":
        return "no trial"
    marks = ", ".join(f"{mark:.3g}" for mark in (100 * mark for mark in cost.marks[:12]))
    marks += ", ..." if len(cost.marks) > 12 else ""
    if search.scheduler == "pbt":
        copied = f"the worst {search.quantile:.0%} go on as copies of the best"
        return f"no trial; pbt looks at {marks} % of a trial: {copied}"
    later = f", in {len(cost.marks) + 1} brackets that begin later and later"
    told = f"{search.scheduler} looks at {marks} % of a trial: one of {search.reduction} goes on"
    return told + later * (search.scheduler == "hyperband")


def _trial(base: Plan, cost: Cost) -> str:
    shortest, longest = cost.steps_each
    steps = _count(longest, "step") if shortest == longest else f"{shortest:,} to {longest:,} steps"
    return f"{base.spec.model.kind} on {base.spec.data.kind}, {base.spec.strategy.kind}: {steps}"


def _slots(cost: Cost, base: Plan) -> str:
    cores = _count(cost.workers * base.threads_per_worker, "core")
    each = f"each takes {_count(cost.workers, 'worker')}, {cores}"
    return f"{cost.slots:,} at once at most; {each}" if cost.slots else f"as many as find room; {each}"


def _steps(cost: Cost) -> str:
    if cost.steps_expected == cost.steps_most:
        return f"{cost.steps_most:,}"
    part = cost.steps_expected / cost.steps_most
    return f"{cost.steps_most:,} at most; about {cost.steps_expected:,} ({part:.0%}) are to be expected"


def _bytes(cost: Cost, base: Plan) -> str:
    if cost.bytes_most is None:
        return "known when the model is built"
    return f"{columns.size(cost.bytes_most)} at most; a trial keeps {base.checkpoints_kept}"


def _time(made: Program, cost: Cost, measured: tuple[float, str] | None) -> str:
    budget = made.search.budget
    bound = f"; the budget is {budget.hours:g} h" if budget else ""
    if measured is None:
        return f"known with --measured RUN or --step-s S{bound}"
    seconds, who = measured
    slots = cost.slots or 1
    expected, most = (columns.duration(3600 * hours) for hours in cost.hours(seconds, slots))
    of = f"{_count(min(slots, cost.trials), 'slot')} at {seconds:.3g} s a step ({who})"
    return (f"{expected} of training on {of}" if expected == most
            else f"about {expected} of training, at most {most}, on {of}") + bound  # fmt: skip


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
