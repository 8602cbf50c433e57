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

from lehr.launch import entry
from lehr.launch.backends import Config
from lehr.launch.policy import Policy
from lehr.launch.scaling import Fixed
from lehr.plan import Plan

__all__ = ["Trainer", "TrainingFailedError", "trainer"]


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
        return [each for each in super()._create_default_callbacks() if not isinstance(each, needless)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        settings["failure_policy"] = Policy(self.run_config.failure_config)
        if self._own:
            settings["scaling_policy"] = Fixed(self.scaling_config)
        return super()._initialize_and_run_controller(**settings)


def trainer(plan: Plan, meeting: Config, *, graphics: int, folder: str, name: str) -> Trainer:
    """Ray's trainer for `plan`.

    Args:
        plan: the plan.
        meeting: how its workers are told who they are.
        graphics: GPUs a worker.
        folder: on this machine, for Ray Train's own notes.
        name: of this launch; never used before, or Ray Train would take up its notes.
    """
    strategy, recovery = plan.spec.strategy, plan.spec.recovery
    resources = {"CPU": strategy.cpus_per_worker} | ({"GPU": graphics} if graphics else {})
    return Trainer(
        functools.partial(entry.run, meeting.job),
        backend_config=meeting,
        scaling_config=ScalingConfig(
            num_workers=plan.workers,
            use_gpu=graphics > 0,
            resources_per_worker=resources,
            placement_strategy="PACK",
        ),
        run_config=RunConfig(
            name=name,
            storage_path=folder,
            failure_config=FailureConfig(max_failures=recovery.max_failures, controller_failure_limit=3),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
