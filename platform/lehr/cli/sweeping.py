"""A sweep driven from a terminal: what must be there before, the wait, and the last words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from lehr.errors import LaunchError, UserError, letter

if TYPE_CHECKING:
    from lehr.cli.board import Board
    from lehr.cli.trials import Found
    from lehr.launch.sweeps import Result
    from lehr.spec import Spec
    from lehr.store import Store
    from lehr.sweep.program import Program

_MORE = re.compile(r"\+?[0-9]{1,6}")


def require_search(job: Spec, file: str) -> None:
    """Refuse a job that is no sweep.

    Raises:
        UserError: it has no `search:`.
    """
    if job.search is None:
        came = "there is no search: in it, so it is one job and no sweep"
        do = f"train it: lehr run {file}; or say in a search: block which keys vary, as in jobs/sweep-*.yaml"
        raise UserError(letter(file, came, do=do))


def refuse_search(job: Spec, file: str, *, command: str) -> None:
    """Refuse a sweep where one job is wanted.

    Raises:
        UserError: it has a `search:`.
    """
    if job.search is not None:
        came = f"this is a sweep: it has a search: block, and `lehr {command}` is for one job"
        own = "" if command == "chaos" else " --run NAME"  # the sweep may have the job's own name
        do = f"lehr sweep {file}; or remove search: (--set search=null{own})"
        raise UserError(letter(file, came, do=do))


def drive(program: Program, address: str | None, *, local: bool) -> int:
    """Run a sweep to its end, or until it is stopped; the exit code.

    Raises:
        LehrError: it cannot begin, or its driver failed.
    """
    from lehr import spec as specs
    from lehr import store as stores
    from lehr.cli.board import Board
    from lehr.launch import admission
    from lehr.spec import needs
    from lehr.spec.place import refuse

    job = program.spec
    refuse([*needs.packages(job), *needs.references(job, workers_are_here=local or address is None)])
    base = stores.connect(job.storage, specs.secrets.resolved(job.storage_options))
    stores.probe(base)
    folder = base.below(program.run_id)
    with Board(program, folder) as board:
        try:
            result, signal = _wait(_work(program, base, board, (address, local)), folder, board)
        except LaunchError:  # trials failed; what the others found is told all the same
            if folder.size(admission.SWEEP) is not None:
                _tell(folder, board)
            raise
        code = board.end(result, signal)
        _tell(folder, board)
    return code


def _work(program: Program, base: Store, board: Board, how: tuple[str | None, bool]) -> Callable[[], Result]:
    def work() -> Result:
        from lehr.launch import sweeps

        return sweeps.run(program, base, address=how[0], local=how[1], watch=board.watch)

    return work


def _wait(work: Callable[[], Result], folder: Store, board: Board) -> tuple[Result, int | None]:
    from lehr import logs
    from lehr.launch import driver, ending

    # What Ray and TensorFlow say in this process goes to a file; the terminal has a descriptor of its own.
    with logs.into(folder, "logs/driver.log"), ending.listening(folder, board.say):
        done = driver.drive(cast(Any, work), folder, tick=board.tick, say=board.say)
    return cast("tuple[Result, int | None]", done)


def _tell(folder: Store, board: Board) -> None:
    """The pictures into the sweep's folder, and all of it to W&B. What fails here takes nothing from it."""
    from lehr.cli import publishing, trials

    try:
        found = trials.read(folder)
        trials.illustrate(found)
    except Exception as error:
        board.say(f"its pictures were not drawn: {_reason(error)}")
        return
    try:
        if place := publishing.publish(found):
            board.say(f"  sent to {place}")
    except Exception as error:
        board.say(
            f"{_reason(error)}\n  W&B has not heard of the sweep: lehr track sync {trials.called(found)}"
        )


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def extend(found: Found, wanted: str, address: str | None, *, local: bool) -> int:
    """Ask for more trials, and go on; the exit code.

    Raises:
        UserError: it is no number, or fewer than there are.
    """
    longer = found.program.extended(_count(found, wanted))
    return drive(dataclasses.replace(longer, spec=placed(found)), address, local=local)


def _count(found: Found, wanted: str) -> int:
    """How many trials there are to be in all."""
    if not _MORE.fullmatch(wanted) or int(wanted) == 0:
        accepted = "+40 for so many more, 100 for so many in all"
        raise UserError(letter("--trials", f"{wanted!r} is no number of trials", accepted=accepted))
    count = found.wanted + int(wanted) if wanted.startswith("+") else int(wanted)
    if count < found.wanted:
        came = f"{count} are fewer than the {found.wanted} that it has"
        raise UserError(letter("--trials", came, accepted=f"+N, or a number from {found.wanted} on"))
    return count


def placed(found: Found) -> Spec:
    """The sweep's spec, with the storage in which it was found."""
    from lehr import store as stores

    spec, here = found.program.spec, found.folder.url.rstrip("/").rpartition("/")[0]
    if stores.connect(spec.storage).url.rstrip("/") == here:
        return spec
    return spec.model_copy(update={"storage": here})
