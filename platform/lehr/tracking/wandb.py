"""Weights & Biases, through its own client: one W&B run for a run of ours, whatever its number of attempts.

Session    one life of W&B's client, online: it knows how many rows W&B has, and adds rows to them
Server     what W&B has of a run, asked from outside
Offline    a tracker that writes W&B's own files beside the run: `wandb sync` sends them

The rows are those of `replay`, with `step` as the x axis of every chart.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from lehr.errors import UserError
from lehr.journal import Entry
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking import place as places
from lehr.tracking import replay
from lehr.tracking.access import key as key
from lehr.tracking.access import mode as mode
from lehr.tracking.access import required as required
from lehr.tracking.place import Place
from lehr.tracking.place import identity as identity
from lehr.tracking.replay import Row
from lehr.tracking.sending import Refused, Sender, Unsent

FOLDER = places.BEFORE
OFFLINE_S = 20.0  # that beginning and ending an offline run may take, each
END_S = 3.0  # that W&B's own process gets to end
PAGE = 500  # files of one answer
_SERVICE = "wandb-core"  # the process that W&B's client starts
_REFUSAL = re.compile(
    r"(error|HTTP|status)[ :]+(401|403)\b|PERMISSION_ERROR|not logged in|[Pp]ermission denied"
)


def config(plan: Plan, place: Place) -> dict[str, Any]:
    """What W&B shows as the run's configuration: the spec with every default, the plan's numbers, the code.

    Options of the store are left out, and where the API key is kept.
    """
    spec = plan.spec.document()
    for node in (spec, spec["data"], spec["init_from"] or {}):
        node.pop("storage_options", None)
    if spec["tracking"]["wandb"] is not None:
        spec["tracking"]["wandb"].pop("api_key", None)
    numbers = {name: value for name, value in plan.document().items() if isinstance(value, int | float)}
    told = {"spec_hash": plan.spec_hash, "code_version": place.code}
    return spec | {"plan": numbers} | told


def kill_service() -> None:
    """End W&B's own process at once; W&B's calls that wait for it, in any thread, come back with an error."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name().startswith(_SERVICE):
                child.kill()


def end_service() -> None:
    """End W&B's own process, which may take `END_S` seconds; what is unsent then stays unsent."""
    import wandb

    late = threading.Timer(END_S, kill_service)
    late.daemon = True
    late.start()
    with contextlib.suppress(Exception, SystemExit):  # its process did not end well
        wandb.teardown()
    late.cancel()


def _begin(plan: Plan, place: Place, folder: str, how: Any, suffix: str = "", **settings: Any) -> Any:
    """W&B's run, begun in the mode `how`."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")  # its login speaks before it has read its settings
    node: Any = plan.spec.tracking.wandb
    group, tags, notes = (node.group, list(node.tags), node.notes) if node is not None else (None, [], None)
    name = (node.name if node is not None else None) or plan.run_id
    kind = "train" if plan.spec.search is None else "sweep"
    run = wandb.init(
        project=place.project, entity=place.entity, group=group or plan.spec.name, name=name,
        id=place.id, resume="allow", mode=how, tags=tags or None, notes=notes, job_type=kind,
        config=config(plan, place), dir=folder, reinit="create_new",
        settings=wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True,
            x_disable_machine_info=True, x_save_requirements=False, finish_timeout_raises=True,
            x_sync_dir_suffix=suffix, **settings,
        ),
    )  # fmt: skip
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def _log(run: Any, row: Row, pictures: dict[str, bytes], folder: str) -> None:
    """Give a row to W&B's client. Pictures go as files, byte by byte as they are in the run's folder."""
    import wandb

    values = {**row.values, "step": row.step}
    place = Path(folder, FOLDER)  # W&B's own: a kill leaves nothing elsewhere
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-", dir=place) as made:
        for name, png in pictures.items():
            file = Path(made) / f"{hashlib.sha256(name.encode()).hexdigest()}.png"
            file.write_bytes(png)
            values[name] = wandb.Image(str(file))
        run.log(values, step=row.number, commit=True)


def collection(place: Place) -> str:
    """W&B's name for all checkpoints of a run."""
    return f"checkpoint-{place.id}"


class Session:
    """One life of W&B's client for a run, online. At most one at a time in a process.

    Args:
        plan: of the run.
        place: where in W&B it is.
        secret: the API key.
        init_s: how long W&B may take to answer.
        finish_s: how long it may take, at the end, to be sent all of it.

    Attributes:
        rows: that W&B had at the beginning.
        entity: whose project it is.

    Raises:
        Refused: W&B does not take the key.
        Unsent: W&B does not answer.
    """

    def __init__(self, plan: Plan, place: Place, *, secret: str, init_s: float, finish_s: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lehr-wandb-", ignore_cleanup_errors=True)
        self._place, self._secret, self._answer_s = place, secret, init_s
        try:
            self._run = _begin(
                plan, place, self._folder.name, "online",
                api_key=secret, init_timeout=init_s, finish_timeout=finish_s,
            )  # fmt: skip
        except Exception as error:
            self.close()  # or W&B's service goes on trying, and holds that the run's id is in use
            raise meant(error) from error
        self.rows = int(self._run.starting_step)
        self.entity = str(self._run.entity)

    def row(self, row: Row, pictures: dict[str, bytes]) -> None:
        """Add a row; the first is number `rows`, and each has the next number."""
        with _translated():
            _log(self._run, row, pictures, self._folder.name)

    def configure(self, told: dict[str, Any]) -> None:
        """Add to the configuration."""
        with _translated():
            self._run.config.update(told, allow_val_change=True)

    def checkpoint(self, url: str, metadata: dict[str, Any]) -> None:
        """Tell of a checkpoint: an artifact that refers to its folder and copies nothing."""
        import wandb
        from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

        with _translated():
            artifact = wandb.Artifact(collection(self._place), "model", metadata=metadata)
            # As `add_reference(url, checksum=False)` does, which loads the cloud's library, unused.
            entry = ArtifactManifestEntry(path=metadata["checkpoint"], ref=url, digest=url)
            artifact.manifest.add_entry(entry)
            self._run.log_artifact(artifact, aliases=[f"step-{metadata['step']}"])

    def server(self) -> Server:
        """W&B, asked beside what is being sent."""
        return Server(replaced(self._place, self.entity), self._secret, self._answer_s)

    def finish(self, exit_code: int) -> None:
        """Send the rest; `server` still answers.

        Raises:
            Unsent: not all of it could be sent in time.
        """
        with _translated():
            self._run.finish(exit_code=exit_code)

    def close(self) -> None:
        """End what is left of it; what was not sent stays unsent."""
        with contextlib.suppress(Exception):  # or these threads complain that W&B's process is gone
            self._run._run_status_checker.stop()
            self._run._run_messages.stop(timeout=1)
            self._run._run_status_checker.join()
        end_service()
        self._folder.cleanup()


def replaced(place: Place, entity: str) -> Place:
    """The place with its owner."""
    return Place(place.id, place.project, entity, place.code)


def meant(error: Exception) -> Exception:
    """What an error of W&B's client means for us."""
    text = " ".join(str(error).split())
    if isinstance(error, Refused | Unsent | UserError):
        return error
    if _REFUSAL.search(text):
        return Refused(text)
    return Unsent(f"{type(error).__name__}: {text}"[:400])


class Client:
    """Begins sessions of a run.

    Args:
        run: the run's folder.
        init_s: how long W&B may take to answer.
        finish_s: how long it may take, at the end, to be sent all of it.
    """

    def __init__(self, run: Store, *, init_s: float, finish_s: float) -> None:
        self._run, self._init_s, self._finish_s = run, init_s, finish_s

    def begin(self, plan: Plan) -> Session:
        """A session, with W&B's run begun or gone on with.

        Raises:
            UserError: there is no key.
            StorageError: which W&B run it is cannot be read or kept.
        """
        node: Any = plan.spec.tracking.wandb
        secret, place = required(node), _settled(self._run, plan, node)
        session = Session(plan, place, secret=secret, init_s=self._init_s, finish_s=self._finish_s)
        try:
            places.keep(self._run, replaced(place, session.entity))
        except BaseException:
            session.close()
            raise
        return session

    def kill(self) -> None:
        """End every session at once, whatever waits for it: the process can end then."""
        kill_service()
        last = threading.Thread(target=end_service, name="lehr-tracker-end", daemon=True)
        last.start()  # its own exit handler would complain
        last.join(END_S)


def _settled(run: Store, plan: Plan, node: Any) -> Place:
    code = places.code_version
    return places.settle(run, plan.run_id, project=node.project, entity=node.entity, code=code)


class Server:
    """What W&B has of a run.

    Raises, as all its methods:
        Refused: W&B does not take the key.
        Unsent: W&B does not answer.
    """

    def __init__(self, place: Place, secret: str, answer_s: float) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        self._place = place
        with _translated():
            self._api = wandb.Api(api_key=secret, timeout=max(1, int(answer_s)))
        self.entity = str(place.entity or self._api.default_entity)

    def _run(self) -> Any | None:
        """W&B's run; None when it has none."""
        self._api.flush()
        with _translated():
            try:
                return self._api.run(f"{self.entity}/{self._place.project}/{self._place.id}")
            except Exception as error:
                if "Could not find run" in str(error):
                    return None
                raise

    def rows(self) -> int:
        """How many rows it has."""
        found = self._run()
        return int(found.historyLineCount or 0) if found is not None else 0

    def checkpoints(self) -> set[str]:
        """Names of the checkpoints that it knows."""
        found = self._run()
        with _translated():
            artifacts = list(found.logged_artifacts()) if found is not None else []
            return {str(each.metadata.get("checkpoint")) for each in artifacts if each.type == "model"}

    def files(self) -> set[str]:
        """Names of the run's files."""
        found = self._run()
        with _translated():
            return {file.name for file in found.files(per_page=PAGE)} if found is not None else set()

    def upload(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Add files to the run."""
        found = self._run()
        with _translated(), tempfile.TemporaryDirectory(prefix="lehr-wandb-") as folder:
            for name, data in files:
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                assert found is not None, "the run is there"
                found.upload_file(str(path), root=folder)


class _translated(contextlib.AbstractContextManager[None]):
    """Errors of W&B's client come out as ours."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            raise meant(error) from error


class Offline:
    """A tracker that writes W&B's own offline files. Not for the training thread: `Background` calls it.

    An attempt's file has the rows that the attempts before it had not. `wandb sync` sends the files; `lehr
    track sync` sends the journal and needs none of them. Use one or the other.

    Args:
        run: the run's folder. Where its keys are files, W&B's files are there too; else they are made in a
            temporary folder and copied there at the end.
    """

    def __init__(self, run: Store) -> None:
        self.rows = 0  # of the attempts before
        self._store = run
        self._run: Any = None
        self._sender: Sender | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def start(self, plan: Plan, attempt: int) -> None:
        """Begin a file."""
        node: Any = plan.spec.tracking.wandb
        place = _settled(self._store, plan, node)
        self._folder = str(self._place_of_files())
        self._run = _begin(
            plan, place, self._folder, "offline", f"a{attempt}",
            init_timeout=OFFLINE_S, finish_timeout=OFFLINE_S,
        )  # fmt: skip
        earlier = list(replay.entries(self._store, until=attempt - 1))
        self.rows = sum(1 for _ in replay.rows(earlier))
        self._sender = Sender(self._store, self)
        for entry in earlier:
            self._sender.take(entry)

    def record(self, entry: Entry) -> None:
        """A row, or what else W&B keeps of an entry."""
        assert self._sender is not None, "started"
        self._sender.take(entry)

    def row(self, row: Row, pictures: dict[str, bytes]) -> None:
        _log(self._run, row, pictures, self._folder)

    def configure(self, told: dict[str, Any]) -> None:
        self._run.config.update(told, allow_val_change=True)

    def checkpoint(self, url: str, metadata: dict[str, Any]) -> None:
        """Nothing: an offline file cannot refer to what it has not checked."""

    def close(self) -> None:
        """Write what is left, and keep the files with the run."""
        import wandb

        if self._run is not None and self._sender is not None:
            self._run.finish(exit_code=self._sender.exit_code)
            wandb.teardown()  # waits for its service to end: until then the file may be empty on disk
        if self._temporary is not None:
            with self._temporary as folder:
                for file in sorted(Path(folder).rglob("*")):
                    if file.is_file() and not file.is_symlink():
                        self._store.write(file.relative_to(folder).as_posix(), file.read_bytes())

    def _place_of_files(self) -> Path:
        """The folder in which W&B makes its own, `wandb`."""
        local = self._store.local_path(FOLDER)
        if local is not None:
            local.mkdir(parents=True, exist_ok=True)
            return local.parent
        self._temporary = tempfile.TemporaryDirectory(prefix="lehr-wandb-")
        return Path(self._temporary.name)
