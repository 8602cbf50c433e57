"""The Kubernetes objects of one job: KubeRay's RayJob, and a ConfigMap that holds the job's text.

`lehr manifest` prints them; no cluster is asked. Fields are those of KubeRay 1.6 and 1.7, which take the
token's Secret by its name (`authOptions.secretName`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import re
import shlex
from typing import Any

from lehr import spec as specs
from lehr.errors import UserError, letter
from lehr.launch import pods, volumes
from lehr.launch.pods import Wish
from lehr.plan import Plan

JOB_FOLDER = "/etc/lehr"
JOB_FILE = "job.yaml"
LONGEST_NAME = 47  # KubeRay makes longer names of it
LARGEST_TEXT = 900_000  # bytes; an object of Kubernetes has about a million
RETRIES = 1  # a new cluster for the job, which goes on from the last checkpoint: for a head that died
SUBMISSIONS = 10  # tries to submit again to a head that came back
KEPT_S = 300  # time in which logs of a finished cluster can still be read

Document = dict[str, Any]


def documents(plan: Plan, wish: Wish) -> list[Document]:
    """The objects to apply, in order.

    Args:
        plan: the run.
        wish: what the job file does not say: image, namespace, Secrets, volume ...

    Raises:
        UserError: the job names a place that pods do not have, or a secret that cannot be handed to them.
    """
    plan = dataclasses.replace(plan, spec=volumes.placed(plan.spec, wish.volume))
    name = object_name(plan.run_id)
    return [_job_text(plan, name, wish), _ray_job(plan, name, wish)]


def object_name(run_id: str) -> str:
    """The name of the run's objects: the run's own where Kubernetes takes it, else one like it with a sum."""
    word = re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")
    if word == run_id and word[0].isalpha() and len(word) <= LONGEST_NAME:
        return word
    word = word if word[:1].isalpha() else f"run-{word}"
    return f"{word[: LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def _metadata(plan: Plan, name: str, wish: Wish) -> Document:
    place = {"namespace": wish.namespace} if wish.namespace else {}
    annotations = {"lehr/run": plan.run_id, "lehr/spec-hash": plan.spec_hash}
    return {"name": name, **place, "labels": pods.labels(name), "annotations": annotations}


def _job_text(plan: Plan, name: str, wish: Wish) -> Document:
    text = specs.text(plan.spec)
    if len(text.encode()) > LARGEST_TEXT:
        came = f"{len(text.encode()):,} bytes do not fit into a ConfigMap"
        raise UserError(letter("the job file", came, accepted=f"at most {LARGEST_TEXT:,} bytes"))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, name, wish),
        "data": {JOB_FILE: text},
    }


def _ray_job(plan: Plan, name: str, wish: Wish) -> Document:
    metadata = _metadata(plan, name, wish)
    # Without it KubeRay writes its own `ray start` over ours, and nobody would hear SIGTERM.
    metadata["annotations"]["ray.io/overwrite-container-cmd"] = "true"
    run = shlex.quote(plan.run_id)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": f"lehr run {JOB_FOLDER}/{JOB_FILE} --run {run} --address auto",
            "submissionMode": "K8sJobMode",
            "submitterConfig": {"backoffLimit": SUBMISSIONS},
            "backoffLimit": RETRIES,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEPT_S,
            "rayClusterSpec": _cluster(plan, name, wish),
        },
    }


def _cluster(plan: Plan, name: str, wish: Wish) -> Document:
    elastic = len(plan.sizes) > 1
    scaling = {"autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 300}} if elastic else {}
    least, most = (-(-size // wish.workers_per_pod) for size in (plan.sizes[0], plan.sizes[-1]))
    return {
        "rayVersion": importlib.metadata.version("ray"),
        "authOptions": {"mode": "token", "secretName": wish.token_secret},
        # KubeRay submits when every pod that is asked for runs: an elastic run begins with the least.
        "enableInTreeAutoscaling": elastic,
        **scaling,
        "headGroupSpec": {
            "rayStartParams": {},
            "template": pods.head(plan, name, wish, extra=_text_volume(name), scaled=elastic),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": least,
                "minReplicas": least,
                "maxReplicas": most,
                "rayStartParams": {},
                "template": pods.worker(plan, name, wish),
            }
        ],
    }


def _text_volume(name: str) -> volumes.Mounted:
    volume = {"name": "job", "configMap": {"name": name}}
    return volumes.Mounted([volume], [{"name": "job", "mountPath": JOB_FOLDER, "readOnly": True}])
