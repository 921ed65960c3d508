"""What serving costs: `layerwise serve` against bare ONNX Runtime with the same decoding.

    python bench/serving.py BUNDLE IMAGES [--seconds 10] [--peer-python PATH] [--soak 30m]

(a) Overhead: the median time of a request with one picture, less that of decoding and running it
in this process. (b) Throughput of 16 clients, as a ratio to a plain program that decodes in as
many threads and runs ONNX Runtime on batches, the better of batches of 1 and of 16. (c) With
--peer-python, LitServe in that environment (pip install litserve onnxruntime pillow numpy
python-multipart) serves the same model with the same decoding, the better of batches of 1 and of
16. (d) With --soak, full load for so long instead: statuses, unanswered requests, and the slope of
the memory.

ONNX Runtime of the plain program has its own defaults but for the number of threads. The clients
run on the same processors as the server; the plain program has none, so what they cost ("clients"
of cpu_ms_a_picture) counts against the server in (b). The processor time a picture says what each
of them really needs.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import onnxruntime

SOURCE = Path(__file__).resolve().parents[1] / "src"
ROUNDS = 3
DECODERS = min(4, os.cpu_count() or 1)  # as the server has
PEER = """
import sys
import litserve
import numpy as np
import onnxruntime
from layerwise.data.pictures.images import prepare

model, size, channels, letterbox, threads, port, batch = sys.argv[1:]
size, channels, letterbox, threads, port, batch = (
    eval(size), int(channels), letterbox == "True", int(threads), int(port), int(batch))

class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options)

    def decode_request(self, request):
        return prepare(request["file"].file.read(), size, channels, letterbox)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, pixels):
        pixels = pixels if batch > 1 else pixels[None]
        scores = self.session.run(["probabilities"], {"pixels": pixels})[0]
        return scores if batch > 1 else scores[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"probabilities": [float(p) for p in output]}

if __name__ == "__main__":
    api = Api(max_batch_size=batch, batch_timeout=0.005 if batch > 1 else 0.0)
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=port, log_level="error", generate_client_file=False)
"""


def raw(content, route="/v1/predict"):
    """A request with a picture as its body."""
    head = f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def form(content, field, route):
    """A request with a form that has one file."""
    part = f'--XX\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'
    body = part.encode() + content + b"\r\n--XX--\r\n"
    head = f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += f"Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask(reader, writer, request):
    """Send a request; the status of its answer, all of which is read."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
    return int(head[9:12])


def load(port, requests, clients, seconds, result):
    """Full load from a process of its own; puts what was answered, what was not, and its cost."""
    statuses, unanswered, sent = Counter(), [], [0]

    async def client(number, until):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        turn = number
        while time.perf_counter() < until:
            sent[0] += 1
            try:
                status = await ask(reader, writer, requests[turn % len(requests)])
            except (OSError, asyncio.IncompleteReadError) as error:
                unanswered.append(repr(error))
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
                continue
            statuses[status] += 1
            turn += clients
            if status == 429:
                await asyncio.sleep(0.05)
        writer.close()

    async def work():
        started = time.perf_counter()
        await asyncio.gather(*(client(n, started + seconds) for n in range(clients)))
        return time.perf_counter() - started

    spent = time.process_time()
    taken = asyncio.run(work())
    spent = time.process_time() - spent
    result.put((dict(statuses), unanswered, sent[0], taken, spent))


def under_load(port, requests, clients, seconds):
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=load, args=(port, requests, clients, seconds, result))
    process.start()
    found = result.get()
    process.join()
    return found


class Bare:
    """What a plain program would do: decode in threads, run in one."""

    def __init__(self, bundle, contents, model, threads):
        self.bundle, self.contents = bundle, contents
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(model), options, providers)

    def run(self, pixels):
        return self.session.run(["probabilities"], {"pixels": pixels})[0]

    def one(self, content):
        self.run(self.bundle.prepare(content)[None])

    def throughput(self, seconds, batch):
        """Pictures a second, decoders and network at the same time."""
        done, waiting = 0, []
        with ThreadPoolExecutor(DECODERS) as pool:
            started = time.perf_counter()
            turn = 0
            while time.perf_counter() - started < seconds:
                while len(waiting) < 2 * batch + DECODERS:
                    content = self.contents[turn % len(self.contents)]
                    waiting.append(pool.submit(self.bundle.prepare, content))
                    turn += 1
                some, waiting = waiting[:batch], waiting[batch:]
                self.run(np.stack([one.result() for one in some]))
                done += batch
            return done / (time.perf_counter() - started), done


class Served:
    """A server in a process of its own."""

    def __init__(self, command, port=None, environment=None):
        self.log = tempfile.TemporaryFile("w+")  # a line a request, as a service's log would go
        self.process = subprocess.Popen(
            command,
            stderr=self.log,
            stdout=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self.port = port
        self.wait()

    def wait(self):
        for _ in range(600):
            said = os.pread(self.log.fileno(), 10_000, 0).decode()
            if found := re.search(r"answers at http://127.0.0.1:(\d+)", said):
                self.port = int(found[1])
            try:
                if self.port:
                    urlopen(f"http://127.0.0.1:{self.port}/docs").close()
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}: {said}")
            time.sleep(0.1)
        sys.exit("the server did not start")

    def metric(self, name):
        text = urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        return float(re.search(rf"^{name} (\S+)", text, re.MULTILINE)[1])

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.process.terminate()
        self.process.wait(60)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # LitServe leaves its workers behind
        except ProcessLookupError:
            pass


def layerwise(bundle, threads, *more):
    command = [sys.executable, "-m", "layerwise", "serve", bundle, "--port", "0"]
    return Served([*map(str, command), "--threads", str(threads), *more])


def overhead(bare, server, requests, count):
    """Median milliseconds of both, block by block in turns."""

    async def served(some):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        taken = []
        for request in some:
            started = time.perf_counter()
            assert await ask(reader, writer, request) == 200
            taken.append(time.perf_counter() - started)
        writer.close()
        return taken

    times = {"bare": [], "served": []}
    for start in range(-20, count, 20):
        turns = [n % len(requests) for n in range(start, start + 20)]
        asked = asyncio.run(served([requests[n] for n in turns]))
        time.sleep(0.1)  # the runtime's threads spin for a while
        alone = []
        for n in turns:
            started = time.perf_counter()
            bare.one(bare.contents[n])
            alone.append(time.perf_counter() - started)
        time.sleep(0.1)
        if start >= 0:
            times["served"] += asked
            times["bare"] += alone
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def throughput(options, bare, server, requests):
    """Pictures a second, and milliseconds of the processor a picture, of both in turns."""
    names = ("served", "clients", "bare, batches of 1", "bare, batches of 16")
    rates, work = ({name: [] for name in names} for _ in range(2))
    batches = ("layerwise_batch_pictures_sum", "layerwise_batch_pictures_count")
    before = [server.metric(name) for name in batches]
    for _ in range(ROUNDS):
        spent = server.metric("process_cpu_seconds_total")
        statuses, unanswered, _, taken, clients = under_load(
            server.port, requests, options.clients, options.seconds
        )
        assert set(statuses) == {200} and not unanswered, (statuses, unanswered)
        rates["served"].append(statuses[200] / taken)
        spent = server.metric("process_cpu_seconds_total") - spent
        work["served"].append(1000 * spent / statuses[200])
        work["clients"].append(1000 * clients / statuses[200])
        for batch in (1, 16):
            spent = time.process_time()
            rate, done = bare.throughput(options.seconds, batch)
            rates[f"bare, batches of {batch}"].append(rate)
            spent = time.process_time() - spent
            work[f"bare, batches of {batch}"].append(1000 * spent / done)
    medians = {name: statistics.median(values) for name, values in rates.items() if values}
    best = max(value for name, value in medians.items() if name != "served")
    pictures, count = (server.metric(n) - b for n, b in zip(batches, before, strict=True))
    return {
        "cpu_ms_a_picture": {name: statistics.median(values) for name, values in work.items()},
        "a_second": medians,
        "against_bare": medians["served"] / best,
        "mean_batch": pictures / count,
    }


def peers(options, bundle, requests_of, threads):
    """Requests a second of LitServe, by batch."""
    how = bundle.info.preprocessing
    script = Path(options.work) / "peer.py"
    script.write_text(PEER)
    contents = requests_of("file", "/predict")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    found = {}
    for batch in (1, 16):
        port = 18000 + os.getpid() % 1000 + batch
        model = Path(options.bundle) / "model.onnx"
        values = [model, how.size, how.channels, how.letterbox, threads, port, batch]
        command = [options.peer_python, script, *values]
        with Served([*map(str, command)], port, environment) as server:
            under_load(server.port, contents, options.clients, 2)
            statuses, _, _, taken, _ = under_load(
                server.port, contents, options.clients, options.seconds
            )
            if set(statuses) != {200}:
                sys.exit(f"LitServe answered with {statuses}; see that its environment is whole")
            found[batch] = statuses[200] / taken
    return found


def soak(options, server, requests):
    """Full load, and what the memory does meanwhile."""
    seconds = float(options.soak.rstrip("ms")) * (60 if options.soak.endswith("m") else 1)
    samples, ended = [], threading.Event()
    started = time.perf_counter()

    def watch():
        while not ended.wait(min(10, seconds / 60)):
            memory = server.metric("process_resident_memory_bytes") / 1e6
            samples.append((time.perf_counter() - started, memory))

    watcher = threading.Thread(target=watch)
    watcher.start()
    statuses, unanswered, sent, taken, _ = under_load(
        server.port, requests, options.clients, seconds
    )
    ended.set()
    watcher.join()
    from scipy import stats

    # After a first third to warm up. Memory grows in steps, so its growth from block to block is
    # what varies independently; a line through all samples would take one step for a slope.
    late = np.array([s for s in samples if s[0] > seconds / 3])
    blocks = np.linspace(0, len(late) - 1, min(21, len(late))).round().astype(int)
    growth = 60 * np.diff(late[blocks, 1]) / np.diff(late[blocks, 0])
    margin = stats.t.ppf(0.975, len(growth) - 1) * stats.sem(growth)
    return {
        "seconds": taken,
        "sent": sent,
        "statuses": statuses,
        "unanswered": len(unanswered),
        "memory_mb": [round(float(late[one, 1]), 2) for one in blocks],
        "slope_mb_a_minute": [growth.mean() - margin, growth.mean(), growth.mean() + margin],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("images", help="a folder of pictures")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--count", type=int, default=300, help="requests for the overhead")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--wait", default="5", help="of the server, see docs/serve.md")
    parser.add_argument("--batch", default="16", help="of the server, likewise")
    parser.add_argument("--peer-python", help="of an environment with LitServe")
    parser.add_argument("--soak", help="such as 30m or 90s")
    parser.add_argument("--work", default=".", help="where the peer's script is written")
    options = parser.parse_args()
    from layerwise.data.sources.folder import files_below
    from layerwise.serving.bundle import Bundle

    files = files_below(Path(options.images))
    files = files[:: max(1, len(files) // 64)][:64]
    contents = [path.read_bytes() for path in files]
    bundle = Bundle.load(options.bundle, options.threads)
    bare = Bare(bundle, contents, Path(options.bundle) / "model.onnx", options.threads)
    requests = [raw(content) for content in contents]
    said = {"pictures": len(contents), "kilobytes": round(np.mean([*map(len, contents)]) / 1000, 1)}
    more = ("--wait", options.wait, "--batch", options.batch)
    with layerwise(options.bundle, options.threads, *more) as server:
        if options.soak:
            said["soak"] = soak(options, server, requests)
        else:
            times = overhead(bare, server, requests, options.count)
            said["ms"] = {**times, "overhead": times["served"] - times["bare"]}
            said |= throughput(options, bare, server, requests)
    if options.peer_python and not options.soak:
        found = peers(
            options,
            bundle,
            lambda field, route: [form(content, field, route) for content in contents],
            options.threads,
        )
        said["litserve_a_second"] = found
        said["against_litserve"] = said["a_second"]["served"] / max(found.values())
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
