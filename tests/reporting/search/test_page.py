"""The page of a search: sentences and figures follow from the numbers of results.json."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from layerwise.reporting.search import words
from layerwise.reporting.search.figures import history, importance, parallel
from layerwise.reporting.search.page import search_page
from layerwise.reporting.study_page import csv_text, render, standalone
from layerwise.studies.search.space import Dimension, Space

SPACE = Space(
    (
        Dimension("model", "kernel", (3, 5)),
        Dimension("training", "lr", (), 1e-4, 1e-1, log=True),
        Dimension("training", "optimizer", ("sgd",)),
    )
)


def interval(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def row(number, state="done", score=0.9, lr=0.01, kernel=3, tied=True, parameters=1000, **more):
    whole = state == "done"
    return {
        "number": number,
        "state": state,
        "values": {"kernel": kernel, "lr": lr, "optimizer": "sgd"},
        "score": interval(score) if whole else None,
        "curve": [] if state == "failed" else [score - 0.1, score],
        "best_so_far": score,
        "behind_best": interval(0.01) if whole else None,
        "within_noise": tied if whole else None,
        "parameters": parameters if whole else None,
        "id": f"{number:016x}",
        "reason": "the loss became nan" if state == "failed" else "",
        "trial_seconds": 1.0,
    } | more


def results(rows, shares=(), best=0, **study):
    first = next(r for r in rows if r["number"] == best)
    first = first | {"behind_best": None, "within_noise": None}
    rows = [first if r["number"] == best else r for r in rows]
    return {
        "command": "layerwise study search x",
        "seed": 0,
        "seconds": 10.0,
        "data": {"name": "x", "labels": ["a"], "counts": {"train": {"a": 4}}},
        "study": {
            "model": "custom",
            "metric": "auroc",
            "pruner": "median",
            "epochs": 2,
            "trials": None,
            "space": SPACE.to_list(),
            "ended": "time",
        }
        | study,
        "runs": [],
        "curves": {
            "trials": rows,
            "importance": [{"name": n, "share": interval(v, w)} for n, v, w in shares],
        },
        "best": {
            "number": best,
            "id": first["id"],
            "run": f"runs/{first['id']}",
            "values": first["values"],
            "parameters": first["parameters"],
            "auroc": first["score"],
        },
        "test": {"auroc": interval(0.87)},
        "saved": {"equal": 1, "taken": 2},
        "notes": ["a note"],
    }


def many(count=12):
    return [row(i, score=0.8 + 0.01 * i, lr=10 ** (-3 + 0.1 * i)) for i in range(count)]


def test_the_answer_names_the_best_and_how_many_are_as_good():
    rows = [row(0, score=0.95, parameters=5000), row(1, parameters=900), row(2, tied=False)]
    said = words.answer(results(rows))
    assert said[0] == "Take trial 0 of 3: kernel 3, lr 0.01, optimizer sgd."
    assert "0.950 (0.930–0.970) on the validation part" in said[1]
    assert "0.870 (0.850–0.890) on the test part" in said[1]
    assert said[2].startswith(
        "1 of the 2 other trials that were trained to the end is within noise"
    )
    assert said[3] == (
        "The smallest of these is trial 1 (900 parameters instead of 5,000): kernel 3, lr 0.01, "
        "optimizer sgd."
    )
    alone = words.answer(results([row(0, score=0.95), row(1, tied=False), row(2, "pruned")]))
    assert alone[2] == "It is ahead of the one other trained to the end by more than noise."
    assert len(words.answer(results([row(0)]))) == 2


def test_history_says_how_trials_ended_and_whether_modelling_helped():
    rows = many(12)
    said = words.of_history(results(rows, best=11))
    assert said[0] == "12 trials: 12 trained to the end. Then the time was up."
    assert (
        "The first 10 trials were drawn at random; the best of these reached AUROC 0.890" in said[1]
    )
    assert "raised that to 0.910" in said[1] and said[2] == "That difference is within noise."
    rows = [row(i, score=0.95 - 0.01 * i, tied=False) for i in range(12)]
    rows += [row(12, "pruned"), row(13, "failed"), row(14, "stopped")]
    said = words.of_history(results(rows, ended="trials"))
    assert said[0] == (
        "15 trials: 12 trained to the end, 1 pruned, 1 stopped as the time was up, 1 failed. They "
        "are as many as were asked for."
    )
    assert "did not raise that (their best is 0.850)" in said[1]


@pytest.mark.parametrize(
    ("shares", "done", "wanted", "absent"),
    [
        (
            [("lr", 0.8, 0.05), ("kernel", 0.2, 0.05)],
            30,
            ["lr explains the largest share"],
            "can not",
        ),
        ([("lr", 0.6, 0.2), ("kernel", 0.4, 0.1)], 30, ["of kernel and of lr overlap"], "unsure"),
        (
            [("lr", 0.8, 0.05), ("kernel", 0.2, 0.05)],
            5,
            ["Importances of few trials are unsure"],
            "can",
        ),
        ([], 2, ["2 trials were trained to the end: too few"], "unsure"),
    ],
)
def test_importance_says_how_sure_it_is(shares, done, wanted, absent):
    said = " ".join(words.of_importance(results([row(i) for i in range(done)], shares)))
    assert all(word in said for word in wanted) and absent not in said.replace("can be", "")


def test_importance_says_what_pruned_trials_leave_out():
    rows = [*many(12), row(12, "pruned"), row(13, "failed")]
    said = words.of_importance(results(rows, [("lr", 0.9, 0.1)]))
    assert "What made the 2 others worse is not in them" in said[-1]


def test_parallel_says_what_the_best_have_in_common():
    rows = [
        row(i, score=0.9 - 0.01 * i, lr=0.01 * (1 + i), kernel=3 if i < 3 else 5) for i in range(9)
    ]
    assert words.of_parallel(results(rows))[0] == (
        "The best 3 trials have kernel 3 and lr 0.01 to 0.03."
    )


def test_notes_say_what_limits_it():
    rows = [row(0), row(1, "failed")]
    said = words.noted(results(rows, metric="auprc"))
    assert "the best AUPRC" in said[0] and said[-1] == "Trial 1 failed: the loss became nan"
    assert not any("median" in s for s in words.noted(results(rows, pruner="none")))


def test_bars_are_as_long_as_their_shares():
    shares = results([row(0)], [("lr", 0.6, 0.1), ("kernel", 0.3, 0.1)])["curves"]["importance"]
    svg = importance(shares, "said")
    lengths = []
    for i in range(2):
        path = re.search(rf'id="importance-share-{i}">\s*<path d="([^"]*)"', svg)[1]
        xs = [float(x) for x, _ in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
        lengths.append(max(xs) - min(xs))
    assert lengths[0] / lengths[1] == pytest.approx(2, rel=1e-3)


def line(svg, gid):
    path = re.search(rf'id="\w+-{gid}">\s*<path d="([^"]*)"', svg)[1]
    return [tuple(map(float, p)) for p in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def test_a_line_goes_through_the_places_of_its_values():
    rows = [
        row(0, score=0.9, lr=1e-1, kernel=5),
        row(1, score=0.8, lr=1e-4, kernel=3),
        row(2, score=0.85, lr=10**-2.5, kernel=3),
        row(3, "pruned"),
    ]
    svg = parallel(SPACE.searched, rows, "auroc", 0, "said")
    best, worst, middle = (line(svg, f"trial-{i}") for i in range(3))
    top, bottom = best[2][1], worst[2][1]  # 0.9 and 0.8 span the last axis
    height = bottom - top
    assert (best[1][1], worst[1][1]) == (pytest.approx(top), pytest.approx(bottom))  # lr's ends
    assert middle[1][1] == pytest.approx(top + height / 2, abs=1e-3)
    assert middle[2][1] == pytest.approx(top + height / 2, abs=1e-3)
    assert best[0][1] == pytest.approx(top + height / 4, abs=1e-3)  # the upper of two choices
    assert "stroke-dasharray" in svg and "not trained to the end" in svg


def test_figures_stand_alone_and_are_equal_for_equal_numbers():
    rows = [*many(12), row(12, "pruned"), row(13, "failed"), row(14, "stopped")]
    for one, other in zip(*[figures_of(rows)] * 2, strict=True):
        assert one == other
        root = ElementTree.fromstring(standalone(one))
        assert "var(" not in standalone(one)
        texts = " ".join(e.text for e in root.iter() if e.tag.endswith("text") and e.text)
        assert texts
    drawn = figures_of(rows)[2]
    for word in ("best so far", "pruned", "failed", "stopped, the time was up", "at random"):
        assert word in drawn


def figures_of(rows):
    shares = results(rows, [("lr", 0.6, 0.1), ("kernel", 0.3, 0.1)])["curves"]["importance"]
    return [
        importance(shares, "said"),
        parallel(SPACE.searched, rows, "auroc", 11, "said"),
        history(rows, "auroc", 11, 10, "said"),
    ]


def test_the_page_has_every_figure_with_its_data_and_the_commands():
    found = results(
        [*many(12), row(12, "failed")], [("lr", 0.6, 0.1), ("kernel", 0.3, 0.1)], best=11
    )
    page = search_page(found, SPACE, "here")
    assert [f.name for f in page.figures] == ["importance", "parallel", "history"]
    assert page.reproduce[1] == "layerwise study search --recipe here/best.toml --out AGAIN"
    html = render(found, page)
    assert "Take trial 11 of 13" in html and "1 trial was equal to an earlier one" in html
    table = csv_text(page.tables[0].rows, list(page.tables[0].columns)).splitlines()
    assert table[0].startswith("trial,state,score,score_low,score_high,behind")
    assert table[1].startswith("11,done,0.91") and table[-1].startswith("12,failed,,")


def test_one_trial_alone_has_a_page():
    alone = row(0) | {"values": {}}
    found = results([alone], ended="space", space=[])
    page = search_page(found, Space(()))
    assert [f.name for f in page.figures] == ["history"]
    assert page.answer[0] == "Nothing was left to search: one network was trained."
    assert "<svg" in render(found, page)
