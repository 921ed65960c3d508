"""Transfer against random initialisation, layer by layer (Yosinski et al. 2014, §2).

For a base network A and a task B, at every main cut n: AnB copies the layers up to n from A and
freezes them; AnB+ copies them and lets them learn. Random initialisation is the level both must
beat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.study import Outcome
from layerwise.studies.trained import train
from layerwise.studies.workspace import Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RANDOM = "random initialisation"


@dataclass(frozen=True)
class Treatment:
    """One transfer of the comparison: what it is called in the paper, and at which cut."""

    name: str  # "AnB", "AnB+" or RANDOM
    cut: str | None  # None for random initialisation
    transfer: Transfer


def treatments(source: str, cuts: Sequence[str]) -> list[Treatment]:
    """Random initialisation, then AnB and AnB+ at every cut, bottom to top."""
    out = [Treatment(RANDOM, None, Transfer("none", keep="all", copy="none", freeze="none"))]
    for cut in cuts:
        frozen = Transfer(source, keep="all", copy=cut, freeze=cut)
        tuned = Transfer(source, keep="all", copy=cut, freeze="none")
        out += [Treatment("AnB", cut, frozen), Treatment("AnB+", cut, tuned)]
    return out


def compare(work: Workspace, recipe: Recipe, repeats: int) -> list[tuple[Treatment, list[Outcome]]]:
    """Train every treatment with several seeds on the workspace's task.

    All treatments learn by the same recipe with one rate for all layers, as in the paper. One
    that learns little, on layers frozen too high up, is a finding and not an error.
    """
    even = replace(recipe, copied_lr=1.0, layer_decay=1.0)
    out = []
    for treatment in treatments(work.weights_name, [cut.name for cut in work.cuts()]):
        seeds = [replace(work, seed=work.seed + repeat) for repeat in range(repeats)]
        outcomes = [train(seed, treatment.transfer, even, check=False) for seed in seeds]
        out.append((treatment, outcomes))
    return out


def comparison_rows(
    work: Workspace, compared: list[tuple[Treatment, list[Outcome]]]
) -> list[dict[str, Any]]:
    """{"name", "cut", "accuracy": interval} of each treatment on validation.

    The repeats of an image are resampled together with it, so that the interval is that of the
    mean over repeats, over images.
    """
    rows = []
    for treatment, outcomes in compared:
        said = [outcome.validation for outcome in outcomes]
        together = Predictions(
            np.concatenate([s.ids for s in said]),
            np.concatenate([s.targets for s in said]),
            np.concatenate([s.scores for s in said]),
            np.concatenate([s.groups for s in said]),
        )
        task = work.manifest.task
        accuracy = bootstrap(
            task,
            together.targets,
            together.scores,
            None if task == "multiclass" else 0.5,
            together.groups,
            seed=work.seed,
        )["accuracy"]
        rows.append({"name": treatment.name, "cut": treatment.cut, "accuracy": accuracy})
    return rows
