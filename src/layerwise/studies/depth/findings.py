"""What a depth study found: quality against cost, the network to take, and its one test.

Everything is chosen on the validation part. Then the recommended network and the full one are
tested once; what they say is kept in their runs' folders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from layerwise.evaluation.estimates import Estimate
from layerwise.evaluation.predictions import Predictions
from layerwise.models.presets import presets_of
from layerwise.studies.depth.front import Standing, best_of, pareto, smallest, standings
from layerwise.studies.depth.similarity import LayerSimilarity, layer_similarity
from layerwise.studies.depth.stages import Candidate, quality_of
from layerwise.studies.depth.truncation import Searched
from layerwise.studies.latency import Latency, measure_latency
from layerwise.studies.profile import Probe, probe_transfer
from layerwise.studies.study import Outcome
from layerwise.studies.trained import rebuild, test_logits, train
from layerwise.studies.workspace import Workspace
from layerwise.training.network import TransferNetwork
from layerwise.training.transfer import Transfer

METRICS = ("auroc", "auprc")
BATCHES = (1, 16)  # that latency is measured at
LATENCY_SECONDS, LATENCY_SHARE = 60.0, 0.05  # measuring takes at most this, and of the time
COSTS = ("parameters", "macs", *(f"batch{n}_seconds" for n in BATCHES))


@dataclass(frozen=True)
class Point:
    """A network: how good it is, and what it costs.

    Attributes:
        kind: "full", "truncated", "hybrid", "frozen" or "probe".
        name: In words.
        cut: Where it ends; "all" for the whole network.
        preset: Its name in the literature, or "".
        transfer: What is kept, copied and frozen.
        outcomes: Of its runs, one a repeat.
        parameters: Of the whole network.
        macs: Multiply–adds of one image.
        quality: On validation, by metric.
        latency: Of a batch, by its size; empty: not measured.
        standing: How it stands to the best one, by the study's metric.
        to_full: How it stands to the full network.
    """

    kind: str
    name: str
    cut: str
    preset: str
    transfer: Transfer
    outcomes: tuple[Outcome, ...]
    parameters: int
    macs: int
    quality: dict[str, Estimate]
    latency: dict[int, Latency]
    standing: Standing
    to_full: Standing

    def cost(self, name: str) -> float:
        """One of COSTS; NaN where it was not measured."""
        if name in ("parameters", "macs"):
            return float(getattr(self, name))
        batch = int(name.removeprefix("batch").removesuffix("_seconds"))
        return self.latency[batch].median_ms / 1000 if batch in self.latency else float("nan")


@dataclass(frozen=True)
class Tested:
    """What a network says of the test part.

    Attributes:
        point: The network.
        said: Its predictions, one a repeat.
        quality: By metric, over its repeats.
    """

    point: Point
    said: tuple[Predictions, ...]
    quality: dict[str, Estimate]


@dataclass(frozen=True)
class Findings:
    """What a depth study found.

    Attributes:
        searched: What was trained.
        metric: What quality is.
        points: The full network, then the others from the bottom up, then the probes.
        best: The index of the best one.
        recommended: The index of the smallest good enough one.
        fronts: By cost, the indices of what no other one beats, the cheapest first.
        similarity: By the name of a network, each layer before and after fine-tuning.
        tested: The recommended one, and the full one if it is another.
    """

    searched: Searched
    metric: str
    points: list[Point]
    best: int
    recommended: int
    fronts: dict[str, list[int]]
    similarity: dict[str, list[LayerSimilarity]]
    tested: list[Tested]

    @property
    def work(self) -> Workspace:
        """What all runs share."""
        return self.searched.work


@dataclass(frozen=True)
class _Rated:
    """A network before its latency is known."""

    kind: str
    transfer: Transfer
    outcomes: tuple[Outcome, ...]
    parameters: int
    macs: int
    quality: dict[str, Estimate]


def findings(searched: Searched) -> Findings:
    """Everything that follows from the finished runs, latencies and the test included."""
    work, metric = searched.work, searched.plan.settings.metric
    rated = _rated(searched)
    quality = [one.quality[metric] for one in rated]
    best = best_of(quality, [one.parameters for one in rated])
    standing, to_full = standings(quality, best), standings(quality, 0)
    sizes = [(one.parameters, one.macs) for one in rated]
    recommended = smallest(standing, sizes, [q.value for q in quality])
    latencies = _latencies(searched, rated, standing, metric)
    named = {preset.cut: preset.name for preset in presets_of(work.model)}
    points = [
        Point(
            one.kind,
            _name(one.kind, one.transfer, named.get(one.transfer.keep, "")),
            one.transfer.keep,
            named.get(one.transfer.keep, ""),
            one.transfer,
            one.outcomes,
            one.parameters,
            one.macs,
            one.quality,
            latencies.get(one.transfer.keep, {}),
            standing[i],
            to_full[i],
        )
        for i, one in enumerate(rated)
    ]
    values = [q.value for q in quality]
    fronts = {cost: pareto([point.cost(cost) for point in points], values) for cost in COSTS}
    which = list(dict.fromkeys((recommended, 0)))
    tested = [_tested(searched, points[i]) for i in which]
    return Findings(
        searched, metric, points, best, recommended, fronts, _similarity(searched), tested
    )


def _rated(searched: Searched) -> list[_Rated]:
    """The full network, then the other trained ones and the probes, each from the bottom up."""
    work = searched.work
    macs = {name: cut.macs for name, cut in searched.cuts.items()} | {work.keep: searched.macs}
    place = {name: i for i, name in enumerate(searched.cuts)} | {work.keep: len(searched.cuts)}
    kinds = ("truncated", "frozen", "hybrid")
    full, *others = searched.candidates
    others.sort(key=lambda c: (place[c.transfer.keep], kinds.index(c.kind), c.transfer.name))

    def rate(kind: str, transfer: Transfer, outcomes: Sequence[Outcome]) -> _Rated:
        said = [outcome.validation for outcome in outcomes]
        quality = {metric: quality_of(work, said, metric) for metric in METRICS}
        cost = macs[transfer.keep]
        return _Rated(kind, transfer, tuple(outcomes), outcomes[0].parameters, cost, quality)

    trained = [rate(c.kind, c.transfer, c.outcomes) for c in (full, *others)]
    probes = [
        rate("probe", probe_transfer(p.cut.name, work.weights_name), [p.outcome])
        for p in searched.probes
    ]
    return trained + probes


def _name(kind: str, transfer: Transfer, preset: str) -> str:
    """Short words for figures and tables."""
    where = f"{transfer.keep} ({preset.title()})" if preset else transfer.keep
    return {
        "full": "the full network",
        "truncated": f"truncated at {where}",
        "hybrid": f"truncated at {where}, copied to {transfer.copy}",
        "frozen": f"truncated at {where}, frozen to {transfer.freeze}",
        "probe": f"probe at {where}",
    }[kind]


def _latencies(
    searched: Searched, rated: Sequence[_Rated], standing: Sequence[Standing], metric: str
) -> dict[str, dict[int, Latency]]:
    """By where a network ends; measured once, and kept in OUT/latency.json.

    Networks that end at one cut are one graph with other weights, so one of them is measured. Of
    probes, those that are good enough, or not beaten by any network of as few operations.
    """
    work = searched.work
    values = [one.quality[metric].value for one in rated]
    front = set(pareto([one.macs for one in rated], values))
    wanted: dict[str, Transfer] = {}
    for i, one in enumerate(rated):
        if one.kind != "probe" or standing[i].enough or i in front:
            wanted.setdefault(one.transfer.keep, one.transfer)
    work.say(f"latency by ONNX Runtime of {len(wanted)} networks, in turns")
    return measure_latency(
        {cut: work.network(transfer).eval() for cut, transfer in wanted.items()},
        work.image_size,
        work.store.channels,
        threads=work.threads,
        batches=BATCHES,
        seconds=min(LATENCY_SECONDS, LATENCY_SHARE * searched.plan.setup.budget_seconds),
        kept=work.runs.folder.parent / "latency.json",
    )


def _similarity(searched: Searched) -> dict[str, list[LayerSimilarity]]:
    """The full network, fine-tuned, and the best truncated one, each against the pretrained one."""
    work, metric = searched.work, searched.plan.settings.metric
    truncated = [c for c in searched.candidates if c.kind == "truncated"]
    quality = [c.quality(work, metric) for c in truncated]
    best = truncated[best_of(quality, [c.parameters for c in truncated])]
    out = {}
    for candidate in (searched.candidates[0], best):
        work.say(f"similarity to the pretrained network by layer: {candidate.transfer.name}")
        out[_name(candidate.kind, candidate.transfer, "")] = layer_similarity(
            work, _network(searched, candidate)
        )
    return out


def _network(searched: Searched, candidate: Candidate) -> TransferNetwork:
    """A trained network, of its first run."""
    done = candidate.done[0]
    space = searched.stages.engine.space(done.planned)
    outcome = space.runs.find(done.run)
    assert outcome is not None, "it is finished"
    return rebuild(space, candidate.transfer, outcome)


def _tested(searched: Searched, point: Point) -> Tested:
    said = _said_of_test(searched, point)
    quality = {metric: quality_of(searched.work, said, metric) for metric in METRICS}
    return Tested(point, tuple(said), quality)


def _said_of_test(searched: Searched, point: Point) -> list[Predictions]:
    """One a repeat; found out once, and then read."""
    work = searched.work
    if point.kind == "probe":
        return [_probe_on_test(work, searched.probes, point)]
    candidate = next(c for c in searched.candidates if c.transfer == point.transfer)
    out = []
    for done in candidate.done:
        space = searched.stages.engine.space(done.planned)
        again = train(
            space, done.planned.transfer, done.planned.recipe, check=False, parts=["test"]
        )
        out.append(again.parts["test"])
    return out


def _probe_on_test(work: Workspace, probes: Sequence[Probe], point: Point) -> Predictions:
    probe = next(p for p in probes if p.cut.name == point.cut)
    outcome = work.runs.find(probe.outcome.run)
    assert outcome is not None, "it is finished"
    if "test" in outcome.parts:
        return outcome.parts["test"]
    rows = work.rows("test")
    network = rebuild(work, point.transfer, outcome)
    said = work.predictions(rows, test_logits(work, network, rows))
    work.runs.add_part(outcome.run, "test", said)
    return said
