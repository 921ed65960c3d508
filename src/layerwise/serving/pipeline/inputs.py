"""What a step's key is made of: the data's content, the code, files that a recipe names."""

import ast
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

import layerwise
from layerwise.data.manifest import Manifest
from layerwise.errors import DataError

ABSENT = -1  # the time of a file that is not there
CHUNK = 256  # files handed to a thread at a time
PACKAGES = (  # other versions of these may give other weights or other scores
    "numpy",
    "onnx",
    "onnxruntime",
    "pillow",
    "scikit-learn",
    "timm",
    "torch",
    "torchvision",
)


@cache
def code_version(command: str) -> str:
    """Names the code that does a command: Layerwise's version, its sources, what they compute with.

    Its sources are all that it imports, by whatever way, when it begins or later. Those that only
    say what was found, in words and figures, do not count: nobody would train again for a sentence.

    Args:
        command: A file of `layerwise.cli`.
    """
    key = hashlib.sha256()
    for name, path in sorted(sources(f"layerwise.cli.{command}").items()):
        key.update(f"{name}\n".encode() + path.read_bytes())
    for package in PACKAGES:
        try:
            key.update(f"{package} {metadata.version(package)}\n".encode())
        except metadata.PackageNotFoundError:
            key.update(f"{package} is absent\n".encode())
    return f"{layerwise.__version__}+{key.hexdigest()[:16]}"


def sources(module: str) -> dict[str, Path]:
    """The files of Layerwise that a module needs, itself among them, by their modules' names."""
    root = Path(layerwise.__file__).parents[1]
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        place = root.joinpath(*name.split("."))
        path = place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")
        if name in found or _only_says(name) or not path.is_file():
            continue
        found[name] = path
        waiting += _imported(path.read_bytes())
    return found


def _only_says(module: str) -> bool:
    """Whether a module writes pages, figures or sentences, and no numbers."""
    return module.startswith("layerwise.reporting.") and not module.endswith((".results", ".plain"))


@cache
def _imported(source: bytes) -> set[str]:
    """What a source imports of Layerwise, and the packages around it; names of no module too."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # runs no code
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = [parts for parts in (name.split(".") for name in names) if parts[0] == "layerwise"]
    return {".".join(parts[:end]) for parts in ours for end in range(1, len(parts) + 1)}


def path_digest(path: Path) -> str:
    """The sha256 (hex) of a file, or of all files of a folder with their names.

    Raises:
        DataError: It can not be read.
    """
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        names = [f"{p.relative_to(path).as_posix()} {path_digest(p)}" for p in inside]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: can not be read ({error.strerror}); check the path") from error


def data_digest(
    manifest: Manifest, kept: Path, progress: Callable[[int, int], None] | None = None
) -> str:
    """The sha256 (hex) of all that data say and show, whatever their order and place.

    Files are read, not decoded; one whose size and time are those of the last call is not read
    again. A file that is not there counts as such: it is a finding of the audit, no error here.

    Args:
        manifest: The data; pixels are not looked at, but the files that they are in.
        kept: The table of the digests, one for each set of data; it need not be there.
        progress: Called with (done, total) while files are read.
    """
    table = manifest.table
    names = [_file_of(path or manifest.source) for path in table["path"]]
    digests = _file_digests(sorted(set(names)), kept, progress)
    targets = np.ascontiguousarray(manifest.targets).reshape(len(table), -1)  # (N, 1 | K)
    rows = table[["id", "patient", "study", "date", "split"]].assign(
        content=[digests[name] for name in names], target=[row.tobytes().hex() for row in targets]
    )
    if manifest.extra is not None:  # the columns of subgroups
        rows = rows.join(manifest.extra.add_prefix("extra:"))
    key = hashlib.sha256(repr((manifest.task, manifest.labels)).encode())
    for row in rows.sort_values("id").itertuples(index=False, name=None):
        key.update(repr(row).encode())
    return key.hexdigest()


def _file_of(path: str) -> str:
    """The file with an image in it: a picture, or the archive before "#"."""
    return path if os.path.isfile(path) else path.rpartition("#")[0] or path


def _file_digests(
    names: list[str], kept: Path, progress: Callable[[int, int], None] | None
) -> dict[str, str]:
    """The sha256 (hex) of each file by its name; "" where there is none."""
    now = pd.DataFrame(
        [_looks(name) for name in names], columns=["file", "bytes", "changed"], dtype=object
    ).astype({"bytes": np.int64, "changed": np.int64})
    both = now.merge(_earlier(kept), how="left", on=["file", "bytes", "changed"])
    digests = both["sha256"].fillna("").tolist()
    there = (now["changed"] != ABSENT).tolist()
    waiting = [i for i in range(len(names)) if there[i] and not digests[i]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(waiting), CHUNK):
            some = waiting[start : start + CHUNK]
            paths = (Path(names[i]) for i in some)
            for i, digest in zip(some, pool.map(path_digest, paths), strict=True):
                digests[i] = digest
            if progress is not None:
                progress(start + len(some), len(waiting))
    if waiting and kept.parent.is_dir():  # a dry run makes no folder
        part = kept.with_name(kept.name + ".part")
        now.assign(sha256=digests).to_csv(part, index=False)
        part.replace(kept)
    return dict(zip(names, digests, strict=True))


def _looks(name: str) -> tuple[str, int, int]:
    """A file's name, size and time."""
    try:
        status = os.stat(name)
    except OSError:
        return name, 0, ABSENT
    return name, status.st_size, status.st_mtime_ns


def _earlier(kept: Path) -> pd.DataFrame:
    """The digests of the last call; none where their file is damaged."""
    kinds = {"file": str, "bytes": np.int64, "changed": np.int64, "sha256": str}
    try:
        found = pd.read_csv(kept, dtype=kinds, keep_default_na=False)
    except (OSError, ValueError):
        found = pd.DataFrame()
    if list(found.columns) != list(kinds):
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    return found.drop_duplicates("file")
