"""Seconds and memory of `layerwise inspect --no-images` on a table of many rows.

    python bench/inspect_rows.py --rows 1000000
    python bench/inspect_rows.py --rows 1000000 --table chexpert_train.csv.gz

The first table is generated: a manifest of 14 labels, 300,000 patients, dates and a split by
patient, whose files do not exist. `--table` adds a table of yours. The command runs as a process
of its own; its seconds are wall time, and its memory is the most that was resident, as the
operating system counted it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

LABELS = 14
LIMITS = (60, 2000)  # seconds, MB


def generate(path: Path, rows: int, multilabel: bool) -> None:
    generator = np.random.default_rng(0)
    patient = np.sort(generator.integers(0, max(1, rows * 3 // 10), rows))
    share = generator.random(int(patient.max()) + 1)[patient]
    numbers = [f"{i:07d}" for i in range(rows)]
    people = [f"p{p:06d}" for p in patient.tolist()]
    table = {
        "id": [f"images/{p}/{n}.png" for p, n in zip(people, numbers, strict=True)],
        "path": [f"/nowhere/images/{p}/{n}.png" for p, n in zip(people, numbers, strict=True)],
        "patient": people,
        "study": "",
        "date": [
            f"20{y:02d}-{m:02d}-01" for y, m in zip(patient % 20, patient % 12 + 1, strict=True)
        ],
        "split": np.where(share < 0.7, "train", np.where(share < 0.85, "val", "test")),
    }
    frame = pd.DataFrame(table)
    if multilabel:
        for k in range(LABELS):
            drawn = generator.random(rows)
            frame[f"label:finding {k}"] = np.where(
                drawn < 0.05, "", np.where(drawn < 0.06 + 0.02 * k, "1", "0")
            )
    else:
        frame["target"] = generator.choice(LABELS, rows, p=_falling())
        frame["label"] = "class " + frame["target"].map("{:02d}".format)
    frame.to_csv(path, index=False, lineterminator="\n")


def _falling() -> np.ndarray:
    weights = 1 / np.arange(1, LABELS + 1)
    return weights / weights.sum()


def measure(table: Path, out: Path, *more: str) -> tuple[float, float, dict]:
    command = [
        sys.executable, "-m", "layerwise", "inspect", str(table), "--no-images", "--quiet",
        "--json", "--allow-leaks", "--out", str(out), *more,
    ]  # fmt: skip
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    assert os.waitstatus_to_exitcode(status) == 0, f"{command} failed"
    return seconds, usage.ru_maxrss / 1000, json.loads((out / "inspect.json").read_text())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--table", type=Path, action="append", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = {"one class of 14": False, "14 labels": True}
        for number, (kind, multilabel) in enumerate(kinds.items()):
            table = folder / f"rows{number}.csv"
            apart = get_context("spawn").Process(
                target=generate, args=(table, args.rows, multilabel)
            )
            apart.start()
            apart.join()
            told(f"{args.rows:,} generated rows, {kind}", measure(table, folder / f"out{number}"))
            table.unlink()
        for number, table in enumerate(args.table):
            told(table.name, measure(table, folder / f"own{number}"))


def told(name: str, measured: tuple[float, float, dict]) -> None:
    seconds, megabytes, found = measured
    print(
        f"{name}: {seconds:.1f} s, at most {megabytes:.0f} MB resident "
        f"({found['counts']['images']:,} images; limits {LIMITS[0]} s, {LIMITS[1]} MB)",
        flush=True,
    )


if __name__ == "__main__":
    main()
