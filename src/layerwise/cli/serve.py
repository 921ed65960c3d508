"""`layerwise serve`: a bundle, or a registry's champion, over HTTP. It needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerwise.errors import LayerwiseError

EXTRA = ("fastapi", "starlette", "uvicorn", "httptools", "prometheus_client", "python_multipart")


def serve(
    where: Annotated[
        str,
        typer.Argument(
            help="A bundle's folder, or a registry (a folder or an fsspec URL), whose champion is "
            "then followed.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Keys, one a line, any of which opens. Without it LAYERWISE_API_KEY; without "
            "both only this machine is let in.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str],
        typer.Option(
            help="Another name under which the server is asked, as behind a reverse proxy.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - Typer copies it
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, help="Of one request, all its files together.")
    ] = 64,
    max_pixels: Annotated[
        int, typer.Option(min=1, max=178_956_970, help="Of one picture.")
    ] = 64_000_000,
    max_files: Annotated[int, typer.Option(min=1, help="Of one request.")] = 64,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for an upload, and again for its answer.")
    ] = 30,
    batch: Annotated[
        int, typer.Option(min=1, help="The most pictures that go through the network together.")
    ] = 16,
    wait: Annotated[
        float,
        typer.Option(
            min=0, help="Milliseconds that a picture may wait for others that are being decoded."
        ),
    ] = 5,
    queue: Annotated[
        int, typer.Option(min=1, help="The most pictures taken and not yet answered.")
    ] = 256,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of ONNX Runtime; 0: as many as it likes.")
    ] = 0,
    poll: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks at the registry's champion.")
    ] = 5,
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="A folder for aggregate statistics by hour, for `layerwise drift`. Without it "
            "they are kept in memory.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each request.")] = False,
) -> None:
    """Serve a model over HTTP, with a page for people.

    It answers on 127.0.0.1:8000 until it is stopped (Ctrl-C or SIGTERM), and finishes what it took.
    """
    from layerwise.cli.output import Output

    try:
        from layerwise.serving.http.keys import read_keys
        from layerwise.serving.http.logs import Log
        from layerwise.serving.http.server import serve as run
        from layerwise.serving.http.settings import MEGABYTE, Settings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise LayerwiseError(
            f"the server needs {error.name}: pip install 'layerwise[serve]'"
        ) from error
    settings = Settings(
        max_bytes=round(max_megabytes * MEGABYTE),
        max_pixels=max_pixels,
        max_files=min(max_files, queue),
        timeout=timeout,
        batch=batch,
        wait=wait / 1000,
        queue=queue,
        poll=poll,
        threads=threads or None,
        statistics=statistics,
    )
    say = Output(json=False, quiet=quiet).warn
    run(
        where,
        host,
        port,
        read_keys(key_file),
        allow_host,
        settings,
        Log(quiet=quiet),
        lambda address: say(f"{where} answers at {address} (stop with Ctrl-C)"),
    )
