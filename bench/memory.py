"""Peak memory of `layerwise fit` on few and on many generated images.

    python bench/memory.py --few 5000 --many 50000

The images are PNG files of 32×32 pixels made by this script. `fit` runs as its own process; its
resident memory, without and with the mapped pages of files (which the system may take back), is
read from /proc several times a second.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def generate(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for index in range(count):
        label = index % 2
        pixels = generator.integers(0, 160, (32, 32), dtype=np.uint8)
        pixels[8 : 16 + 8 * label, 8:24] += 60
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index:06d}.png", compress_level=1)


def status(pid: int) -> dict[str, float]:
    found = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "VmHWM"):
                found[name] = int(value.split()[0]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def measure(data: Path, out: Path, seconds: int) -> dict[str, float]:
    command = [
        sys.executable, "-m", "layerwise", "fit", str(data), "--model", "lenet5",
        "--weights", "none", "--image-size", "32", "--augment", "none",
        "--time", f"{seconds}s", "--out", str(out), "--cache", str(out / "cache"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak: dict[str, float] = {}
    while process.poll() is None:
        for name, value in status(process.pid).items():
            peak[name] = max(value, peak.get(name, 0))
        time.sleep(0.1)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return peak


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--few", type=int, default=5000)
    parser.add_argument("--many", type=int, default=50000)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (args.few, args.many):
            data = Path(folder) / str(count)
            generate(data, count)
            peaks[count] = measure(data, Path(folder) / f"out{count}", args.seconds)
            print(
                f"{count} images: peak {peaks[count]['RssAnon']:.0f} MB without, "
                f"{peaks[count]['VmHWM']:.0f} MB with mapped files",
                flush=True,
            )
    for name in ("RssAnon", "VmHWM"):
        print(f"{name}: many / few = {peaks[args.many][name] / peaks[args.few][name]:.3f}")


if __name__ == "__main__":
    main()
