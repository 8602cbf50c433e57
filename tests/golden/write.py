"""Writes the golden losses anew: `python tests/golden/write.py`. Say in the commit why they moved."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import jobs
from lehr.launch import admission, local

HERE = Path(__file__).parent

for name, text in {"ebm": jobs.EBM, "lenet": jobs.LENET}.items():
    plan = jobs.plan(text)
    with tempfile.TemporaryDirectory() as folder:
        storage = jobs.storage(Path(folder))
        admission.prepare(plan, storage.below(plan.run_id))
        local.spawn(plan, storage)
        rows = [json.dumps(row) for row in jobs.story(storage.below(plan.run_id))]
    (HERE / f"{name}.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
