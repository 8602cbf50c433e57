"""The pods of a run on Kubernetes: a head that computes nothing, and workers of the spec's size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.launch import volumes
from lehr.launch.volumes import Mounted, Volume
from lehr.plan import Plan

MARGIN_S = 30  # after the notice, for Ray and the pod itself to end
USER = 1000  # of the image
DEFAULT_GIB = 4.0  # of memory, for a worker whose spec does not say
RAY_GIB = 2.0  # for Ray's own processes and its object store
SHARED_GIB = 1  # of /dev/shm, in which Ray's objects and NCCL's buffers lie
SHARED_GIB_GPU = 4
STORE_BYTES = 256 << 20  # nothing of ours goes through Ray's object store
DISK_GIB = 5.0  # of local disk, beside the spool: logs, downloads
ACCELERATOR = "ray.io/accelerator-type"
_GIB = 1 << 30
# A host that does not answer is given up after about 15 s, not Ray's 30 and more.
HEALTH = {
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
# Ports that KubeRay's probes and its Service look for.
PORTS = ("--metrics-export-port=8080", "--dashboard-agent-listen-port=52365")

Document = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What a job file does not say of its pods.

    Args:
        image: of head and workers; None: lehr, or lehr:gpu.
        namespace: of all objects; None leaves it to kubectl.
        service_account: of the pods: the role by which they reach object storage.
        token_secret: the Secret with the cluster's token under the key auth_token.
        notice_s: seconds that a worker has to leave with a checkpoint when its pod is taken away.
        secrets: Secret and key by environment variable or path.
        volume: that all pods share.
        node_labels: labels that the workers' machines must have.
        workers_per_pod: workers in one pod.
    """

    image: str | None = None
    namespace: str | None = None
    service_account: str | None = None
    token_secret: str = "lehr-token"
    notice_s: int = 90
    secrets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    volume: Volume | None = None
    node_labels: Mapping[str, str] = field(default_factory=dict)
    workers_per_pod: int = 1


def labels(name: str) -> dict[str, str]:
    """Labels of everything that belongs to a run; KubeRay's Service finds the head by the label `name`."""
    return {"app.kubernetes.io/part-of": "lehr", "lehr/run": name}


def graphics(plan: Plan) -> int:
    """GPUs of one worker. A pod sees only those it asks for: `auto` asks when the spec names a type."""
    strategy = plan.spec.strategy
    asked = strategy.gpus is True or (strategy.gpus == "auto" and strategy.accelerator is not None)
    return plan.devices_per_worker if asked else 0


def head(plan: Plan, name: str, wish: Wish, *, extra: Mounted, scaled: bool) -> Document:
    """The head's pod: it holds the cluster together and the driver, and no worker."""
    words = ["--head", "--", "--num-cpus=0", "--num-gpus=0", "--dashboard-host=0.0.0.0", *PORTS]
    words += ["--no-monitor"] if scaled else []  # KubeRay's autoscaler stands beside it
    container = _container(plan, wish, "head", words, _amounts(cpus=2, gib=4.0, disk_gib=DISK_GIB))
    container["env"] += [{"name": key, "value": value} for key, value in HEALTH.items()]
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "metrics", "containerPort": 8080},
    ]
    return _pod(plan, name, wish, container, extra)


def worker(plan: Plan, name: str, wish: Wish) -> Document:
    """A worker's pod; it has room for `wish.workers_per_pod` of them."""
    cpus = plan.threads_per_worker * wish.workers_per_pod
    gpus = graphics(plan) * wish.workers_per_pod
    gib = (plan.spec.strategy.memory_gib_per_worker or DEFAULT_GIB) * wish.workers_per_pod
    disk = plan.spec.recovery.spool_gib * wish.workers_per_pod + DISK_GIB
    amounts = _amounts(cpus=cpus, gib=gib + RAY_GIB, disk_gib=disk, gpus=gpus)
    words = ["--address", "$(RAY_ADDRESS)", "--notice", str(wish.notice_s), "--"]
    words += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--memory={int(gib * _GIB)}", *PORTS]
    container = _container(plan, wish, "worker", words, amounts)
    container["ports"] = [{"name": "metrics", "containerPort": 8080}]
    pod = _pod(plan, name, wish, container, Mounted())
    pod["spec"]["terminationGracePeriodSeconds"] = wish.notice_s + MARGIN_S
    pod["spec"] |= _where(plan, name, wish, gpus=gpus)
    return pod


def _container(plan: Plan, wish: Wish, name: str, words: list[str], amounts: Document) -> Document:
    return {
        "name": name,
        "image": wish.image or ("lehr:gpu" if graphics(plan) else "lehr"),
        # The pod's first process hears SIGTERM, and has the workers leave with a checkpoint.
        "command": ["lehr", "host"],
        "args": [*words, f"--object-store-memory={STORE_BYTES}"],
        "env": volumes.environment(plan.spec, wish.secrets),
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _amounts(*, cpus: int, gib: float, disk_gib: float, gpus: int = 0) -> Document:
    amounts = {"cpu": str(cpus), "memory": _size(gib), "ephemeral-storage": _size(disk_gib)}
    return amounts | ({"nvidia.com/gpu": str(gpus)} if gpus else {})


def _size(gib: float) -> str:
    return f"{math.ceil(gib * 1024)}Mi"


def _pod(plan: Plan, name: str, wish: Wish, container: Document, extra: Mounted) -> Document:
    shared = SHARED_GIB_GPU if graphics(plan) else SHARED_GIB
    memory = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shared}Gi"}}
    whole = Mounted([memory], [{"name": "shared-memory", "mountPath": "/dev/shm"}])
    whole = whole + extra + volumes.mounted(wish.volume) + volumes.files(plan.spec, wish.secrets)
    account = {"serviceAccountName": wish.service_account} if wish.service_account else {}
    return {
        "metadata": {"labels": labels(name)},
        "spec": {
            **account,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{**container, "volumeMounts": whole.mounts}],
            "volumes": whole.volumes,
        },
    }


def _where(plan: Plan, name: str, wish: Wish, *, gpus: int) -> Document:
    """On which machines: the type of GPU; together or apart, if that keeps no pod waiting."""
    accelerator = plan.spec.strategy.accelerator
    wanted = dict(wish.node_labels) or ({ACCELERATOR: accelerator} if accelerator else {})
    found: Document = {"nodeSelector": wanted} if wanted else {}
    if gpus:
        found["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    ours = {"labelSelector": {"matchLabels": {"lehr/run": name}}, "topologyKey": "kubernetes.io/hostname"}
    if plan.spec.strategy.placement == "spread":
        found["topologySpreadConstraints"] = [{"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", **ours}]
    else:
        preferred = [{"weight": 100, "podAffinityTerm": ours}]
        found["affinity"] = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    return found
