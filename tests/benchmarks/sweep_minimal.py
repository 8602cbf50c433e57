"""What one would write by hand: trials as a function trainable of Ray Tune, over the same compiled step.

    python tests/benchmarks/sweep_minimal.py JOB.json SLOTS [--fresh]

`sweep.py` compares it with `lehr sweep`. Model, data, step and validation are lehr's own, so that both train
the same, bit for bit; what is around them is Tune's alone. It reports the metric at each validation and saves
the weights once, at the end. It has no journal, no state to resume from, no table and no checks. JOB.json has
the job's text, the steps between validations, the metric and the trials' parameters. With `--fresh` each
trial has a process of its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}

import ray
from ray import tune


def train(config: dict[str, Any]) -> None:
    """One trial: `job` has the text of it, `trial` what varies."""
    import numpy as np

    from lehr import plan as plans
    from lehr import spec
    from lehr.loop.step import SIGNALS
    from lehr.loop.train import score
    from lehr.strategies import devices
    from lehr.strategies.strategy import make
    from lehr.worker.build import build

    job = config["job"]
    sets = [f"{path}={value!r}" for path, value in config["trial"].items()]
    plan = plans.make(spec.parse(job["text"], sets=sets), run_id="trial")
    devices.configure(threads=plan.threads_per_worker, devices=1, side_by_side=True)
    built = build(plan, make("single", devices=1))
    assert built.memory is not None
    assert built.held_out is not None
    signals, names = np.zeros(SIGNALS, np.float32), built.objective.validation_metrics
    began = time.perf_counter()
    for step in range(plan.steps):
        batch = built.feed.batch(step) | built.memory.draw(step) | {"signals": signals}
        [result] = built.update([batch])
        built.memory.keep(step, {"chain": np.asarray(result["chain"])})
        if (step + 1) % job["every"] and step + 1 < plan.steps:
            continue
        with built.held_out.validation_batches() as batches:
            values = score(built.validate, batches, names, 1)
        said = {f"validation/{name}": value for name, value in values.items()}
        if step + 1 < plan.steps:
            tune.report(said)
    said["train_s"] = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        built.model.save_weights(Path(folder, "model.weights.h5"))
        tune.report(said, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    job, slots = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"job": job, "trial": tune.grid_search(job["trials"])},
            tune_config=tune.TuneConfig(reuse_actors="--fresh" not in sys.argv, max_concurrent_trials=slots),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    metric = job["metric"]
    print(json.dumps([[result.metrics[metric], result.metrics["train_s"]] for result in results]))


if __name__ == "__main__":
    main()
