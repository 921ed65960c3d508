"""`layerwise inspect`: what the data are and what is wrong with them, before any training."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from layerwise.data.audit.findings import Finding
    from layerwise.data.exploration import Sizes
    from layerwise.data.manifest import Manifest
    from layerwise.data.storage.store import ImageStore
    from layerwise.reporting.inspection import Changed, Inspection

SIDE = 128  # pixels that pictures are looked at in, or fewer where they are smaller
LABELS = 16  # whose examples are shown
VIEWS = 5  # augmented pictures beside each original
STRIPS = 6  # originals that are augmented
SHOWN = 8  # pictures of each finding


def inspect(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    image_size: Annotated[
        Optional[int],  # noqa: UP007, UP045 - Typer reads it
        typer.Option(
            min=8, max=4096, help="Pixels of a side to look at. Default: 128, fewer for smaller."
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="With --no-images only the table.")
    ] = True,
    letterbox: flags.Letterbox = False,
    augment: flags.Augment = "auto",
    seed: flags.Seed = 0,
    labels: flags.Labels = None,
    label_column: flags.LabelColumn = [],  # noqa: B006 - Typer copies it
    path_column: flags.PathColumn = None,
    patient_column: flags.PatientColumn = None,
    patient_from: flags.PatientFrom = None,
    study_column: flags.StudyColumn = None,
    date_column: flags.DateColumn = None,
    split_column: flags.SplitColumn = None,
    multi_label: flags.MultiLabel = False,
    only: flags.Only = [],  # noqa: B006
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = "zeros",
    label_set: flags.LabelSet = None,
    view: flags.View = None,
    keep_identifiers: flags.KeepIdentifiers = False,
    skip_unreadable: flags.SkipUnreadable = False,
    allow_leaks: flags.AllowLeaks = False,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Explore and audit: counts, sizes, brightness, examples, duplicates, leaks.

    Writes inspect.html and inspect.json under --out, whatever it finds. Unreadable files are
    findings and stop nothing. Ends with 3 where an image or a patient stands in two parts of the
    split the data came with, unless --allow-leaks.
    """
    started = time.monotonic()
    preset = flags.parse_augment(augment)
    output = Output(json=json, quiet=quiet)
    from layerwise.data.audit.check import check
    from layerwise.data.load import load
    from layerwise.data.storage.rows import check_writable
    from layerwise.reporting.inspection import write_inspection

    check_writable(out)
    options = flags.data_options(context.params)
    options = dataclasses.replace(options, skip_unreadable=True, images=images, rare=True)
    manifest = load(data, options)
    output.say(f"{len(manifest):,} images, labels {', '.join(manifest.labels)}")
    if images:
        folder = flags.cache_folder(cache)
        found = _with_pictures(manifest, image_size, letterbox, preset, seed, folder, output)
    else:
        found = _table_only(manifest, seed)
    found = dataclasses.replace(
        found, command=flags.command_line(), seconds=time.monotonic() - started
    )
    summary = write_inspection(out, found)
    output.text(_said(found))
    output.text(f"report: {out / 'inspect.html'}")
    output.result(summary)
    check(found.manifest, found.findings, allow_leaks=allow_leaks)


def _table_only(manifest: Manifest, seed: int) -> Inspection:
    """What the manifest alone tells."""
    from layerwise.data.audit.check import audit
    from layerwise.data.exploration import count
    from layerwise.reporting.inspection import Inspection

    return Inspection(
        manifest=manifest,
        counts=count(manifest),
        findings=audit(manifest, seed=seed),
        notes=(*manifest.notes, "only the table was looked at (--no-images)"),
        seed=seed,
    )


def _with_pictures(
    manifest: Manifest,
    image_size: int | None,
    letterbox: bool,
    preset: str,
    seed: int,
    folder: Path,
    output: Output,
) -> Inspection:
    """Everything: headers, decoded pictures, the audit, examples."""
    from layerwise.data.audit.check import audit
    from layerwise.data.brightness import measure
    from layerwise.data.exploration import count, size_up
    from layerwise.data.storage.colour import all_grey
    from layerwise.data.storage.headers import read_headers
    from layerwise.data.storage.store import build_store
    from layerwise.reporting.inspection import Inspection

    everything = manifest
    headers = read_headers(manifest)
    side = image_size or side_for(headers.sizes)
    output.say(f"decoding to {side}×{side} pixels, once")
    store, manifest = build_store(
        manifest,
        size=(side, side),
        channels=1 if all_grey(manifest, headers.grey, seed) else 3,
        letterbox=letterbox,
        folder=folder,
        skip_unreadable=True,
        progress=output.track(f"decoding to {side}×{side}"),
    )
    headers = headers.take(store.rows)
    ids = everything.table["id"]
    damaged = {str(ids.iloc[row]): why for row, why in sorted(store.damaged.items())}
    output.say("looking for duplicates, leaks and odd pictures")
    findings = audit(manifest, store, headers, damaged=damaged, seed=seed)
    sizes = size_up(manifest, headers)
    used = _preset(preset, sizes, store)
    return Inspection(
        manifest=manifest,
        counts=count(manifest),
        findings=[*_missing(manifest), *findings],
        sizes=sizes,
        brightness=measure(manifest, store, output.track("measuring brightness")),
        stored=store.size,
        samples=_samples(manifest, store.channels, seed),
        changed=_changed(manifest, store, used, seed),
        preset=used,
        shown=_shown(manifest, store, findings),
        notes=manifest.notes,
        seed=seed,
    )


def side_for(sizes: NDArray[np.int64]) -> int:
    """128 pixels, or the shorter side of the middle picture where that is less."""
    import numpy as np

    known = sizes[sizes[:, 0] > 0]
    return max(8, min(SIDE, int(np.median(known.min(axis=1))))) if len(known) else SIDE


def _missing(manifest: Manifest) -> list[Finding]:
    """Files that the table names and that are not there: the source has left them out."""
    from layerwise.data.audit.findings import Finding

    remedy = "put them where the table says, correct the paths, or remove the rows"
    left_out = [note for note in manifest.notes if "--skip-unreadable" in note]
    left_out = [note for note in left_out if "unreadable pictures" not in note]
    return [Finding("missing files", "warning", note, remedy, ()) for note in left_out]


def _preset(wanted: str, sizes: Sizes | None, store: ImageStore) -> str:
    """What `fit` would choose, or what was asked for."""
    from layerwise.data.exploration import suited_preset

    if wanted != "auto":
        return wanted
    if sizes is None:
        return "none"
    side = min(sizes.facts["height"]["median"], sizes.facts["width"]["median"])
    return suited_preset(side, store.channels)


def _samples(
    manifest: Manifest, channels: int, seed: int
) -> dict[str, list[tuple[str, NDArray[np.uint8]]]]:
    """Examples of each label in their own proportions: files are decoded once more."""
    from layerwise.data.exploration import draw_rows
    from layerwise.data.pictures.images import decode
    from layerwise.errors import DataError
    from layerwise.reporting.inspection import SAMPLE

    ids, paths = manifest.table["id"], manifest.table["path"]
    found: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {}
    drawn = draw_rows(manifest, 12 if len(manifest.labels) <= 4 else 6, seed)
    for label, rows in list(drawn.items())[:LABELS]:
        found[label] = []
        for row in rows.tolist():
            try:
                picture = (
                    decode(paths.iloc[row], channels, enough=(SAMPLE, SAMPLE))
                    if manifest.pixels is None
                    else manifest.pixels[row]
                )
            except DataError:  # it has gone since it was decoded
                continue
            found[label].append((str(ids.iloc[row]), picture))
    return found


def _changed(manifest: Manifest, store: ImageStore, preset: str, seed: int) -> list[Changed]:
    """Pictures of the training part, a few of every label in turn, in several views."""
    if preset == "none":
        return []
    import numpy as np
    import torch

    from layerwise.data.augment import augment, image_keys
    from layerwise.data.exploration import draw_rows, parts_of
    from layerwise.reporting.inspection import Changed

    parts = parts_of(manifest)
    train = parts.get("train", np.arange(len(manifest)))
    drawn = draw_rows(manifest.take(train), STRIPS, seed)
    turns = [
        (label, rows[i]) for i in range(STRIPS) for label, rows in drawn.items() if len(rows) > i
    ]
    found = []
    for label, at in turns[:STRIPS]:
        rows = train[[at]]
        picture = store.read(rows)  # (1, H, W, C)
        views = [
            augment(torch.from_numpy(picture), image_keys(rows, seed=seed, view=view), preset)
            for view in range(VIEWS)
        ]
        name = str(manifest.table["id"].iloc[int(rows[0])])
        found.append(Changed(name, label, picture[0], [view[0].numpy() for view in views]))
    return found


def _shown(
    manifest: Manifest, store: ImageStore, findings: list[Finding]
) -> dict[str, NDArray[np.uint8]]:
    """The first pictures of each finding, by id."""
    import pandas as pd

    wanted = list(dict.fromkeys(name for f in findings for name in f.images[:SHOWN]))
    rows = pd.Index(manifest.table["id"]).get_indexer(wanted)
    kept = [(name, row) for name, row in zip(wanted, rows, strict=True) if row >= 0]
    pictures = store.read(rows[rows >= 0])
    return {name: picture for (name, _), picture in zip(kept, pictures, strict=True)}


def _said(found: Inspection) -> str:
    """The summary for a terminal."""
    from layerwise.reporting import inspection_text as said

    manifest = found.manifest
    lines: list[Any] = [
        said.what_it_is(manifest.task, manifest.labels, found.counts),
        said.balance(manifest.task, found.counts),
    ]
    for finding in found.findings:
        lines += [f"{finding.severity}: {finding.message}", f"  → {finding.remedy}"]
    return "\n".join([*lines, said.attention(found.findings, found.stored is not None)])
