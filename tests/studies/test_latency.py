"""Latencies from a clock that the test turns itself, and of one small network that really runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from layerwise.errors import LayerwiseError, ModelError
from layerwise.evaluation import timing
from layerwise.evaluation.timing import Latency, in_turns, speedup, summary
from layerwise.studies import latency
from layerwise.studies.latency import measure_latency
from layerwise.training.network import TransferNetwork, build
from layerwise.training.transfer import Transfer


class Machine:
    """Things that take as long as they are told to; it knows in which order they ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def clock(self) -> float:
        return self.now

    def thing(self, name: str, *seconds: float):
        """Takes these one after the other, the last one from then on."""
        left = list(seconds)

        def run() -> None:
            self.ran.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_slow_things_run_once_a_round_and_there_and_back() -> None:
    machine = Machine()
    runs = {"a": machine.thing("a", 9, 1, 1, 2, 3), "b": machine.thing("b", 5, 2, 4, 6, 8)}
    rounds, counts = in_turns(runs, 0, machine.clock)
    assert "".join(machine.ran) == "aabb" + "ab" + "ba" + "ab"  # twice each, then three rounds
    assert rounds == {"a": [1, 2, 3], "b": [4, 6, 8]} and counts == {"a": 3, "b": 3}


def test_quick_things_are_warmed_and_run_thrice() -> None:
    machine = Machine()
    # first, second; then of each round one unmeasured and three of which the median counts
    quick = (7, 0.01, 5, 0.01, 0.02, 0.04, 5, 0.02, 0.01, 0.01, 5, 0.04, 0.04, 0.01)
    runs = {"a": machine.thing("a", *quick), "b": machine.thing("b", 2)}
    rounds, counts = in_turns(runs, 0, machine.clock)
    assert "".join(machine.ran) == "aabb" + "aaaab" + "baaaa" + "aaaab"
    assert rounds["a"] == pytest.approx([0.02, 0.01, 0.04]) and counts == {"a": 9, "b": 3}


def test_no_round_is_begun_that_would_be_over_the_time() -> None:
    for seconds, expected in [(0, 3), (9.9, 3), (10.1, 4), (17.9, 7), (1000, timing.MOST_ROUNDS)]:
        machine = Machine()  # 2 seconds to begin with and 2 a round
        rounds, _ = in_turns({"a": machine.thing("a", 0, 2)}, seconds, machine.clock)
        assert len(rounds["a"]) == expected


def test_summary_is_median_and_quartiles_in_milliseconds() -> None:
    got = summary([0.005, 0.001, 0.002, 0.004, 0.003], 15, 2)
    assert got == Latency(3.0, 2.0, 4.0, 15, (5.0, 1.0, 2.0, 4.0, 3.0), 2)


def test_speedup_is_paired_by_round() -> None:
    noise = np.random.default_rng(0).uniform(1, 5, 21)
    full, half = summary(3 * noise, 21, 1), summary(noise, 21, 1)
    # A machine that is busy slows both alike: the ratio is 3 in every resample.
    assert speedup(full, half) == pytest.approx({"value": 3, "low": 3, "high": 3}, rel=1e-3)
    assert speedup(half, full)["value"] == pytest.approx(1 / 3, rel=1e-3)
    # The machine became slow within the third round: the ratio of the medians would be 8.
    now_and_then = speedup(summary([2, 2, 8, 8, 8], 5, 1), summary([1, 1, 1, 4, 4], 5, 1))
    assert now_and_then["value"] == 2
    apart = speedup(full, summary(noise, 21, 2))  # another sitting: nothing to pair
    assert apart["value"] == pytest.approx(3, rel=1e-3)
    assert apart["low"] < 2.5 and apart["high"] > 3.5
    fewer = speedup(full, summary(noise[:9], 9, 1))
    assert fewer["low"] < fewer["value"] < fewer["high"]
    alone = speedup(summary([0.4], 1, 1), summary([0.1], 1, 1))
    assert alone["value"] == 4 and np.isnan([alone["low"], alone["high"]]).all()


def test_speedup_equals_a_slow_loop() -> None:
    rng = np.random.default_rng(4)
    a, b = summary(rng.uniform(1, 2, 7), 7, 1), summary(rng.uniform(2, 3, 7), 7, 1)
    generator = np.random.default_rng(3)
    rows = generator.integers(0, 7, (50, 7))
    ratios = [np.median([a.rounds[i] / b.rounds[i] for i in r]) for r in rows]
    expected = np.percentile(ratios, [2.5, 97.5])
    got = speedup(a, b, draws=50, seed=3)
    assert got["value"] == np.median([x / y for x, y in zip(a.rounds, b.rounds, strict=True)])
    assert [got["low"], got["high"]] == pytest.approx(list(expected))


def network(keep: str = "all") -> TransferNetwork:
    transfer = Transfer("none", keep=keep, copy="none")
    return build(transfer, model="lenet5", outputs=2, seed=0, image_size=32)


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Sessions that take a time of their own: 10 ms a picture and 1 more for each network."""
    opened: list[tuple[str, int]] = []

    class Timed:
        def __init__(self, name: str, threads: int) -> None:
            opened.append((name, threads))
            self.seconds = 0.01 + 0.001 * len(opened)
            self.spent = 0.0

        def run(self, pictures: np.ndarray) -> None:
            assert pictures.dtype == np.uint8 and pictures.shape[1:] == (32, 32, 1)
            machine.now += self.seconds * len(pictures)

    machine = Machine()
    monkeypatch.setattr(
        latency, "_session", lambda name, net, pixels, threads: Timed(name, threads)
    )
    monkeypatch.setattr(timing.time, "perf_counter", machine.clock)
    original = timing.in_turns
    monkeypatch.setattr(latency, "in_turns", lambda runs, s: original(runs, s, machine.clock))
    monkeypatch.setattr(latency, "processor", lambda: "A CPU")
    return opened


def test_only_what_is_not_kept_is_measured(clocked, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "latency.json"
    nets = {"whole": network(), "short": network("conv1")}

    def measure(names: list[str], threads: int = 2, batches: tuple[int, ...] = (1, 4)):
        some = {name: nets[name] for name in names}
        return measure_latency(some, (32, 32), 1, threads=threads, batches=batches, kept=kept)

    first = measure(["whole"])
    assert clocked == [("whole", 2)]
    assert first["whole"][1].median_ms == pytest.approx(11)  # 10 + 1, a picture
    assert first["whole"][4].median_ms == pytest.approx(44)
    assert first["whole"][1].rounds == (11.0,) * timing.MOST_ROUNDS
    assert first["whole"][1].runs == 3 * timing.MOST_ROUNDS
    both = measure(["short", "whole"])
    assert clocked[1:] == [("short", 2)] and list(both) == ["short", "whole"]
    assert both["whole"] == first["whole"]
    assert both["short"][4].median_ms == pytest.approx(48)
    assert (both["whole"][1].sitting, both["short"][1].sitting) == (1, 2)
    assert measure(["whole", "short"]) == both and len(clocked) == 2  # all of it from the file
    assert measure(["whole"], batches=(4, 8))["whole"][4] == both["whole"][4]  # 8 alone is new
    assert measure(["whole"], threads=1)["whole"][1].median_ms == pytest.approx(14)
    keys = list(json.loads(kept.read_text()))
    parameters = sum(p.numel() for p in nets["whole"].parameters())
    assert keys[0] == f"whole, {parameters} parameters, 32×32×1, batch 1, 2 threads, A CPU"
    assert [path.name for path in kept.parent.iterdir()] == ["latency.json"]


def test_a_real_network_is_measured_and_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(timing, "MOST_ROUNDS", 4)
    kept = tmp_path / "latency.json"
    nets = {"whole": network(), "short": network("conv1")}
    nets["whole"].train()
    got = measure_latency(nets, (32, 32), 1, threads=1, batches=(1, 3), kept=kept)
    assert nets["whole"].training  # as it was
    for name in nets:
        for batch in (1, 3):
            one = got[name][batch]
            assert np.isfinite(one.rounds).all() and min(one.rounds) > 0
            assert 0 < one.low_ms <= one.median_ms <= one.high_ms
            assert len(one.rounds) == 4 and one.runs in (4, 12)
    again = measure_latency(nets, (32, 32), 1, threads=1, batches=(1, 3), kept=kept)
    assert again == got


def test_the_session_gives_the_networks_own_logits() -> None:
    import torch

    net = network().eval()
    pictures = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    session = latency._session("whole", net, pictures, 1)
    with torch.inference_mode():
        expected = net(torch.from_numpy(pictures)).numpy()
    assert session.run(pictures)[0] == pytest.approx(expected, abs=1e-5)


def test_bad_files_and_networks_are_named(tmp_path: Path, monkeypatch) -> None:
    kept = tmp_path / "latency.json"

    def measure(net: TransferNetwork) -> None:
        measure_latency({"whole": net}, (32, 32), 1, threads=1, kept=kept)

    for text, message in [
        ("{", "not readable as JSON"),
        ("[]", "holds no latencies; remove it"),
        ('{"a": {"median_ms": "fast"}}', "median_ms is 'fast'.*remove the file"),
        ('{"a": {"median_ms": 1.0}}', "missing.*remove the file"),
    ]:
        kept.write_text(text)
        with pytest.raises(LayerwiseError, match=message) as caught:
            measure(network())
        assert str(kept) in str(caught.value)
    kept.unlink()

    def refused(*args: object) -> None:
        raise ModelError("the network can not be written as an ONNX graph: no such operator")

    monkeypatch.setattr(latency, "export_graph", refused)
    with pytest.raises(ModelError, match="whole: its latency can not be measured: .*no such op"):
        measure(network())
    monkeypatch.undo()
    monkeypatch.setattr(timing, "MOST_ROUNDS", 1)
    (tmp_path / "file").write_text("")
    kept = tmp_path / "file" / "latency.json"
    with pytest.raises(LayerwiseError, match="can not be written"):
        measure(network())
