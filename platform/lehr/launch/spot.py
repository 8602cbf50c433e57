"""A cloud's notice that a machine is about to be taken away, as its metadata service tells it."""

from __future__ import annotations

import calendar
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable

LINK_LOCAL = "http://169.254.169.254"  # where both clouds answer, on the machine itself
ANSWER_S = 2.0
TOKEN_S = 21600  # that a token of AWS's is good for; its longest
# Variables of the clouds' own libraries that say where else it answers.
AWS_ENDPOINT, GCP_HOST = "AWS_EC2_METADATA_SERVICE_ENDPOINT", "GCE_METADATA_HOST"

# From the metadata service to nobody in between: a proxy must not answer for it.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def aws() -> float | None:
    """When this machine of AWS's is taken away, in seconds since 1970; None while nobody says so.

    Raises:
        OSError: the service does not answer, or not as it should.
    """
    base = os.environ.get(AWS_ENDPOINT, LINK_LOCAL).rstrip("/")
    token = _ask(
        f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}, method="PUT"
    )
    try:
        said = _ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:  # how it says that nothing is planned
            return None
        raise
    try:
        moment = str(json.loads(said)["time"])
        return float(calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")))
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"the metadata service says {said[:200]!r}") from error


def gcp() -> float | None:
    """The same for Google's; it does not say when, but takes 30 seconds.

    Raises:
        OSError: the service does not answer.
    """
    host = os.environ.get(GCP_HOST)
    base = f"http://{host}" if host else LINK_LOCAL
    said = _ask(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return time.time() + 30.0 if said.strip() == "TRUE" else None


CLOUDS: dict[str, Callable[[], float | None]] = {"aws": aws, "gcp": gcp}


def _ask(url: str, headers: dict[str, str], *, method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with _open(request, timeout=ANSWER_S) as answer:
            return str(answer.read().decode("utf-8", errors="replace"))
    except http.client.HTTPException as error:  # half an answer, or none of HTTP
        raise OSError(f"the metadata service broke off ({type(error).__name__})") from error
