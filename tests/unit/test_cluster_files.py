"""The files of `cluster/`, as far as they can be known to be good without a cloud.

Launcher files are held against Ray's own schema and run through Ray's own code: its defaults, its preparation
for a cloud, its request for a machine. The clouds' sides are their own libraries' descriptions of requests,
with answers from here. No cloud is asked: nothing here proves quotas, prices, images or permissions.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import kuberay

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
CLOUDS = {"aws": ("aws", 120), "gcp": ("gcp", 30)}  # and the seconds of notice that each gives
SECRET = re.compile(
    r"(?i)(AKIA|ASIA)[A-Z0-9]{16}|-----BEGIN|secret_access_key['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9/+]{40}"
)


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text())


def prepared(cloud: str) -> dict[str, Any]:
    """The launcher file as `ray up` sees it: with Ray's defaults, and accepted by Ray's schema."""
    from ray.autoscaler._private import util

    config: dict[str, Any] = util.prepare_config(read(f"{cloud}.yaml"))
    util.validate_config(config)
    return config


def hosts(commands: list[str]) -> list[list[str]]:
    """The words after each `lehr host` in shell commands."""
    found = []
    for command in commands:
        words = shlex.split(command)
        if "host" in words and words[words.index("host") - 1].endswith("lehr"):
            words = words[words.index("host") + 1 :]
            end = next((i for i, word in enumerate(words) if word in (">", "2>&1", "&")), len(words))
            found.append(words[:end])
    return found


def all_hosts() -> dict[str, list[str]]:
    """What every file here gives to `lehr host`."""
    found = {}
    for cloud in CLOUDS:
        for role in ("head", "worker"):
            [found[f"{cloud} {role}"]] = hosts(read(f"{cloud}.yaml")[f"{role}_start_ray_commands"])
    for name, spec in (("raycluster", raycluster()["spec"]), ("rayjob", rayjob()["spec"]["rayClusterSpec"])):
        [group] = spec["workerGroupSpecs"]
        for role, template in (("head", spec["headGroupSpec"]["template"]), ("worker", group["template"])):
            [container] = template["spec"]["containers"]
            assert container["command"] == ["lehr", "host"]
            found[f"{name} {role}"] = container["args"]
    for role in ("head", "worker"):
        first, *words = read("compose.yaml")["services"][role]["command"]
        assert first == "host"
        found[f"compose {role}"] = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in words]
    return found


def raycluster() -> Any:
    return read("kubernetes/raycluster.yaml")


def rayjob() -> Any:
    *_, job = yaml.safe_load_all((CLUSTER / "kubernetes/rayjob.yaml").read_text())
    return job


@pytest.mark.parametrize("where", list(all_hosts()))
def test_hosts_are_started_as_lehr_and_ray_take_it(where: str) -> None:
    """Both parsers read the words; nothing is started."""
    from ray.scripts import scripts
    from typer.main import get_command

    from lehr.cli.app import application

    words = all_hosts()[where]
    ours: Any = get_command(application())
    parsed = ours.commands["host"].make_context("host", list(words)).params
    assert parsed["head"] is where.endswith("head")
    first = ["--head"] if parsed["head"] else [f"--address={parsed['address']}"]
    rays = scripts.start.make_context("start", [*first, *parsed["words"]]).params
    if parsed["head"]:
        assert (rays["num_cpus"], rays["num_gpus"]) == (0, 0), "the head is for no worker"
    assert rays["metrics_export_port"] == 8080


@pytest.mark.parametrize("cloud", list(CLOUDS))
def test_launcher_file_is_rays(cloud: str) -> None:
    config = prepared(cloud)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    workers = {k: v for k, v in config["available_node_types"].items() if k != config["head_node_type"]}
    for kind in workers.values():
        assert kind["min_workers"] == 0, "idle machines cost"
        assert kind["max_workers"] <= config["max_workers"]
    assert config["idle_timeout_minutes"] <= 15
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("cloud", list(CLOUDS))
def test_token_is_asked_for_and_goes_to_every_host(cloud: str) -> None:
    config = prepared(cloud)
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    home = re.search(r"^ENV HOME=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert home
    assert config["file_mounts"] == {f"{home[1]}/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("cloud", list(CLOUDS))
def test_image_runs_rays_command_and_not_its_own(cloud: str) -> None:
    """Ray gives the image the command `bash`; the image's entrypoint is lehr."""
    from ray.autoscaler._private.docker import docker_start_cmds

    docker = prepared(cloud)["docker"]
    line = docker_start_cmds(
        "ubuntu",
        docker["image"],
        {},
        docker["container_name"],
        docker["run_options"],
        "lehr",
        "/home/lehr",
        "docker",
    )
    words = shlex.split(line)
    assert words[-2:] == [docker["image"], "bash"]
    assert "--entrypoint=/usr/bin/env" in words


@pytest.mark.parametrize("cloud", list(CLOUDS))
def test_commands_are_shells(cloud: str) -> None:
    config = prepared(cloud)
    for key in (name for name in config if name.endswith("commands")):
        for command in config[key]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("cloud", list(CLOUDS))
def test_worker_leaves_within_the_clouds_notice(cloud: str) -> None:
    watched, notice = CLOUDS[cloud]
    words = all_hosts()[f"{cloud} worker"]
    assert words[words.index("--watch") + 1] == watched
    assert int(words[words.index("--notice") + 1]) < notice


@pytest.mark.parametrize("path", sorted(CLUSTER.rglob("*.yaml")), ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not SECRET.search(text)
    assert "ssh_private_key" not in text
    assert "gcp_credentials" not in text
    assert "aws_credentials" not in text


# --- AWS --------------------------------------------------------------------------------------------

SUBNET = {
    "SubnetId": "subnet-1", "VpcId": "vpc-1", "State": "available", "MapPublicIpOnLaunch": True,
    "AvailabilityZone": "us-west-2a",
}  # fmt: skip
OFFER = {
    "InstanceType": "g6.xlarge", "VCpuInfo": {"DefaultVCpus": 4}, "MemoryInfo": {"SizeInMiB": 16384},
    "GpuInfo": {"Gpus": [{"Name": "L4", "Manufacturer": "NVIDIA", "Count": 1}]},
}  # fmt: skip


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An EC2 client of boto3's that checks requests, answers with what is put in, and sends nothing."""
    from botocore.stub import Stubber
    from ray.autoscaler._private.aws import config, utils

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    utils.resource_cache.cache_clear()
    config._get_subnets_or_die.cache_clear()
    with Stubber(config.resource_cache("ec2", "us-west-2").meta.client) as stub:
        yield stub
    utils.resource_cache.cache_clear()
    config._get_subnets_or_die.cache_clear()


def test_aws_is_prepared_without_asking_for_a_role(amazon: Any) -> None:
    """All of Ray's preparation for AWS: roles are those of the file, key pair, subnet and group are found."""
    from ray.autoscaler._private.aws import config as aws

    key, path = aws.key_pair(0, "us-west-2", None)
    Path(path).parent.mkdir(parents=True)
    Path(path).write_text("a key")
    group = {"GroupId": "sg-1", "GroupName": "ray-autoscaler-lehr", "VpcId": "vpc-1"}
    amazon.add_response("describe_key_pairs", {"KeyPairs": [{"KeyName": key}]})
    for answer in ("describe_subnets",) * 2:
        amazon.add_response(answer, {"Subnets": [SUBNET]})
    amazon.add_response("describe_security_groups", {"SecurityGroups": [group | {"IpPermissions": [{}]}]})
    ready = aws.bootstrap_aws(prepared("aws"))
    kinds = ready["available_node_types"]
    assert kinds["head"]["node_config"]["IamInstanceProfile"] == {"Name": "lehr-head"}
    assert kinds["gpu-spot"]["node_config"]["IamInstanceProfile"] == {"Name": "lehr-worker"}
    for kind in kinds.values():
        assert kind["node_config"]["SecurityGroupIds"] == ["sg-1"]
        assert kind["node_config"]["SubnetIds"] == ["subnet-1"]
        assert kind["node_config"]["ImageId"].startswith("resolve:ssm:")


def test_aws_knows_what_a_worker_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.aws import node_provider

    config = prepared("aws")
    head = {"InstanceType": "m7i.large", "VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 8192}}
    monkeypatch.setattr(node_provider, "list_ec2_instances", lambda *_: [OFFER, head])
    filled = node_provider.AWSNodeProvider.fillout_available_node_types_resources(config)[
        "available_node_types"
    ]
    assert filled["head"]["resources"]["CPU"] == 0
    worker = filled["gpu-spot"]["resources"]
    assert (worker["CPU"], worker["GPU"], worker["accelerator_type:L4"]) == (4, 1, 1)
    assert worker["memory"] > 8 << 30


@pytest.mark.parametrize("kind", ["head", "gpu-spot"])
def test_aws_takes_the_request_for_a_machine(kind: str) -> None:
    """Botocore's description of RunInstances checks Ray's request; workers are spot, the head is not."""
    import botocore.session
    from botocore.validate import ParamValidator

    config = copy.deepcopy(prepared("aws")["available_node_types"][kind]["node_config"])
    request = {**config, "SubnetId": "subnet-1", "SecurityGroupIds": ["sg-1"], "MinCount": 1, "MaxCount": 1}
    service = botocore.session.get_session().get_service_model("ec2")
    shape = service.operation_model("RunInstances").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""
    values = {name: shape.members[name].enum for name in ("InstanceType",)}
    assert config["InstanceType"] in values["InstanceType"]
    market = config.get("InstanceMarketOptions", {}).get("MarketType")
    assert market == (None if kind == "head" else "spot")
    assert config["MetadataOptions"]["HttpTokens"] == "required"
    assert all(disk["Ebs"]["DeleteOnTermination"] for disk in config["BlockDeviceMappings"])


# --- Google Cloud -----------------------------------------------------------------------------------


def compute() -> dict[str, Any]:
    """Google's own description of its compute API, as its library carries it."""
    from googleapiclient.discovery_cache import documents

    described: dict[str, Any] = json.loads((Path(documents.__path__[0]) / "compute.v1.json").read_text())
    return described


def unknown(value: Any, schema: dict[str, Any], schemas: dict[str, Any], path: str = "") -> list[str]:
    """Fields of `value` that the description does not know, or whose values it does not take."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        found = [f"{path}.{name}" for name in value if name not in known]
        inner = [(name, value[name], known[name]) for name in value if name in known]
        return found + [
            bad for name, one, its in inner for bad in unknown(one, its, schemas, f"{path}.{name}")
        ]
    if isinstance(value, list):
        if schema.get("type") != "array":
            return [f"{path}: a list"]
        return [bad for one in value for bad in unknown(one, schema["items"], schemas, f"{path}[]")]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value}"]
    types = {"boolean": bool, "integer": int, "string": (str, int), "object": dict, "array": list}
    return [] if isinstance(value, types[schema["type"]]) else [f"{path}: {value!r}"]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["head", "gpu-spot"])
def test_google_takes_the_request_for_a_machine(kind: str) -> None:
    schemas = compute()["schemas"]
    config = prepared("gcp")["available_node_types"][kind]["node_config"]
    assert unknown(config, {"$ref": "Instance"}, schemas) == []
    planted = copy.deepcopy(config) | {"scheduling": {"preemptable": True}}
    assert unknown(planted, {"$ref": "Instance"}, schemas) == [".scheduling.preemptable"]
    assert all(disk["autoDelete"] for disk in config["disks"])
    if kind != "head":
        assert config["scheduling"]["provisioningModel"] == "SPOT"
        assert config["scheduling"]["instanceTerminationAction"] == "DELETE"
        [account] = config["serviceAccounts"]
        assert account["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]


def test_google_is_prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of Ray's preparation for Google Cloud, with answers from here in place of Google's."""
    from ray.autoscaler._private.gcp import config as gcp
    from ray.autoscaler._private.gcp.node import GCPCompute

    monkeypatch.setenv("HOME", str(tmp_path))
    sent: list[tuple[str, Any]] = []
    answers = {
        "projects.get": {"projectId": "your-project", "lifecycleState": "ACTIVE", "name": "your-project",
                         "commonInstanceMetadata": {"items": []}},
        "serviceAccounts.get": {"email": "ray@your-project.example.org", "projectId": "your-project"},
        "projects.getIamPolicy": {"bindings": []},
        "projects.setIamPolicy": {},
        "projects.setCommonInstanceMetadata": {"name": "operation"},
        "globalOperations.get": {"status": "DONE"},
        "subnetworks.list": {"items": [{"selfLink": "a-subnet"}]},
        "instances.insert": {"name": "operation"},
    }  # fmt: skip
    cloud = Google(answers, sent)
    monkeypatch.setattr(gcp, "construct_clients_from_provider_config", lambda _: (cloud, cloud, cloud, None))
    ready = gcp.bootstrap_gcp(prepared("gcp"))
    assert ready["head_node"]["serviceAccounts"][0]["email"].startswith("ray@")
    worker = ready["available_node_types"]["gpu-spot"]["node_config"]
    assert worker["serviceAccounts"][0]["email"].startswith("lehr-worker@")
    provider = GCPCompute(cloud, "your-project", "us-central1-a", "lehr")
    monkeypatch.setattr(provider, "get_new_authorized_http", lambda http: None)
    provider.create_instance(worker, {"ray-node-name": "ray-lehr-worker"}, wait_for_operation=False)
    [body] = [given["body"] for name, given in sent if name == "instances.insert"]
    assert unknown(body, {"$ref": "Instance"}, compute()["schemas"]) == []


class Google:
    """A client of Google's: any chain of calls up to `execute`, which answers by the last two names."""

    _http = None

    def __init__(self, answers: dict[str, Any], sent: list[tuple[str, Any]], *names: str) -> None:
        self._answers, self._sent, self._names = answers, sent, names
        self._given: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(**given: Any) -> Google:
            made = Google(self._answers, self._sent, *self._names, name)
            made._given = given
            return made

        return call

    def execute(self, http: Any = None) -> Any:
        name = ".".join(self._names[-2:])
        self._sent.append((name, self._given))
        return copy.deepcopy(self._answers[name])


# --- Kubernetes -------------------------------------------------------------------------------------


def test_raycluster_has_only_known_fields() -> None:
    jsonschema.validate(raycluster(), kuberay.RAY_CLUSTER)


def test_rayjob_is_what_the_command_writes() -> None:
    text = (CLUSTER / "kubernetes/rayjob.yaml").read_text()
    [command] = re.findall(r"^#   (lehr manifest .*)$", text, re.MULTILINE)
    words = [sys.executable, "-m", *shlex.split(command)]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    body = text[text.index("---\n") :]
    assert body == said.stdout, f"behind: put what `{command}` prints below the comments"


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_rays_autoscaler_reads_the_groups(name: str) -> None:
    """The autoscaler beside the head makes its own configuration of the object; so does this."""
    import ray
    from ray.autoscaler._private import util
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    spec = raycluster()["spec"] if name == "raycluster" else rayjob()["spec"]["rayClusterSpec"]
    assert spec["rayVersion"] == ray.__version__
    made = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "lehr", "namespace": "ml"}, "spec": spec}
    )
    util.validate_config(made)
    head, worker = made["available_node_types"].values()
    assert worker["resources"]["GPU"] == 1
    assert worker["max_workers"] == 4
    assert head["max_workers"] == 0


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_pods_memory_holds_what_ray_is_told(name: str) -> None:
    spec = raycluster()["spec"] if name == "raycluster" else rayjob()["spec"]["rayClusterSpec"]
    [group] = spec["workerGroupSpecs"]
    pod = group["template"]["spec"]
    [container] = pod["containers"]
    [told] = [int(word.partition("=")[2]) for word in container["args"] if word.startswith("--memory=")]
    number, unit = re.fullmatch(r"(\d+)([GM])i", container["resources"]["limits"]["memory"]).groups()  # type: ignore[union-attr]
    assert told + (1 << 30) <= int(number) << {"G": 30, "M": 20}[unit]
    notice = int(container["args"][container["args"].index("--notice") + 1])
    assert pod["terminationGracePeriodSeconds"] >= notice + 10
    assert pod["securityContext"]["runAsNonRoot"] is True


# --- compose ----------------------------------------------------------------------------------------

SERVICE = {
    "image", "init", "shm_size", "restart", "environment", "command", "hostname", "ports", "depends_on",
    "healthcheck", "stop_grace_period", "deploy", "volumes", "profiles",
}  # fmt: skip


def services() -> dict[str, Any]:
    return dict(read("compose.yaml")["services"])


def test_compose_has_a_head_two_workers_and_a_store() -> None:
    there = services()
    assert {"head", "worker", "s3"} <= set(there)
    assert there["worker"]["deploy"]["replicas"] == 2
    for name, service in there.items():
        assert set(service) <= SERVICE, name
        assert "@" in service["image"] or ":" in service["image"], f"{name}: an image without a version"


def test_compose_refuses_without_the_token() -> None:
    for name in ("head", "worker"):
        environment = services()[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        for key in ("RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert re.match(r"\$\{\w+:\?", environment[key]), key
    assert "${RAY_AUTH_TOKEN:-" not in (CLUSTER / "compose.yaml").read_text()


def test_compose_mounts_what_is_there() -> None:
    declared = read("compose.yaml")["volumes"]
    for service in services().values():
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert source in declared or (CLUSTER / source).exists(), mount
    command = " ".join(services()["prometheus"]["command"])
    [inside] = re.findall(r"--config\.file=(\S+)", command)
    assert (CLUSTER / "monitoring" / Path(inside).name).exists()


def test_compose_listens_on_this_machine_only() -> None:
    ports = [port for service in services().values() for port in service.get("ports", ())]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_compose_waits_for_what_is_needed_and_lets_workers_leave() -> None:
    there = services()
    for service in there.values():
        for needed in service.get("depends_on", ()):
            assert needed in there
            if isinstance(service["depends_on"], dict):
                assert "healthcheck" in there[needed]
    words = there["worker"]["command"]
    assert int(there["worker"]["stop_grace_period"].removesuffix("s")) > int(
        words[words.index("--notice") + 1]
    )
    assert there["worker"]["init"] is True


def test_compose_store_and_jobs_speak_of_the_same_place() -> None:
    there = services()
    endpoint = there["worker"]["environment"]["AWS_ENDPOINT_URL"]
    port = endpoint.rpartition(":")[2]
    assert endpoint == f"http://s3:{port}"
    assert f":{port}/" in " ".join(there["s3"]["healthcheck"]["test"])
    bucket = there["s3"]["environment"]["S3_BUCKET"]
    assert f"storage=s3://{bucket}/" in (CLUSTER / "compose.yaml").read_text()


# --- the page ---------------------------------------------------------------------------------------


def test_page_names_every_file() -> None:
    page = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*.yaml"):
        assert path.name in page, path.name
    for path in CLUSTER.iterdir():
        assert path.name == "README.md" or path.name.startswith(".") or path.name in page, path.name
