"""SIGTERM while clients ask: the process of `layerwise serve` itself, with its signals."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import numpy as np


def test_sigterm_under_load_loses_nothing(bundle, serving):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    content = serving.encode(noise)
    command = [sys.executable, "-m", "layerwise", "serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"answers at (http://127.0.0.1:(\d+))", line):
            break
    address, port = found[1], int(found[2])
    drain = threading.Thread(target=lambda: lines.extend(process.stderr))
    drain.start()
    answered, lost, enough = [], [], threading.Event()

    def ask(keep):
        """Until the server lets nobody in any more."""
        head = {"Connection": "keep-alive" if keep else "close", "Content-Type": "image/png"}
        with httpx.Client(base_url=address, timeout=30, headers=head) as client:
            while True:
                try:
                    answered.append(client.post("/v1/predict", content=content).status_code)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    lost.append(repr(error))
                    return
                if len(answered) > 40:
                    enough.set()

    threads = [threading.Thread(target=ask, args=(n % 2,)) for n in range(6)]
    # One upload is half way when the signal comes.
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        head = f"Host: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(content)}"
        slow.sendall(f"POST /v1/predict HTTP/1.1\r\n{head}\r\n\r\n".encode() + content[:1000])
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        slow.sendall(content[1000:])
        last = b"".join(iter(lambda: slow.recv(65536), b""))
    assert process.wait(60) == 0
    drain.join()
    process.stderr.close()
    assert lost == [] and set(answered) == {200}
    assert last.startswith(b"HTTP/1.1 200") and b"connection: close" in last
    events = [json.loads(line) for line in lines if line.startswith("{")]
    requests = [e for e in events if e["event"] == "request"]
    assert len(requests) == len(answered) + 1
    assert [e["event"] for e in events if e["event"] != "request"] == [
        "started",
        "stopping",
        "stopped",
    ]
    assert not [line for line in lines if "Traceback" in line]
