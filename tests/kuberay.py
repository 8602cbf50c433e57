"""What Kubernetes objects are held against: the fields of KubeRay's RayJob and RayCluster (v1) and of pods.

Only fields that are used here, and no others: one that is misspelt, misplaced or of another type fails. It is
not KubeRay's own definition, which is in no Python package. Who adds a field holds the output against the
definition of the KubeRay in use, strictly; for what is here that was done with those of 1.6.2 and 1.7.0.
"""

from __future__ import annotations

from typing import Any

TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
LABELS = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}
NOTES = {"type": "object", "additionalProperties": TEXT}
DNS = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(m|Mi|Gi)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}


def of(**fields: Any) -> dict[str, Any]:
    """An object with these fields and no others; those with a trailing underscore must be there."""
    known = {name.rstrip("_"): value for name, value in fields.items()}
    must = [name.rstrip("_") for name in fields if name.endswith("_")]
    return {"type": "object", "properties": known, "required": must, "additionalProperties": False}


def several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


METADATA = of(name_=DNS, namespace=DNS, labels=LABELS, annotations=NOTES)
SECRET_KEY = of(name_=TEXT, key_=TEXT)
VARIABLE = of(name_=TEXT, value=TEXT, valueFrom=of(secretKeyRef_=SECRET_KEY))
CONTAINER = of(
    name_=DNS,
    image_=TEXT,
    command=several(TEXT),
    args=several(TEXT),
    env=several(VARIABLE),
    envFrom=several(of(secretRef=of(name_=TEXT, optional=FLAG))),
    ports=several(of(name_={"type": "string", "maxLength": 15}, containerPort_=COUNT)),
    resources=of(requests=QUANTITIES, limits=QUANTITIES),
    securityContext=of(allowPrivilegeEscalation=FLAG, capabilities=of(drop=several(TEXT))),
    volumeMounts=several(of(name_=DNS, mountPath_=TEXT, subPath=TEXT, readOnly=FLAG)),
)
VOLUME = of(
    name_=DNS,
    emptyDir=of(medium=TEXT, sizeLimit=QUANTITY),
    configMap=of(name_=DNS),
    secret=of(secretName_=TEXT, defaultMode=COUNT),
    persistentVolumeClaim=of(claimName_=TEXT),
)
SELECTOR = of(matchLabels_=LABELS)
TERM = of(labelSelector=SELECTOR, topologyKey_=TEXT)
POD = of(
    metadata=of(labels=LABELS),
    spec_=of(
        serviceAccountName=TEXT,
        securityContext=of(
            runAsNonRoot=FLAG,
            runAsUser=COUNT,
            runAsGroup=COUNT,
            fsGroup=COUNT,
            seccompProfile=of(type_=TEXT),
        ),
        containers_=several(CONTAINER),
        volumes=several(VOLUME),
        terminationGracePeriodSeconds=COUNT,
        nodeSelector=LABELS,
        tolerations=several(of(key=TEXT, operator=TEXT, effect=TEXT)),
        affinity=of(
            podAffinity=of(
                preferredDuringSchedulingIgnoredDuringExecution=several(
                    of(weight_=COUNT, podAffinityTerm_=TERM)
                )
            )
        ),
        topologySpreadConstraints=several(
            of(maxSkew_=COUNT, whenUnsatisfiable_=TEXT, topologyKey_=TEXT, labelSelector=SELECTOR)
        ),
    ),
)
START = {"type": "object", "additionalProperties": TEXT}
GROUP = of(
    groupName_=DNS, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT, rayStartParams_=START, template_=POD
)
CLUSTER = of(
    rayVersion=TEXT,
    authOptions=of(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=of(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=COUNT),
    headGroupSpec_=of(rayStartParams_=START, template_=POD),
    workerGroupSpecs=several(GROUP),
)
RAY_JOB = of(
    apiVersion_={"const": "ray.io/v1"},
    kind_={"const": "RayJob"},
    metadata_=METADATA,
    spec_=of(
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        submitterConfig=of(backoffLimit=COUNT),
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=CLUSTER,
    ),
)
CONFIG_MAP = of(apiVersion_={"const": "v1"}, kind_={"const": "ConfigMap"}, metadata_=METADATA, data_=NOTES)


RAY_CLUSTER = of(
    apiVersion_={"const": "ray.io/v1"}, kind_={"const": "RayCluster"}, metadata_=METADATA, spec_=CLUSTER
)
