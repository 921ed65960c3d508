"""The steps of `layerwise pipeline`: the commands of their names, with the recipe's flags."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.study_flags import checked, keys_of
from layerwise.config import content_key, read_json, to_mapping
from layerwise.errors import LayerwiseError, LeakError
from layerwise.models.names import nearest
from layerwise.serving.pipeline.deploy import run_command, wait_for
from layerwise.serving.pipeline.inputs import code_version, data_digest, path_digest
from layerwise.serving.pipeline.recipe import Deploy, Recipe
from layerwise.serving.pipeline.steps import Found, Refusal, Step

if TYPE_CHECKING:
    from layerwise.data.load import DataOptions

OURS = ("out", "cache", "json", "quiet", "help")  # the pipeline's own, for all its steps
OF_DATA = (*flags.DATA_FLAGS, "data", "allow_leaks", "letterbox")  # the keys of [data]
OF_MANIFEST = ("allow_leaks", "letterbox", "skip_unreadable")  # what no manifest says itself
PARTS = "parts.csv"  # the manifest of the last split, by which grown data keep their parts


class Steps:
    """What a recipe's steps do, in a folder."""

    def __init__(self, recipe: Recipe, where: str, out: Path, cache: Path, output: Output) -> None:
        """Check every table against the flags of its command, before anything is done.

        Raises:
            LayerwiseError: Naming the table and the key that is wrong.
        """
        self._recipe, self._out, self._cache, self._output = recipe, out, cache, output
        self._data = str(recipe.data["data"])
        rest = {name: value for name, value in recipe.data.items() if name != "data"}
        words_for("fit", recipe.data, f"{where}: [data]", only=OF_DATA)
        self._inspect = words_for("inspect", rest, f"{where}: [data]")
        kept = {name: rest[name] for name in OF_MANIFEST if name in rest}
        self._fit = words_for("fit", recipe.fit, f"{where}: [fit]", skip=OF_DATA)
        self._fit += words_for("fit", kept, f"{where}: [data]")
        self._evaluate = words_for("evaluate", recipe.evaluate, f"{where}: [evaluate]")
        promote = recipe.promote or {}
        self._promote = words_for("promote", promote, f"{where}: [promote]", skip=["dry_run"])
        # A manifest carries the columns by which the steps after it look for subgroups.
        tables = [t for t in (recipe.evaluate, promote) if "data" not in t]
        self._subgroups = tuple(dict.fromkeys(c for t in tables for c in t.get("subgroup", ())))

    def all(self) -> list[Step]:
        """The steps, in order, as far as the recipe goes."""
        steps = [
            Step("audit", self._audit_inputs, self._audit, _there("report")),
            Step("split", self._split_inputs, self._split, _there("manifest")),
            Step("fit", self._fit_inputs, self._train, _same_bundle),
            Step("verify", self._verify_inputs, self._verify),
            Step("evaluate", self._evaluate_inputs, self._measure, _there("results")),
        ]
        if self._recipe.promote is not None:
            steps.append(Step("promote", self._promote_inputs, self._replace))
        if self._recipe.deploy is not None:
            steps.append(Step("deploy", self._deploy_inputs, self._deploy))
        return steps

    # Audit: `layerwise inspect`.

    def _audit_inputs(self, found: Found) -> dict[str, str]:
        recipe = content_key(self._recipe.data)
        return {"data": self._data_digest, "recipe": recipe, "code": code_version("inspect")}

    def _audit(self, folder: Path, found: Found) -> dict[str, Any]:
        words = [self._data, *self._inspect, "--out", str(folder), *self._cached]
        try:
            summary = call("inspect", words, self._output)
        except Refusal as refusal:
            refusal.results = _audited(folder, read_json(folder / "inspect.json"))
            raise
        return _audited(folder, summary)

    # Split: parts that stay what they were when the data grow.

    def _split_inputs(self, found: Found) -> dict[str, str]:
        recipe = content_key([self._recipe.data, self._seed])
        return {"data": self._data_digest, "recipe": recipe}  # other code is no new split

    def _split(self, folder: Path, found: Found) -> dict[str, Any]:
        from layerwise.cli.pipeline_split import split

        made = split(
            self._data,
            self._options(skip=bool(self._recipe.data.get("skip_unreadable"))),
            self._out / PARTS,
            self._cache,
            self._seed,
            self._output,
            allow_leaks=bool(self._recipe.data.get("allow_leaks")),
        )
        name = re.sub(r"[^\w.-]+", "-", made.name).removesuffix(".csv")
        manifest = folder / f"{name}.csv"  # data are called as their manifest
        made.write(manifest)
        made.write(self._out / PARTS)
        kept = self._out / "files.csv"
        return {
            "manifest": str(manifest),
            "digest": data_digest(made.replace(extra=None), kept),
            "with_subgroups": data_digest(made, kept),  # which training does not look at
            "images": {part: len(made.indices(part)) for part in ("train", "val", "test")},
            "notes": list(made.notes),
        }

    # Fit, verify, evaluate: the commands of these names.

    def _fit_inputs(self, found: Found) -> dict[str, str]:
        files = {
            name: path_digest(Path(str(self._recipe.fit[name])))
            for name in ("weights", "plan")
            if os.path.exists(str(self._recipe.fit.get(name, "")))
        }
        recipe = content_key(sorted(self._fit))
        return {
            "data": found["split"]["digest"],
            "recipe": recipe,
            "code": code_version("fit"),
            **files,
        }

    def _train(self, folder: Path, found: Found) -> dict[str, Any]:
        source = Path(found["split"]["manifest"])
        manifest = folder / source.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, manifest)  # beside its fit, which is of these data and no others
        words = [str(manifest), *self._fit, "--out", str(folder), *self._cached]
        summary = call("fit", words, self._output)
        chosen = next(run for run in summary["runs"] if run["id"] == summary["chosen"])
        bundle = folder / "bundle"
        return {
            "bundle": str(bundle),
            "id": _bundle_id(bundle),
            "chosen": chosen["name"],
            "test": {"auroc": summary["test"]["auroc"]},
            "report": str(folder / "report.html"),
        }

    def _verify_inputs(self, found: Found) -> dict[str, str]:
        return {"bundle": found["fit"]["id"], "code": code_version("verify")}

    def _verify(self, folder: Path, found: Found) -> dict[str, Any]:
        from layerwise.serving.verify import verify

        whole = verify(found["fit"]["bundle"])
        return {"id": whole.id, "format": whole.format, "files": sorted(whole.files)}

    def _evaluate_inputs(self, found: Found) -> dict[str, str]:
        return self._measured(found, "evaluate", self._recipe.evaluate)

    def _measure(self, folder: Path, found: Found) -> dict[str, Any]:
        data = [] if "data" in self._recipe.evaluate else [found["split"]["manifest"]]
        words = [found["fit"]["bundle"], *data, *self._evaluate, "--out", str(folder)]
        summary = call("evaluate", [*words, *self._cached], self._output)
        test = {name: summary["test"][name] for name in ("auroc", "auprc", "accuracy")}
        return {"results": str(folder / "results.json"), "test": test}

    # Promote and deploy.

    def _promote_inputs(self, found: Found) -> dict[str, str]:
        return self._measured(found, "promote", self._recipe.promote or {})

    def _replace(self, folder: Path, found: Found) -> dict[str, Any]:
        from layerwise.cli.promote import REFUSED
        from layerwise.serving.registry.registry import open_registry

        table = self._recipe.promote or {}
        data = [] if "data" in table else ["--data", found["split"]["manifest"]]
        words = [found["fit"]["bundle"], *data, *self._promote, *self._cached]
        summary = call("promote", words, self._output)
        champion = open_registry(self._registry, cache=self._cache).champion()
        results = {
            "promoted": champion == found["fit"]["id"],
            "already": summary["already"],  # as after a kill between the switch and its record
            "champion": champion,
            "reasons": summary.get("reasons", []),
        }
        if results["promoted"]:
            return results
        raise Refusal(
            f"bundle {found['fit']['id']} is not promoted: {'; '.join(results['reasons'])}; the "
            f"champion is still {champion}",
            results,
            REFUSED if table.get("require") else 0,
        )

    def _deploy_inputs(self, found: Found) -> dict[str, str]:
        said = to_mapping(self._recipe.deploy or Deploy())
        return {"bundle": found["fit"]["id"], "recipe": content_key([said, self._registry])}

    def _deploy(self, folder: Path, found: Found) -> dict[str, Any]:
        from layerwise.serving.registry.registry import open_registry

        deploy, bundle = self._recipe.deploy or Deploy(), found["fit"]["id"]
        registry = open_registry(self._registry, cache=self._cache)
        champion = registry.champion()
        if champion != bundle:
            raise LayerwiseError(
                f"{self._registry}: its champion is {champion}, not {bundle}, which this pipeline "
                "promoted; it was replaced or rolled back since. --from promote compares again"
            )
        if deploy.command:
            place = str(registry.fetch(bundle))
            values = {"id": bundle, "bundle": place, "registry": self._registry}
            run_command(deploy.command, values, deploy.timeout)
        seconds = None
        if deploy.url:
            self._output.say(f"waiting for {deploy.url} to show bundle {bundle}")
            seconds = wait_for(
                deploy.url, bundle, deploy.timeout, os.environ.get(deploy.key_env) or None
            )
        return {
            "champion": champion,
            "command": list(deploy.command),
            "url": deploy.url,
            "shown_after_seconds": seconds,
        }

    # What several of them need.

    @property
    def _cached(self) -> list[str]:
        return ["--cache", str(self._cache)]

    @property
    def _seed(self) -> int:
        return int(self._recipe.fit.get("seed", 0))

    @property
    def _registry(self) -> str:
        return str((self._recipe.promote or {}).get("registry"))

    def _options(self, *, images: bool = True, skip: bool = True) -> DataOptions:
        options = flags.data_options(self._recipe.data)
        return replace(options, images=images, skip_unreadable=skip, subgroup=self._subgroups)

    @cached_property
    def _data_digest(self) -> str:
        """Of DATA as they are now."""
        return self._digest_of(self._data, self._options(images=False), "data")

    def _digest_of(self, data: str, options: DataOptions, name: str) -> str:
        from layerwise.data.load import load

        manifest = load(data, replace(options, rare=True))
        kept = self._out / ("files.csv" if name == "data" else f"files-{name}.csv")
        return data_digest(manifest, kept, self._output.track(f"reading the files of {data}"))

    def _measured(self, found: Found, step: str, table: dict[str, Any]) -> dict[str, str]:
        """The inputs of a step that measures the bundle on data: its own, or the test part."""
        data: str = found["split"]["with_subgroups"]
        if "data" in table:
            options = replace(
                flags.data_options(table),
                images=False,
                skip_unreadable=True,
                subgroup=tuple(table.get("subgroup", ())),
            )
            data = self._digest_of(str(table["data"]), options, step)
        return {
            "bundle": found["fit"]["id"],
            "data": data,
            "recipe": content_key(table),
            "code": code_version(step),
        }


def call(name: str, words: Sequence[str], output: Output) -> dict[str, Any]:
    """Do what a command does, in this process, and give its summary.

    Args:
        name: The command.
        words: Its arguments, without --json and --quiet.
        output: Of the pipeline.

    Raises:
        Refusal: The data leak.
        LayerwiseError: Whatever the command refuses.
    """
    said, before = io.StringIO(), sys.argv
    more = ["--json", "--quiet"] if output.quiet else ["--json"]
    sys.argv = ["layerwise", name, *words]  # what a report says of how to repeat it
    try:
        with redirect_stdout(said):
            code = _command(name).main([*words, *more], f"layerwise {name}", standalone_mode=False)
    except LeakError as error:
        raise Refusal(str(error), {}, error.exit_code) from error
    finally:
        sys.argv = before
    if code == 130:  # Typer's way of saying Ctrl-C
        raise KeyboardInterrupt
    summary: dict[str, Any] = json.loads(said.getvalue())
    return summary


def words_for(
    name: str,
    table: dict[str, Any],
    where: str,
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
) -> list[str]:
    """A table of a recipe as the words of a command line, each checked against its flag.

    Args:
        name: The command.
        table: Flags by name, with underscores.
        where: The place of the table, for the errors.
        skip: Flags that another table says.
        only: If given, no other flags than these.

    Raises:
        LayerwiseError: A flag is unknown, or its value is of another type.
    """
    keys = {
        key: found
        for key, found in keys_of(_command(name)).items()
        if key not in (*OURS, *skip, "bundle") and (not only or key in only)
    }
    arguments, words = [], []
    named = {p.name: p for p in _command(name).params}
    for key, value in table.items():
        if key not in keys:
            meant = nearest(key, list(keys))[0]
            raise LayerwiseError(
                f"{where}: unknown setting {key!r}; the nearest one is {meant!r}; known are: "
                f"{', '.join(sorted(keys))}"
            )
        parameter, hint, negative = keys[key]
        value = checked(value, hint, f"{where}: {key}")
        if named[parameter].param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, bool):
            opposite = [k for k, (p, _, n) in keys.items() if p == parameter and n != negative]
            if value or opposite:
                words.append(_flag(key if value else opposite[0]))
        else:
            words += [f"{_flag(key)}={v}" for v in (value if isinstance(value, list) else [value])]
    return [*arguments, *words]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


@cache
def _command(name: str) -> Any:  # noqa: ANN401 - of Typer's own copy of click
    from layerwise.cli.main import app  # which imports this file's command

    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]


def _bundle_id(bundle: Path) -> str:
    from layerwise.serving.verify import verify

    return verify(bundle).id


def _same_bundle(results: dict[str, Any]) -> bool:
    """Whether the bundle of a fit is still the one it wrote."""
    try:
        return _bundle_id(Path(results["bundle"])) == str(results["id"])
    except LayerwiseError:
        return False


def _there(name: str) -> Any:  # noqa: ANN401 - a function
    """Whether the file is there that a step's results name."""
    return lambda results: os.path.isfile(results[name])


def _audited(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """What is kept of an inspection."""
    found = [finding["severity"] for finding in summary["findings"]]
    return {
        "report": str(folder / "inspect.html"),
        "findings": {name: found.count(name) for name in ("leak", "warning", "note")},
    }
