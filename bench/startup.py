"""Seconds until `layerwise --help` has answered, as a whole process: the median of several."""

import statistics
import subprocess
import sys
import time


def main():
    taken = []
    for _ in range(11):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "layerwise", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        taken.append(time.perf_counter() - started)
    print(
        f"layerwise --help: median {statistics.median(taken[1:]):.3f} s "
        f"(min {min(taken[1:]):.3f}, max {max(taken[1:]):.3f})"
    )


if __name__ == "__main__":
    main()
