"""What runs in Ray Train's controller, and how it is made: loaded only where Ray is."""

from __future__ import annotations

import functools
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.config import LoggingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from lehr.launch import census, entry, room, scaling
from lehr.launch.backends import Config
from lehr.launch.gauges import Gauges
from lehr.launch.hosts import Watch
from lehr.launch.notes import Notes
from lehr.launch.policy import Policy
from lehr.launch.scaling import Elastic, Fixed
from lehr.launch.waiting import Waiting
from lehr.launch.watchdog import Watchdog
from lehr.plan import Plan, restore

__all__ = ["Trainer", "TrainingFailedError", "trainer"]


def callbacks(notes: Notes) -> list[Any]:
    """What lives in the controller beside Ray's own callbacks."""
    return [Watch(notes)]


class Trainer(DataParallelTrainer):
    """Ray's trainer with our failure policy: a mistake of the user's is not tried again.

    Ray Train starts a process for each of its helpers. Of these, datasets are ours to handle; and on a
    cluster of the run's own nobody need ask for more hosts, nor give room back when the driver dies: the
    cluster dies, too.
    """

    @property
    def _own(self) -> bool:
        return self.backend_config.address is not None

    def _create_default_callbacks(self) -> list[Any]:
        needless = (DatasetsCallback, PlacementGroupCleanerCallback) if self._own else (DatasetsCallback,)
        rays = [each for each in super()._create_default_callbacks() if not isinstance(each, needless)]
        return [*callbacks(self._notes), *rays]  # ours first: the rendezvous asks the roster

    @property
    def _notes(self) -> Notes:
        return Notes(self.run_config.storage_path)

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        plan = restore(self.backend_config.job["plan"])
        settings["failure_policy"] = Policy(
            self.run_config.failure_config, self._notes, exclude_after=plan.spec.recovery.exclude_after
        )
        settings["scaling_policy"] = Fixed(self.scaling_config) if self._own else self._elastic(plan)
        return super()._initialize_and_run_controller(**settings)

    def _elastic(self, plan: Plan) -> Elastic:
        waiting = Waiting(self.backend_config.job, self._notes.say)
        grows, grow_s = census.grown().grows, scaling.grow_s()
        return Elastic(self.scaling_config, plan.sizes, waiting, grows=grows, grow_s=grow_s)


def trainer(plan: Plan, meeting: Config, *, graphics: int, folder: str, name: str) -> Trainer:
    """Ray's trainer for `plan`.

    Args:
        plan: the plan.
        meeting: how its workers are told who they are.
        graphics: GPUs a worker.
        folder: on this machine, for Ray Train's own notes.
        name: of this launch; never used before, or Ray Train would take up its notes.
    """
    recovery = plan.spec.recovery
    return Trainer(
        functools.partial(entry.run, meeting.job),
        backend_config=meeting,
        scaling_config=ScalingConfig(
            num_workers=plan.workers,
            use_gpu=graphics > 0,
            resources_per_worker=room.wants(plan, gpus=graphics),
            placement_strategy=plan.spec.strategy.placement.upper(),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=folder,
            failure_config=FailureConfig(
                max_failures=recovery.max_failures, max_preemption_failures=recovery.max_preemptions
            ),
            callbacks=[Watchdog(plan), *([] if meeting.address else [Gauges(plan.run_id)])],
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
