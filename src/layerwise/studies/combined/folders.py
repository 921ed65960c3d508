"""Which runs are meant by what the user names: folders of runs, of fits and of studies."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerwise.config import read_json
from layerwise.errors import LayerwiseError

SAME = ("data", "image_size", "channels", "letterbox")  # of runs that can be put together
WITH_NETWORK = ("trained", "probe")


def run_folders(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The folders of finished runs that have a network, each once, and what was left out.

    Of a fit's or a study's folder only those are taken that were trained on the data of its plan
    (the smaller samples of a gain study, say, were not); else those of which there are most.

    Args:
        paths: OUT/runs/ID, OUT, or OUT/runs.

    Raises:
        LayerwiseError: A folder is not there, or holds no such run; or there is one run only.
    """
    found: dict[str, Path] = {}
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            raise LayerwiseError(
                f"{path}: no such folder; name OUT/runs/ID, or what --out of a fit or study named"
            )
        single = (path / "run.json").is_file()
        some = [path] if single else _inside(path, notes)
        for folder in some:
            found.setdefault(folder.resolve().name, folder)
    if len(found) < 2:
        only = next(iter(found.values()), paths[0])
        raise LayerwiseError(
            f"{only}: this is one run, and an ensemble needs two or more; name other runs beside "
            "it, or the folder of a fit or study with several"
        )
    return list(found.values()), notes


def _inside(out: Path, notes: list[str]) -> list[Path]:
    """The runs of a fit or a study that can be put together."""
    runs = out if out.name == "runs" else out / "runs"
    every = sorted(file.parent for file in runs.glob("*/run.json"))
    finished = [
        (folder, read_json(folder / "run.json"))
        for folder in every
        if (folder / "result.json").is_file()
    ]
    there = [one for one in finished if one[1].get("kind") in WITH_NETWORK]
    if not there:
        raise LayerwiseError(
            f"{out}: no finished run with a network in it; name what --out of a fit or study "
            "named, or the folder of a run"
        )
    groups = Counter(_group(settings) for _, settings in there)
    planned = _data_key(runs.parent / "plan.json")
    mine = [group for group in groups if group[0] == planned] or list(groups)
    best = max(mine, key=lambda group: groups[group])  # of equal ones the first
    kept = [folder for folder, settings in there if _group(settings) == best]
    if len(kept) < len(there):
        notes.append(
            f"{len(there) - len(kept)} of {len(there)} runs of {out} are left out: they learnt "
            "other images, or images of another size, than the others."
        )
    classic = sum(settings.get("kind") == "floor" for _, settings in finished)
    if classic:
        notes.append(
            f"{classic} of {len(finished)} runs of {out} are left out: dummy, forest or SVM, which "
            "have no network that a bundle could hold."
        )
    return kept


def _group(settings: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(settings.get(name)) for name in SAME)


def _data_key(plan: Path) -> str:
    """The data that a fit's or a study's plan is for; "" where it does not say."""
    if not plan.is_file():
        return ""
    found = read_json(plan)
    setup = found.get("setup") or found
    return str(setup.get("data_key", ""))
