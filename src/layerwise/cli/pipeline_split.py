"""The split of a pipeline: parts that the data bring along, or had before, stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.data.load import DataOptions
    from layerwise.data.manifest import Manifest


def split(
    data: str,
    options: DataOptions,
    parts: Path,
    cache: Path,
    seed: int,
    output: Output,
    *,
    allow_leaks: bool,
) -> Manifest:
    """A manifest in which every image has a part; near duplicates are in one part together.

    Args:
        data: DATA.
        options: How they are read.
        parts: The manifest of the last split; it need not be there.
        cache: Where decoded pictures are kept; those of the audit are found there.
        seed: Of the split.
        output: Told what is done.
        allow_leaks: Go on with an image or a patient in two parts.

    Raises:
        Refusal: The data bring along parts that leak.
        LayerwiseError: They can not be read or split.
    """
    from layerwise.cli.inspect import side_for
    from layerwise.data.audit.duplicates import joined, near_duplicates
    from layerwise.data.load import DataOptions, load
    from layerwise.data.splits.grown import keep_parts
    from layerwise.data.splits.request import SplitRequest, make_splits
    from layerwise.data.storage.colour import all_grey
    from layerwise.data.storage.headers import read_headers
    from layerwise.data.storage.store import build_store
    from layerwise.errors import LeakError
    from layerwise.serving.pipeline.steps import Refusal

    manifest = load(data, options)
    headers = read_headers(manifest)
    side = side_for(headers.sizes)
    store, manifest = build_store(
        manifest,
        size=(side, side),
        channels=1 if all_grey(manifest, headers.grey, seed) else 3,
        letterbox=False,
        folder=cache,
        skip_unreadable=options.skip_unreadable,
        progress=output.track(f"decoding to {side}×{side}"),
    )
    contents = joined(store.digests, near_duplicates(store, seed))  # (N, 32)
    if parts.is_file() and not manifest.settled:  # a manifest of `layerwise split` says it all
        before = load(parts, DataOptions(images=False, rare=True))
        manifest = keep_parts(manifest, before, contents, seed)
    request = SplitRequest(by="given", seed=seed, allow_leaks=allow_leaks)
    try:
        ((_, made),) = make_splits(manifest, contents, request)
    except LeakError as error:
        raise Refusal(str(error), {}, error.exit_code) from error
    for note in made.notes:
        output.say(note)
    return made
