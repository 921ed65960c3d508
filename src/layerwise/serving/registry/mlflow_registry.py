"""MLflow's model registry as a registry of bundles: the only file that imports mlflow.

    registered model NAME     alias `champion`: the switch, one transaction of MLflow's store
    its versions              one a bundle that was ever champion, tag `layerwise.bundle`
    experiment `layerwise/NAME`  one finished run a decision: its tags are the line of the history,
                              its artifacts `decision.json` and, of a promotion, `bundle/`

    registered model NAME_promoting  the lock: only one process can make it; it is there while
                              something is changed

A run that was begun and not finished is none.
"""

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layerwise.config import content_key
from layerwise.errors import BundleError, RegistryError
from layerwise.serving.registry.places import BUNDLES, PATIENCE, bundle_id, check_folder
from layerwise.serving.registry.registry import (
    Action,
    ChampionChanged,
    Entry,
    as_bytes,
    promoted,
    rollback_target,
)

ALIAS = "champion"
TAG = "layerwise."


class MlflowRegistry:
    """`NAME`, or `URI#NAME` where the tracking URI is not that of MLFLOW_TRACKING_URI.

    See `registry.Registry` for what its methods do.
    """

    def __init__(self, address: str, cache: Path, *, new: bool = False) -> None:
        """Raises RegistryError where mlflow is not installed or has no such model."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # we ask no other host
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise RegistryError(
                f"mlflow:{address}: needs MLflow; pip install 'layerwise[mlflow]'"
            ) from error
        uri, _, self._name = address.rpartition("#")
        if not self._name:
            raise RegistryError(f"mlflow:{address} names no model; write mlflow:URI#NAME")
        self._address, self._cache, self._wrong = address, cache, MlflowException
        try:
            self._client = MlflowClient(tracking_uri=uri or None, registry_uri=uri or None)
            self._experiment = self._find_experiment(uri, new)
        except MlflowException as error:
            raise self._failed(error) from error

    def __str__(self) -> str:
        return f"mlflow:{self._address}"

    def champion(self) -> str | None:
        """See `Registry`."""
        try:
            version = self._client.get_model_version_by_alias(self._name, ALIAS)
        except self._wrong as error:
            if _absent(error):
                return None
            raise self._failed(error) from error
        return str(version.tags[TAG + "bundle"])

    def history(self) -> list[Entry]:
        """See `Registry`."""
        entries: list[Entry] = []
        token: str | None = None
        try:
            while True:
                page = self._client.search_runs(
                    [self._experiment],
                    "attributes.status = 'FINISHED'",
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                entries += [json.loads(run.data.tags[TAG + "entry"]) for run in page]
                token = page.token
                if not token:
                    return sorted(entries, key=lambda entry: entry["number"])
        except self._wrong as error:
            raise self._failed(error) from error

    def fetch(self, bundle: str) -> Path:
        """See `Registry`."""
        if bundle not in promoted(self.history()):
            raise RegistryError(
                f"{self}: there is no bundle {bundle!r}; `layerwise rollback --registry {self} "
                "--list` shows those that are"
            )
        folder = self._cache / BUNDLES / bundle
        try:
            check_folder(folder, bundle)
        except BundleError:  # not there, or damaged since
            self._download(bundle, folder)
        return folder

    def promote(self, source: Path, decision: dict[str, Any], expected: str | None) -> Entry:
        """See `Registry`."""
        name = bundle_id(source)
        with self._lock():
            self._check(expected)
            return self._record("promote", name, name, decision, source)

    def refuse(self, bundle: str, decision: dict[str, Any], expected: str | None) -> Entry:
        """See `Registry`."""
        with self._lock():
            self._check(expected)
            return self._record("refuse", bundle, expected, decision, None)

    def rollback(self, to: str | None, decision: dict[str, Any]) -> Entry:
        """See `Registry`."""
        with self._lock():
            target = rollback_target(self.history(), to, str(self))
            self.fetch(target)  # what is served next must be whole
            return self._record("rollback", target, target, decision, None)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """MLflow has no compare-and-swap, but in its store the name of a model is unique."""
        lock, deadline = f"{self._name}_promoting", time.monotonic() + PATIENCE
        now = datetime.now(UTC).isoformat(timespec="seconds")
        mine = f"process {os.getpid()} of {socket.gethostname()}, since {now}"
        while True:
            try:
                self._client.create_registered_model(lock, description=mine)
                break
            except self._wrong as error:
                if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                    raise self._failed(error) from error
                if time.monotonic() > deadline:
                    raise RegistryError(
                        f"{self}: another promotion holds the lock, which is the registered model "
                        f"{lock} ({self._said_of(lock)}). If that process is no longer there, "
                        "delete this model and run the command again"
                    ) from error
            time.sleep(0.2)
        try:
            yield
        finally:
            try:
                self._client.delete_registered_model(lock)
            except self._wrong as error:
                raise self._failed(error) from error

    def _said_of(self, model: str) -> str:
        try:
            return str(self._client.get_registered_model(model).description)
        except self._wrong:  # given back meanwhile
            return "just given back"

    def _check(self, expected: str | None) -> None:
        if (found := self.champion()) != expected:
            raise ChampionChanged(
                f"{self}: the champion is now {found}, not {expected}, with which this bundle was "
                "compared; run the command again"
            )

    def _record(
        self,
        action: Action,
        bundle: str,
        champion: str | None,
        decision: dict[str, Any],
        source: Path | None,
    ) -> Entry:
        """Log the decision, then switch, then call the run finished."""
        previous, number = self.champion(), len(self.history()) + 1
        try:
            run = self._client.create_run(self._experiment, run_name=f"{number:04d} {action}")
            entry: Entry = {
                "number": number,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "action": action,
                "bundle": bundle,
                "champion": champion,
                "previous": previous,
                "decision": f"runs:/{run.info.run_id}/decision.json",
            }
            self._client.set_tag(run.info.run_id, TAG + "entry", json.dumps(entry))
            record = as_bytes({**decision, **entry}).decode()
            self._client.log_text(run.info.run_id, record, "decision.json")
            if source is not None:
                self._log_bundle(run.info.run_id, source, bundle)
            if action != "refuse":
                version = self._version(bundle)
                self._client.set_registered_model_alias(self._name, ALIAS, version.version)
            self._client.set_terminated(run.info.run_id)
        except self._wrong as error:
            raise self._failed(error) from error
        return entry

    def _log_bundle(self, run: str, source: Path, bundle: str) -> None:
        """A bundle as artifacts of a run and a version of the model."""
        for name in check_folder(source, bundle):
            self._client.log_artifact(run, str(source / name), "bundle")
        info = self._client.get_run(run).info
        self._client.create_model_version(
            self._name, f"{info.artifact_uri}/bundle", run, tags={TAG + "bundle": bundle}
        )

    def _version(self, bundle: str) -> Any:  # noqa: ANN401 - mlflow's ModelVersion
        """The newest version of the model with this bundle."""
        found = self._client.search_model_versions(f"name = '{self._name}'")
        mine = [one for one in found if one.tags.get(TAG + "bundle") == bundle]
        if not mine:
            raise RegistryError(f"{self}: no version of the model has bundle {bundle}")
        return max(mine, key=lambda one: int(one.version))

    def _download(self, bundle: str, folder: Path) -> None:
        """Get a bundle into the cache, where it appears whole or not at all."""
        part = folder.with_name(f".{bundle}.{secrets.token_hex(4)}")
        try:
            part.mkdir(parents=True)
            version = self._version(bundle)
            got = Path(self._client.download_artifacts(version.run_id, "bundle", str(part)))
            check_folder(got, bundle)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                got.rename(folder)
            except OSError:  # another process was quicker
                check_folder(folder, bundle)
        except (self._wrong, OSError) as error:
            raise RegistryError(
                f"{self}: bundle {bundle} can not be fetched to {folder} ({error}); check the "
                "address, your rights there, and the space here"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _find_experiment(self, uri: str, new: bool) -> str:
        """The id of the experiment of decisions; with `new` it and the model are made."""
        called = f"layerwise/{self._name}"
        found = self._client.get_experiment_by_name(called)
        if found is not None:
            return str(found.experiment_id)
        if not new:
            raise RegistryError(
                f"mlflow:{self._address} is no registry of Layerwise: there is no experiment "
                f"{called!r}. `layerwise promote` makes one"
            )
        try:
            self._client.create_registered_model(self._name)
        except self._wrong as error:
            if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(self._client.create_experiment(called, _artifacts(uri, self._name)))

    def _failed(self, error: Exception) -> RegistryError:
        said = str(error).splitlines()[0]
        return RegistryError(f"mlflow:{self._address}: {said}; check the address and your rights")


def _artifacts(uri: str, name: str) -> str | None:
    """Beside the database of a local store; a server knows itself."""
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "artifacts" / content_key(name)[:16]).as_uri()


def _absent(error: Exception) -> bool:
    """Whether there is no such model or no such alias yet."""
    code = getattr(error, "error_code", "")
    return code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
