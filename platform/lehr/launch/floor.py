"""Which segments of a sweep have a place on Ray: between Tune's loop, which moves processes, and the desk.

Pure: knows what Tune must do, and neither Tune nor Ray. The end of every segment is told to the desk here and
nowhere else, once, whatever becomes of Tune's own trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lehr.launch import diary, failure
from lehr.launch.diary import Heard
from lehr.launch.failure import Failure
from lehr.launch.standstill import HUNG

if TYPE_CHECKING:
    from lehr.launch.desk import Desk, Word
    from lehr.plan import Plan
    from lehr.store import Store
    from lehr.sweep.records import Start

STOP_S = 90.0  # that a segment which is asked to stop may take for its step and its checkpoint
DIVERGED_S = 10.0  # the same for one that is to end at once
NOW: Literal["now"] = "now"
OVER: Literal["over"] = "over"


@dataclass
class Place:
    """A segment that has a process of Ray's, or waits for one.

    Args:
        start: the segment.
        plan: of the segment.
        failures: how often its process died or failed.
        raises: it said that it failed, and its process raises that next, to be started anew.
        word: what the desk last said of it.
        told: whether its process was told to end.
        since: when it was to end.
        host: where its process is; "" while it waits for one.
        again: Tune has no trial for it any more, and gets a new one.
    """

    start: Start
    plan: Plan
    failures: int = 0
    raises: bool = False
    word: Word = "continue"
    told: bool = False
    since: float = 0.0
    host: str = ""
    again: bool = False


class Floor:
    """See the module. To be used from one thread.

    Args:
        desk: decides.
        trials: the folder of the sweep's runs.
        most: failures of a segment after which it is not started again.
        say: takes a line for the driver's log.
        now: seconds, from any moment on.
    """

    def __init__(
        self, desk: Desk, trials: Store, *, most: int, say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._desk, self._trials, self._most, self._say, self._now = desk, trials, most, say, now
        self.places: dict[str, Place] = {}

    def suggest(self) -> tuple[Start, Plan] | Literal["now", "over"]:
        """The segment that begins now, or once more; NOW: none now; OVER: none any more."""
        for place in self.places.values():
            if place.again:
                place.again = False
                return place.start, place.plan
        while len(self.places) < self._desk.slots and not self._desk.leave:
            start = self._desk.next()
            if start is None:
                break
            plan = self._desk.begin(start)
            if plan is not None:
                self.places[start.run] = Place(start, plan)
                return start, plan
        return NOW if self.places or not self._desk.done else OVER

    # --- what processes say -----------------------------------------------------------------------

    def said(self, run: str, said: Mapping[str, Any]) -> bool:
        """Take what the process of a segment says; whether it is to go on listening to it.

        Args:
            run: of the segment.
            said: host; heard: [[step, values]]; then outcome or failure, and train_s.
        """
        place = self.places.get(run)
        if place is None:
            return False
        if host := said.get("host", ""):
            place.host = host
            self._desk.at(place.start, host)
        self._wish(place, self._desk.heard(place.start, [Heard(*each) for each in said.get("heard", ())]))
        if "failure" in said:
            return self._failed(place, Failure(**said["failure"]), said["train_s"])
        if "outcome" in said:
            return self._settled(place, said["outcome"], said["train_s"])
        return True

    def _settled(self, place: Place, document: Mapping[str, Any], train_s: float) -> bool:
        from lehr.worker.outcome import Outcome

        outcome = Outcome(**document)
        if outcome.status == "left" and place.word == "continue":  # its host goes: no failure
            place.raises = True
            return True
        self._over(place, outcome, train_s)
        return False

    def _failed(self, place: Place, why: Failure, train_s: float) -> bool:
        """Whether its process is to raise what it said: to be replaced, or as no other segment may get it."""
        place.failures += not why.final
        if place.word == "continue" and not why.final and place.failures <= self._most:
            self._say(
                f"trial {place.start.trial} failed and is started again: {failure.first_line(why.message)}"
            )
            place.raises = True
            return True
        self._give_up(place, why, train_s)
        return why.kind == HUNG

    def fell(self, run: str, why: str) -> None:
        """The process of a segment is gone, or raised what it had said; Tune starts another one."""
        place = self.places.get(run)
        if place is None:
            return
        if place.raises:
            place.raises = False
            if place.word != "continue":  # its process had heard of it, and the next one would not
                self._cut(place, diary.trained_s(self._trials.below(run)))
                return
        elif not self._died(place, why):
            return
        self._desk.at(place.start, "")
        place.host = ""

    def lost(self, run: str) -> None:
        """Tune gives up its trial for a segment that fell: it is suggested again, if it still has a place."""
        if (place := self.places.get(run)) is not None:
            place.again = True

    def _died(self, place: Place, why: str) -> bool:
        """Whether it is started again."""
        place.failures += 1
        died = Failure("Died", f"its process ended: {why}", host=place.host)
        if place.word != "continue" or place.failures > self._most:
            self._give_up(place, died, diary.trained_s(self._trials.below(place.start.run)))
            return False
        self._say(f"trial {place.start.trial}: {died.message}; it is started again")
        return True

    def _give_up(self, place: Place, why: Failure, train_s: float) -> None:
        if place.word == "continue":
            run = self._trials.below(place.start.run)
            self._over(place, failure.error({0: why}, run, url=run.url), train_s)
        else:
            self._cut(place, train_s)

    # --- ends that are asked for ------------------------------------------------------------------

    def wishes(self) -> list[tuple[str, Word, str]]:
        """(run, word, why) of the segments whose processes are to be told now that they shall end."""
        if self._desk.leave:
            for place in self.places.values():
                self._wish(place, "stop")
        new = [place for place in self.places.values() if place.word != "continue" and not place.told]
        for place in new:
            place.told = True
        return [(place.start.run, place.word, self._desk.reason(place.start)) for place in new]

    def _wish(self, place: Place, word: Word) -> None:
        if word != "continue" and place.word != word and place.word != "diverged":
            place.word, place.told, place.since = word, False, self._now()

    def overdue(self) -> list[str]:
        """Runs whose processes did not end in time and are to be killed; all, if the sweep is another's."""
        if self._desk.lost:
            return list(self.places)
        most_s = {"continue": float("inf"), "stop": STOP_S, "diverged": DIVERGED_S}
        now = self._now()
        return [run for run, place in self.places.items() if now - place.since > most_s[place.word]]

    def cut(self, run: str) -> None:
        """A segment that was to end is ended without its word."""
        self._cut(self.places[run], diary.trained_s(self._trials.below(run)))

    def _cut(self, place: Place, train_s: float) -> None:
        from lehr.worker.outcome import Outcome

        self._over(place, Outcome("stopped", 0), train_s)

    def _over(self, place: Place, end: Any, train_s: float) -> None:
        del self.places[place.start.run]
        self._desk.ended(place.start, end, train_s=train_s)
