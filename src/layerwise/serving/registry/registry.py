"""The registry: which bundle is the champion, and everything that was decided about it.

    registry.json      the champion and the history; replaced whole, so it is the one switch
    bundles/ID/        every bundle that was ever champion, by its id
    decisions/0001.json  why, with every number

A change puts the bundle there first, then the decision, and then the switch. A crash before the
switch leaves the old champion and files that nothing names, a crash after it the new one.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict
from urllib.parse import unquote, urlsplit

from layerwise.config import cache_folder
from layerwise.errors import RegistryError
from layerwise.serving.registry.places import FolderPlace, Place, RemotePlace, bundle_id

FORMAT = 1
STATE = "registry.json"
MLFLOW = "mlflow:"
_ID = re.compile(r"[0-9a-f]{12}")

Action = Literal["promote", "refuse", "rollback"]


class Entry(TypedDict):
    """One line of the history."""

    number: int
    """From 1."""
    time: str
    """UTC, as 2026-01-31T12:00:00+00:00."""
    action: Action
    bundle: str
    """The id of the bundle that it is about."""
    champion: str | None
    """The champion afterwards."""
    previous: str | None
    """The champion before."""
    decision: str
    """The file with the reasons, within the registry."""


class ChampionChanged(RegistryError):
    """Another promotion was quicker; what was decided compares with a champion of the past."""


class Registry(Protocol):
    """A registry, wherever it is."""

    def champion(self) -> str | None:
        """The champion's id, None before the first promotion. Cheap: a server may poll it."""

    def fetch(self, bundle: str) -> Path:
        """A folder of this machine with a bundle of the registry, checked against its digests.

        Raises:
            BundleError: It was altered or is not whole.
            RegistryError: It is not in the registry, or that can not be read.
        """

    def history(self) -> list[Entry]:
        """Everything that was decided, in order."""

    def promote(self, source: Path, decision: dict[str, Any], expected: str | None) -> Entry:
        """Make the bundle in a folder the champion.

        Args:
            source: The bundle's folder; it is copied.
            decision: Why; JSON-able.
            expected: The champion that it was compared with.

        Raises:
            ChampionChanged: The champion is another one by now; nothing was changed.
        """

    def refuse(self, bundle: str, decision: dict[str, Any], expected: str | None) -> Entry:
        """Put on record that a bundle was not promoted; arguments as of `promote`."""

    def rollback(self, to: str | None, decision: dict[str, Any]) -> Entry:
        """Make the champion before this one the champion again, or the bundle `to`.

        Raises:
            RegistryError: There is no such one.
        """


def open_registry(url: str | Path, *, new: bool = False, cache: Path | None = None) -> Registry:
    """A registry: a folder, an fsspec URL (`s3://…`, `memory://…`), or `mlflow:NAME`.

    Args:
        url: Where it is.
        new: Whether it may be empty: the first promotion makes it.
        cache: Where bundles of a URL are kept on this machine; None: the cache of all commands.

    Raises:
        RegistryError: There is none, or it can not be read.
    """
    text = str(url)
    if text.startswith(MLFLOW):
        from layerwise.serving.registry.mlflow_registry import MlflowRegistry

        return MlflowRegistry(text.removeprefix(MLFLOW), cache or cache_folder(), new=new)
    found = PlainRegistry(_place(text, cache or cache_folder()))
    if not new and not found.exists():
        raise RegistryError(
            f"{text} is no registry: {STATE} is missing. `layerwise promote BUNDLE --registry "
            f"{text} --data DATA` makes one"
        )
    return found


def is_registry(url: str | Path) -> bool:
    """Whether this names a registry and not a bundle's folder."""
    text = str(url)
    return text.startswith(MLFLOW) or PlainRegistry(_place(text, cache_folder())).exists()


class PlainRegistry:
    """A registry of plain files; see `Registry` for what its methods do."""

    def __init__(self, place: Place) -> None:
        """Nothing is read or made before it is asked for."""
        self._place = place

    def __str__(self) -> str:
        return str(self._place)

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""
        return self._place.read(STATE) is not None

    def champion(self) -> str | None:
        """See `Registry`."""
        champion: str | None = self._state()["champion"]
        return champion

    def history(self) -> list[Entry]:
        """See `Registry`."""
        history: list[Entry] = self._state()["history"]
        return history

    def fetch(self, bundle: str) -> Path:
        """See `Registry`."""
        if bundle not in promoted(self.history()):
            raise RegistryError(
                f"{self}: there is no bundle {bundle!r}; `layerwise rollback --registry {self} "
                "--list` shows those that are"
            )
        return self._place.fetch(bundle)

    def promote(self, source: Path, decision: dict[str, Any], expected: str | None) -> Entry:
        """See `Registry`."""
        name = bundle_id(source)
        with self._place.lock():
            self._check(expected)
            self._place.keep(source, name)
            return self._record("promote", name, name, decision)

    def refuse(self, bundle: str, decision: dict[str, Any], expected: str | None) -> Entry:
        """See `Registry`."""
        with self._place.lock():
            self._check(expected)
            return self._record("refuse", bundle, expected, decision)

    def rollback(self, to: str | None, decision: dict[str, Any]) -> Entry:
        """See `Registry`."""
        with self._place.lock():
            target = rollback_target(self.history(), to, str(self))
            self._place.fetch(target)  # what is served next must be whole
            return self._record("rollback", target, target, decision)

    def _check(self, expected: str | None) -> None:
        found = self.champion() if self.exists() else None
        if found != expected:
            raise ChampionChanged(
                f"{self}: the champion is now {found}, not {expected}, with which this bundle was "
                "compared; run the command again"
            )

    def _record(
        self, action: Action, bundle: str, champion: str | None, decision: dict[str, Any]
    ) -> Entry:
        """Write the decision, then switch; called with the lock held."""
        state = self._state() if self.exists() else empty()
        number = len(state["history"]) + 1
        entry: Entry = {
            "number": number,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": action,
            "bundle": bundle,
            "champion": champion,
            "previous": state["champion"],
            "decision": f"decisions/{number:04d}.json",
        }
        self._place.write(entry["decision"], as_bytes({**entry, **decision}))
        changed = {**state, "champion": champion, "history": [*state["history"], entry]}
        self._place.write(STATE, as_bytes(changed))
        return entry

    def _state(self) -> dict[str, Any]:
        """What `registry.json` says, checked."""
        content = self._place.read(STATE)
        if content is None:
            return empty()
        try:
            state = json.loads(content)
            champion, history = state["champion"], state["history"]
            known = state["format"] == FORMAT
            ids = [entry["bundle"] for entry in history]  # they become parts of paths
            right = all(_ID.fullmatch(name) for name in ids) and champion in [None, *ids]
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{self}/{STATE}: damaged ({error!r}); put back a copy of it, or name another "
                "registry"
            ) from error
        if not known or not right:
            raise RegistryError(
                f"{self}/{STATE}: format {state['format']!r} with champion {champion!r} is not "
                "what this version of Layerwise writes; update Layerwise, or name another registry"
            )
        return dict(state)


def empty() -> dict[str, Any]:
    """What a registry says before the first decision."""
    return {"format": FORMAT, "champion": None, "history": []}


def promoted(history: Sequence[Entry]) -> list[str]:
    """The bundles that were ever champion, each once, in order: those a registry keeps."""
    return list(dict.fromkeys(e["bundle"] for e in history if e["action"] != "refuse"))


def lineage(history: Sequence[Entry]) -> list[str]:
    """The champions that lie on each other, the present one last.

    A promotion lays one on top. A rollback takes off what lies above its target, so that a second
    rollback goes further back; a target that was taken off before is laid on top again.
    """
    stack: list[str] = []
    for entry in history:
        if entry["action"] == "refuse":
            continue
        bundle = entry["bundle"]
        if entry["action"] == "rollback" and bundle in stack:
            del stack[stack.index(bundle) + 1 :]
        else:
            stack.append(bundle)
    return stack


def rollback_target(history: Sequence[Entry], to: str | None, where: str) -> str:
    """The bundle that a rollback makes the champion.

    Args:
        history: What was decided until now.
        to: An id or its beginning; None: the champion before this one.
        where: The registry, for the errors.

    Raises:
        RegistryError: There is none, or several begin so.
    """
    stack = lineage(history)
    if to is None:
        if len(stack) < 2:
            has = f"{stack[0]} is its first champion" if stack else "it never had a champion"
            raise RegistryError(f"{where}: there is nothing to go back to, {has}")
        return stack[-2]
    fitting = [bundle for bundle in promoted(history) if to and bundle.startswith(to)]
    if len(fitting) != 1:
        known = ", ".join(promoted(history)) or "none yet"
        what = "several bundles begin so" if fitting else "no bundle that was ever champion"
        raise RegistryError(f"--to {to}: {what} in {where}; its champions were: {known}")
    if stack and fitting[0] == stack[-1]:
        raise RegistryError(f"--to {to}: {fitting[0]} is the champion already")
    return fitting[0]


def as_bytes(value: Any) -> bytes:  # noqa: ANN401 - any JSON-able value
    """JSON as it stands in the registry's files."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _place(url: str, cache: Path) -> Place:
    """The files behind a URL or a path."""
    if url.startswith("file://"):
        return FolderPlace(Path(unquote(urlsplit(url).path)))
    if "://" in url:
        return RemotePlace(url, cache)
    return FolderPlace(Path(url).expanduser())
