"""`lehr manifest`: what Kubernetes gets of a job, and that it gets nothing it would refuse or misread.

`tests/kuberay.py` tells what the objects are held against.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import jobs
import kuberay
from lehr import plan as plans
from lehr import spec as specs
from lehr.errors import UserError
from lehr.launch import manifest, pods, volumes
from lehr.launch.pods import Wish
from lehr.spec import tree, writing

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(path for path in ROOT.glob("jobs/*.yaml") if not path.name.startswith("sweep-"))
STORAGE = "storage=s3://bucket/runs"


def made(job: str, *sets: str, run: str | None = None, wish: Wish | None = None) -> tuple[Any, Any]:
    """The ConfigMap and the RayJob of a job's text, as a reader of YAML gets them, after a look at both."""
    plan = plans.make(specs.parse(job, sets=sets), run_id=run)
    found = yaml.safe_load_all(writing.documents(manifest.documents(plan, wish or Wish())))
    text, ray_job = list(found)
    jsonschema.validate(text, kuberay.CONFIG_MAP)
    jsonschema.validate(ray_job, kuberay.RAY_JOB)
    return text, ray_job


def head(ray_job: Any) -> Any:
    return ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def group(ray_job: Any) -> Any:
    [only] = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return only


def container(pod: Any) -> Any:
    [only] = pod["containers"]
    return only


def worker(ray_job: Any) -> Any:
    return container(group(ray_job)["template"]["spec"])


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_of_ours_survives_the_journey(path: Path) -> None:
    """What the head reads from the ConfigMap is the same training as what was asked for."""
    asked = specs.parse(path.read_text(), sets=[STORAGE])
    text, ray_job = made(path.read_text(), STORAGE)
    there = specs.parse(text["data"]["job.yaml"])
    assert there == asked
    assert specs.spec_hash(there) == specs.spec_hash(asked)
    assert ray_job["metadata"]["annotations"]["lehr/spec-hash"] == specs.spec_hash(asked)
    assert ray_job["spec"]["entrypoint"] == f"lehr run /etc/lehr/job.yaml --run {asked.name} --address auto"


def test_head_finds_the_job_where_the_entrypoint_looks_for_it() -> None:
    text, ray_job = made(jobs.EBM, STORAGE)
    [mount] = [one for one in container(head(ray_job))["volumeMounts"] if one["name"] == "job"]
    [volume] = [one for one in head(ray_job)["volumes"] if one["name"] == "job"]
    [key] = text["data"]
    assert f"{mount['mountPath']}/{key}" in ray_job["spec"]["entrypoint"].split()
    assert volume["configMap"]["name"] == text["metadata"]["name"]


@given(
    st.recursive(
        st.text(max_size=40) | st.booleans() | st.integers(), lambda inner: st.lists(inner, max_size=4)
    )
)
@example("a\n\x85b")
@example("a\n\u2028b\r")
def test_text_stays_text_for_every_kind_of_reader(value: Any) -> None:
    written = writing.documents([{"key": value}])
    assert yaml.safe_load(written) == {"key": value}  # YAML 1.1
    assert tree.read(written, "written").value == {"key": value}  # YAML 1.2


@pytest.mark.parametrize(
    "word",
    ["on", "Yes", "null", "~", "1e4", "0o17", "1_000", "12:30:45", "2026-11-21", "1.0", "y", "", "=", "#"],
)
def test_words_that_readers_mistake_are_quoted(word: str) -> None:
    assert writing.documents([{"key": word}]) == f'---\nkey: "{word}"\n'


def test_worker_has_what_the_spec_asks_for() -> None:
    sets = ["strategy={kind: multiworker, workers: 2, devices_per_worker: 2, cpus_per_worker: 3, gpus: true}"]
    sets += ["strategy.memory_gib_per_worker=10", "strategy.accelerator=H100", "recovery.spool_gib=7"]
    _, ray_job = made(jobs.EBM, STORAGE, *sets)
    assert (
        worker(ray_job)["resources"]["limits"]
        == worker(ray_job)["resources"]["requests"]
        == {
            "cpu": "3",
            "memory": f"{(10 + pods.RAY_GIB) * 1024:.0f}Mi",
            "ephemeral-storage": f"{(7 + pods.DISK_GIB) * 1024:.0f}Mi",
            "nvidia.com/gpu": "2",
        }
    )
    assert {"--num-cpus=3", "--num-gpus=2", f"--memory={10 << 30}"} <= set(worker(ray_job)["args"])
    assert group(ray_job)["template"]["spec"]["nodeSelector"] == {"ray.io/accelerator-type": "H100"}
    assert worker(ray_job)["image"] == "lehr:gpu"
    assert (group(ray_job)["minReplicas"], group(ray_job)["replicas"], group(ray_job)["maxReplicas"]) == (
        2,
        2,
        2,
    )


def test_several_workers_share_a_pod_when_asked() -> None:
    sets = ["strategy={kind: horovod, workers: 4, cpus_per_worker: 2, gpus: true, memory_gib_per_worker: 3}"]
    _, ray_job = made(jobs.EBM, STORAGE, *sets, wish=Wish(workers_per_pod=3))
    limits = worker(ray_job)["resources"]["limits"]
    assert (limits["cpu"], limits["nvidia.com/gpu"], limits["memory"]) == ("6", "3", f"{11 * 1024}Mi")
    assert group(ray_job)["replicas"] == 2


def test_cpu_job_asks_for_no_gpu() -> None:
    _, ray_job = made(jobs.EBM, STORAGE)
    assert "nvidia.com/gpu" not in str(ray_job)
    assert worker(ray_job)["image"] == "lehr"


def test_elastic_run_begins_with_the_least_and_may_grow() -> None:
    """KubeRay submits when all pods that are asked for run. Growing is its autoscaler's, not Ray's."""
    _, ray_job = made(jobs.EBM, STORAGE, "strategy={kind: horovod, workers: [2, 5]}")
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert (group(ray_job)["minReplicas"], group(ray_job)["replicas"], group(ray_job)["maxReplicas"]) == (
        2,
        2,
        4,
    )
    assert cluster["enableInTreeAutoscaling"] is True
    assert "--no-monitor" in container(head(ray_job))["args"]
    _, fixed = made(jobs.EBM, STORAGE)
    assert fixed["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert "--no-monitor" not in container(head(fixed))["args"]


def test_kuberays_service_finds_the_head() -> None:
    """It looks for pods with the name that KubeRay gives them, which a label of ours would replace."""
    _, ray_job = made(jobs.EBM, STORAGE)
    labels = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]["labels"]
    assert not {"app.kubernetes.io/name", "app.kubernetes.io/created-by"} & set(labels)


def test_token_is_a_secrets() -> None:
    _, ray_job = made(jobs.EBM, STORAGE, wish=Wish(token_secret="team-token"))
    assert ray_job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "team-token"}


def test_pod_outlives_the_notice() -> None:
    _, ray_job = made(jobs.EBM, STORAGE, wish=Wish(notice_s=200))
    arguments = worker(ray_job)["args"]
    assert arguments[arguments.index("--notice") + 1] == "200"
    assert group(ray_job)["template"]["spec"]["terminationGracePeriodSeconds"] > 200
    assert ray_job["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    assert worker(ray_job)["command"] == ["lehr", "host"]


def test_pods_run_as_the_images_user_and_share_memory() -> None:
    _, ray_job = made(jobs.EBM, STORAGE)
    user = re.search(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    for pod in (head(ray_job), group(ray_job)["template"]["spec"]):
        assert pod["securityContext"]["runAsUser"] == int(user[1])
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container(pod)["securityContext"]["allowPrivilegeEscalation"] is False
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container(pod)["volumeMounts"]


SECRETS = [
    'storage_options={key: "env:S3_KEY", secret: "file:/run/secrets/s3", endpoint_url: "https://s3.example.org"}',
    'tracking.wandb={project: lehr, api_key: "env:WANDB_API_KEY"}',
]


def test_secrets_are_named_in_every_pod_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_KEY", "the-very-secret")
    _, ray_job = made(jobs.EBM, STORAGE, *SECRETS)
    assert "the-very-secret" not in str(ray_job)
    for pod in (head(ray_job), group(ray_job)["template"]["spec"]):
        found = {
            one["name"]: one["valueFrom"]["secretKeyRef"]
            for one in container(pod)["env"]
            if "valueFrom" in one
        }
        assert found == {name: {"name": "lehr-secrets", "key": name} for name in ("S3_KEY", "WANDB_API_KEY")}
        [mount] = [one for one in container(pod)["volumeMounts"] if one["mountPath"] == "/run/secrets/s3"]
        [volume] = [one for one in pod["volumes"] if one["name"] == mount["name"]]
        assert (mount["subPath"], volume["secret"]["secretName"]) == ("s3", "lehr-secrets")


def test_secret_may_be_elsewhere() -> None:
    given_ = volumes.chosen(
        ["S3_KEY=team/access-key", "/run/secrets/s3=team/secret-key", "HF_TOKEN=hub/token"]
    )
    _, ray_job = made(jobs.EBM, STORAGE, *SECRETS, wish=Wish(secrets=given_))
    found = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in worker(ray_job)["env"]}
    assert found["S3_KEY"] == {"name": "team", "key": "access-key"}
    assert found["HF_TOKEN"] == {"name": "hub", "key": "token"}
    assert found["WANDB_API_KEY"]["name"] == "lehr-secrets"
    [mount] = [one for one in worker(ray_job)["volumeMounts"] if one["mountPath"] == "/run/secrets/s3"]
    assert mount["subPath"] == "secret-key"


def test_secret_of_a_tracker_that_is_off_is_not_asked_for() -> None:
    off = 'tracking.wandb={project: lehr, mode: "offline", api_key: "env:WANDB_API_KEY"}'
    _, ray_job = made(jobs.EBM, STORAGE, off)
    assert "WANDB_API_KEY" not in str(worker(ray_job)["env"])


def test_volume_holds_what_is_local() -> None:
    wish = Wish(volume=volumes.volume("team-data:/data"))
    sets = ["storage=runs", "data={kind: mnist, image_size: 16, range: [-1, 1], root: /data/mnist}"]
    text, ray_job = made(jobs.EBM, *sets, wish=wish)
    there = specs.parse(text["data"]["job.yaml"])
    assert (there.storage, there.data.root) == ("/data/runs", "/data/mnist")
    for pod in (head(ray_job), group(ray_job)["template"]["spec"]):
        assert {"name": "shared", "mountPath": "/data"} in container(pod)["volumeMounts"]
        assert {"name": "shared", "persistentVolumeClaim": {"claimName": "team-data"}} in pod["volumes"]


LOCAL = {
    "relative": (["storage=runs"], Wish(), "storage: runs is a folder of one machine"),
    "absolute": (["storage=/srv/runs"], Wish(), "/srv/runs is a folder of one machine"),
    "file": (["storage=file:///srv/runs"], Wish(), "is a folder of one machine"),
    "memory": (
        ["storage=memory://a"],
        Wish(volume=volumes.Volume("c")),
        "memory://a exists in one process only",
    ),
    "outside": (["storage=/srv/runs"], Wish(volume=volumes.Volume("c")), "lies outside the volume"),
    "climbs out": (["storage=../runs"], Wish(volume=volumes.Volume("c")), "lies outside the volume"),
    "data": (
        [STORAGE, "data={kind: mnist, range: [-1, 1], root: mnist}"],
        Wish(),
        "data.root: mnist is a folder of one machine",
    ),
    "weights": (
        [STORAGE, "init_from={run: runs/a}"],
        Wish(),
        "init_from.run: runs/a is a folder of one machine",
    ),
    "relative secret": (
        [STORAGE, 'storage_options={key: "file:s3"}'],
        Wish(),
        "file:s3: a pod has no such place",
    ),
    "secret below": ([STORAGE, 'storage_options={key: "file:/a/../b"}'], Wish(), "a pod has no such place"),
    "Ray's variable": ([STORAGE, 'storage_options={key: "env:RAY_ADDRESS"}'], Wish(), "env:RAY_ADDRESS"),
}


@pytest.mark.parametrize(("sets", "wish", "told"), LOCAL.values(), ids=list(LOCAL))
def test_what_pods_do_not_have_is_told(sets: list[str], wish: Wish, told: str) -> None:
    with pytest.raises(UserError) as refused:
        made(jobs.EBM, *sets, wish=wish)
    assert told in str(refused.value)
    assert "Traceback" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["S3_KEY", "S3_KEY=a", "S3_KEY=a/", "=a/b", "S3_KEY=A/b", "a b=c/d", "S3=a/b/c"]
)
def test_bad_secret_is_told(text: str) -> None:
    with pytest.raises(UserError, match="--secret"):
        volumes.chosen([text])


@pytest.mark.parametrize("text", ["", ":/data", "claim:data", "Claim", "claim:/", "claim:/."])
def test_bad_claim_is_told(text: str) -> None:
    with pytest.raises(UserError, match="--volume-claim"):
        volumes.volume(text)


RUN = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)


@given(RUN, RUN)
def test_names_are_kubernetess_and_runs_do_not_share_one(first: str, second: str) -> None:
    for run in (first, second):
        jsonschema.validate(manifest.object_name(run), kuberay.DNS)
    assert (manifest.object_name(first) == manifest.object_name(second)) == (first == second)


def test_good_name_stays() -> None:
    assert manifest.object_name("ebm-digits") == "ebm-digits"


@pytest.mark.parametrize("placement", ["spread", "pack"])
def test_placement_is_a_wish_that_keeps_no_pod_waiting(placement: str) -> None:
    _, ray_job = made(jobs.EBM, STORAGE, f"strategy.placement={placement}")
    where = group(ray_job)["template"]["spec"]
    assert ("topologySpreadConstraints" in where, "affinity" in where) == (
        placement == "spread",
        placement == "pack",
    )


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lehr", "manifest", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_command_prints_only_the_manifest_and_loads_nothing_heavy() -> None:
    words = ["manifest", "jobs/ebm-digits.yaml", "--set", STORAGE, "--run", "Trial.7", "--namespace", "ml"]
    program = (
        "import sys\nfrom lehr.cli.app import main\ntry:\n    main()\nexcept SystemExit as left:\n"
        "    heavy = {'ray', 'tensorflow', 'keras', 'wandb'} & set(sys.modules)\n"
        "    sys.exit(f'heavy: {heavy}' if heavy else left.code)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    text, ray_job = yaml.safe_load_all(said.stdout)
    assert {one["metadata"]["namespace"] for one in (text, ray_job)} == {"ml"}
    assert "--run Trial.7 " in ray_job["spec"]["entrypoint"]
    assert "note: strategy.memory_gib_per_worker is not set" in said.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "storage=runs"],
        ["--set", STORAGE, "--namespace", "Bad Name"],
        ["--set", STORAGE, "--secret", "A"],
        ["--set", STORAGE, "--node-label", "a"],
        ["--set", STORAGE, "--token-secret", ""],
        ["--set", STORAGE, "--run", "../up"],
    ],
    ids=lambda words: " ".join(words),
)
def test_mistake_is_a_letter_and_nothing_is_printed(words: list[str]) -> None:
    said = run_command("jobs/ebm-digits.yaml", *words)
    assert (said.returncode, said.stdout) == (2, "")
    assert "  accepted: " in said.stderr
    assert "Traceback" not in said.stderr
