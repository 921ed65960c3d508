"""The page of a depth study on made-up numbers whose sentences are known."""

import copy
import csv
import re
from xml.etree import ElementTree

import pytest

from layerwise.reporting.depth import words as words
from layerwise.reporting.depth.figures import depth_order
from layerwise.reporting.depth.page import depth_page
from layerwise.reporting.study_page import write_study

# (cut, parameters, multiply–adds, AUPRC of the probe)
CUTS = [
    ("bn1", 928, 10_838_016, 0.86),
    ("blocks.0", 1_824, 20_873_216, 0.88),
    ("blocks.1", 15_792, 75_800_000, 0.93),
    ("blocks.2", 55_488, 113_300_000, 0.955),
    ("blocks.3", 239_360, 151_800_000, 0.968),
    ("blocks.4", 542_528, 209_900_000, 0.972),
    ("blocks.5", 1_337_792, 256_400_000, 0.970),
    ("blocks", 1_811_712, 279_400_000, 0.965),
    ("bn2", 2_223_872, 299_500_000, 0.960),
]
# kind, cut, level, AUPRC, half its interval, half that of the difference to the best, speed-up
TRAINED = [
    ("full", "all", "", 0.984, 0.010, 0.004, 1.0),
    ("truncated", "blocks.1", "", 0.950, 0.016, 0.010, 3.2),
    ("truncated", "blocks.2", "", 0.979, 0.012, 0.003, 2.4),
    ("truncated", "blocks.3", "", 0.983, 0.011, 0.006, 1.9),
    ("frozen", "blocks.3", "blocks.1", 0.981, 0.011, 0.007, 1.9),
    ("hybrid", "blocks.3", "blocks.1", 0.962, 0.014, 0.009, 1.9),
    ("truncated", "blocks.5", "", 0.987, 0.009, 0.0, 1.2),
]
BEST = 0.987


def interval(value: float, half: float) -> dict:
    return {"value": value, "low": value - half, "high": min(1.0, value + half)}


def candidate(kind, cut, level, value, half, paired, faster) -> dict:
    sizes = {name: (parameters, macs) for name, parameters, macs, _ in CUTS}
    parameters, macs = sizes.get(cut, (2_225_153, 299_495_552))
    name = {
        "full": "the full network",
        "truncated": f"truncated at {cut}",
        "frozen": f"truncated at {cut}, frozen to {level}",
        "hybrid": f"truncated at {cut}, copied to {level}",
        "probe": f"probe at {cut}",
    }[kind]
    quality = interval(value, half) | {"sd": None, "repeats": [value]}
    best, full = value - BEST, value - 0.984
    return {
        "name": name,
        "kind": kind,
        "cut": cut,
        "preset": None,
        "copy": level if kind == "hybrid" else cut,
        "freeze": level if kind == "frozen" else "none",
        "id": f"{abs(hash(name)):016x}"[:16],
        "repeats": 1,
        "auprc": quality,
        "auroc": quality,
        "parameters": parameters,
        "macs": macs,
        "latency": None
        if faster is None
        else {
            "batch1_seconds": interval(0.012 / faster, 0.0004),
            "batch16_seconds": interval(0.15 / faster, 0.004),
            "speedup_of_batch1_seconds": interval(faster, 0.05),
            "speedup_of_batch16_seconds": interval(faster * 1.1, 0.05),
        },
        "difference_to_best": {"value": best, "low": best - paired, "high": best + paired},
        "inside_best": value >= BEST - 0.009,
        "equal_to_best": best + paired >= 0,
        "good_enough": value >= BEST - 0.009 and best + paired >= 0,
        "difference_to_full": {"value": full, "low": full - 0.004, "high": full + 0.004},
        "inside_full": value >= 0.984 - 0.010,
        "equal_to_full": full + 0.004 >= 0,
    }


def made_up() -> dict:
    rows = [candidate(*one) for one in TRAINED]
    rows += [candidate("probe", cut, "", value, 0.012, 0.008, None) for cut, _, _, value in CUTS]
    front = ["probe at bn1", "truncated at blocks.1", "truncated at blocks.2"]
    front += ["truncated at blocks.3", "truncated at blocks.5"]
    quick = [name for name in front if not name.startswith("probe")]
    difference = {"value": -0.021, "low": -0.029, "high": -0.012}
    return {
        "command": "layerwise study depth xrays --out here",
        "seed": 0,
        "seconds": 1700.0,
        "data": {"name": "xrays", "labels": ["NORMAL", "PNEUMONIA"], "counts": {}},
        "study": {"model": "timm:mobilenetv2_100", "metric": "auprc"},
        "runs": [],
        "curves": {
            "probes": [
                {"cut": cut, "parameters": p, "macs": m, "stride": 2}
                | {k: interval(value, 0.012) for k in ("auroc", "auprc")}
                for cut, p, m, value in CUTS
            ],
            "candidates": rows,
            "pareto": {
                "parameters": front,
                "macs": front,
                "batch1_seconds": quick,
                "batch16_seconds": quick,
            },
            "similarity": [
                {"network": network, "cut": cut, "cka": cka, "svcca": cka - 0.05, "chance": chance}
                for network, last in (("the full network", 9), ("truncated at blocks.5", 7))
                for (cut, *_), cka, chance in list(
                    zip(
                        CUTS,
                        (0.99, 0.99, 0.98, 0.95, 0.91, 0.86, 0.7, 0.52, 0.31),
                        (0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3),
                        strict=True,
                    )
                )[:last]
            ],
            "alternatives": [
                {
                    "cut": "blocks.3",
                    "kind": "hybrid",
                    "name": "truncated at blocks.3, copied to blocks.1",
                    "level": "blocks.1",
                    "auprc": interval(0.962, 0.014),
                    "difference_to_truncated": difference,
                },
                {
                    "cut": "blocks.3",
                    "kind": "frozen",
                    "name": "truncated at blocks.3, frozen to blocks.1",
                    "level": "blocks.1",
                    "auprc": interval(0.981, 0.011),
                    "difference_to_truncated": {"value": -0.002, "low": -0.006, "high": 0.003},
                },
            ],
        },
        "best": "truncated at blocks.5",
        "recommended": {"name": "truncated at blocks.3", "run": "runs/abc"},
        "test": {
            "networks": [
                {"name": "truncated at blocks.3", "auprc": interval(0.97, 0.02)},
                {"name": "the full network", "auprc": interval(0.975, 0.02)},
            ],
            "difference": {"auprc": {"value": -0.005, "low": -0.012, "high": 0.002}},
        },
        "stages": [
            {"name": "coarse", "runs": ["fine-tuned", "truncated at blocks.3"], "left_out": []},
            {
                "name": "fine 1",
                "runs": [],
                "left_out": [{"name": "truncated at blocks.4", "reason": "no time was left"}],
            },
        ],
        "saved": {"probes": 9, "taken": 0},
        "notes": ["Every network learns for 6 epochs: what the time holds."],
    }


@pytest.fixture
def results() -> dict:
    return made_up()


def test_the_answer_says_what_to_do_and_how_it_was_decided(results):
    first, second, third, fourth = words.answer(results)
    assert first.startswith(
        "Cut timm:mobilenetv2_100 off at blocks.3, and fine-tune all that is left: it has 11% of "
        "the parameters (239 k of 2.23 M) and 51% of the multiply–adds; it is 1.90 times as fast "
        "at batch 1 and 2.09 times as fast at batch 16"
    )
    assert "0.983 (0.972–0.994), inside the interval of the best one" in second
    assert (
        "the network truncated at blocks.5 is within noise (−0.004 AUPRC, 95% −0.010 to 0.002)"
        in second
    )
    # blocks.2 is 2.4 times as fast and inside the full network's interval (0.974–0.994).
    assert third.startswith(
        "The fastest network with an AUPRC inside the full network's interval: the network "
        "truncated at blocks.2, 0.979 (0.967–0.991), 2.40 times as fast at batch 1."
    )
    assert "It is lower than the full network by 0.005 AUPRC (95% 0.001 to 0.009)." in third
    assert fourth == (
        "On the test part, looked at once, the network truncated at blocks.3 has an AUPRC of 0.970 "
        "(0.950–0.990), and the full network 0.975 (0.955–0.995). The difference between "
        "the network truncated at blocks.3 and the full network is within noise "
        "(−0.005 AUPRC, 95% −0.012 to 0.002)."
    )


def test_a_test_that_speaks_against_the_advice_comes_right_after_it(results):
    before = words.answer(results)
    results["test"]["difference"]["auprc"] = {"value": -0.02, "low": -0.036, "high": -0.005}
    first, second, *rest = words.answer(results)
    assert first == before[0]
    assert second.startswith(
        "Careful: the test part does not bear this out. On the test part, looked at once, the "
        "network truncated at blocks.3 has an AUPRC of 0.970"
    )
    assert second.endswith("lower than the full network by 0.020 AUPRC (95% 0.005 to 0.036).")
    assert rest == before[1:-1]


def test_where_no_truncated_network_qualifies_it_is_said(results):
    for row in results["curves"]["candidates"][1:]:
        row |= {"inside_full": False, "equal_to_full": False, "good_enough": False}
    results["best"] = results["recommended"]["name"] = "the full network"
    results["test"] = {"networks": results["test"]["networks"][1:], "difference": None}
    first, second, third = words.answer(results)
    assert first.startswith("Keep the whole of timm:mobilenetv2_100: no smaller network's AUPRC")
    assert second == (
        "No truncated network reaches the AUPRC interval of the full network, 0.984 (0.974–0.994)."
    )
    assert third.endswith("the full network has an AUPRC of 0.975 (0.955–0.995).")
    assert "Every truncated network is measurably worse than the full one." in words.of_depth(
        results
    )


def test_too_little_gained_is_said(results):
    for row in results["curves"]["candidates"]:
        if row["latency"] and row["kind"] != "full":
            row["latency"]["speedup_of_batch1_seconds"] = interval(1.02, 0.05)
    said = words.against_full(results)
    assert said.startswith("No truncated network that is 1.5 times as fast has an AUPRC inside")
    assert (
        "as fast within noise (1.02 times, 95% 0.97 to 1.00) at batch 1" in words.answer(results)[0]
    )


def test_depth_and_cost_in_words(results):
    depth = words.of_depth(results)
    assert depth[0].startswith(
        "The best probe stands at blocks.4, 0.972 (0.960–0.984): the 6th of 9"
    )
    assert "is within noise (0.003 AUPRC, 95% −0.001 to 0.007)" in depth[1]
    assert depth[2].startswith(
        "2 of 4 truncated networks are within noise of the full one or better"
    )
    assert depth[2].endswith("ends at blocks.3.")
    cost = words.of_cost(results)
    # blocks.2 lies inside the best one's interval (0.978 …) and is measurably worse all the same.
    assert any("lower than the best one by 0.008 AUPRC (95% 0.005 to 0.011)" in s for s in cost)


def test_alternatives_and_layers_in_words(results):
    hybrid, frozen = words.of_alternatives(results)
    assert (
        "lower than the network truncated at blocks.3, copied and fine-tuned as a whole," in hybrid
    )
    assert "by 0.021 AUPRC (95% 0.012 to 0.029)" in hybrid and "within noise" in frozen
    full, truncated, chance = words.of_similarity(results)
    assert full.startswith("The full network: fine-tuning changed bn2 most (CKA 0.310); 5 of 9")
    assert truncated.startswith(
        "The network truncated at blocks.5: fine-tuning changed blocks.5 most (CKA 0.700)"
    )
    assert chance.startswith("SVCCA can not be told from nothing in common at bn2")
    results["curves"]["alternatives"] = []
    assert "see what was left out" in words.of_alternatives(results)[0]
    assert words.of_search(results)[1] == (
        "Fine 1, left out: truncated at blocks.4; no time was left."
    )


def test_cuts_stand_in_their_order_finer_ones_between(results):
    rows = copy.deepcopy(results["curves"]["candidates"])
    rows.append(candidate("truncated", "blocks.4", "", 0.98, 0.01, 0.01, 1.4))
    rows[-1] |= {"cut": "blocks.4.0.bn2", "macs": 157_300_000, "parameters": 268_928}
    order = depth_order(results["curves"]["probes"], rows)
    names = [cut for cut, *_ in CUTS]
    assert order == [*names[:5], "blocks.4.0.bn2", *names[5:]]


def test_files_and_figures(results, tmp_path):
    write_study(tmp_path, results, depth_page(results))
    for name in ("depth", "cost", "similarity"):
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert root.tag.endswith("svg") and root.get("aria-label")
    with (tmp_path / "cost.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(rows) == 16
    chosen = rows["truncated at blocks.3"]
    assert chosen["recommended"] == "true" and chosen["front_by_batch1"] == "true"
    assert float(chosen["batch1_ms"]) == pytest.approx(12 / 1.9, abs=0.01)
    assert rows["probe at bn1"]["batch1_ms"] == "" and chosen["auprc_low"] == "0.972"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg id=") == 3 and "recommended</strong>" in page
    assert not re.findall(r"(?:src|href)=\"https?:", page)
