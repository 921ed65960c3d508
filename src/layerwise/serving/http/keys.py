"""Who may ask: keys, hosts and origins."""

import hmac
import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from layerwise.errors import LayerwiseError
from layerwise.serving.http.problems import Problem

VARIABLE = "LAYERWISE_API_KEY"
SHORTEST = 16
_MAKE = "make one with `openssl rand -hex 32`"
_LOCAL = ("localhost", "127.0.0.1", "[::1]")

Headers = Mapping[bytes, bytes]


def read_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """The keys of a file, one a line, or of the environment.

    Args:
        file: Empty lines and those that begin with # do not count; None takes the environment.
        environment: Looked up for `VARIABLE`.

    Returns:
        Keys as bytes; none where none is set.

    Raises:
        LayerwiseError: The file can not be read or has no key, or a key is too short.
    """
    if file is None:
        lines = [environment.get(VARIABLE, "")]
        where = VARIABLE
    else:
        where = str(file)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LayerwiseError(f"{file}: the keys can not be read; check --key-file") from error
    stripped = [line.strip() for line in lines]
    keys = tuple(line.encode() for line in stripped if line and not line.startswith("#"))
    if file is not None and not keys:
        raise LayerwiseError(f"{where} holds no key; {_MAKE}")
    if any(len(key) < SHORTEST or not key.isascii() or b" " in key for key in keys):
        raise LayerwiseError(
            f"{where}: a key has fewer than {SHORTEST} characters, or others than letters, digits "
            f"and signs; {_MAKE}"
        )
    return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open_door(host: str, keys: Sequence[bytes]) -> None:
    """Check that a server which others can reach has a key.

    Raises:
        LayerwiseError: It has none.
    """
    if not keys and not is_loopback(host):
        raise LayerwiseError(
            f"--host {host}: other machines could use the server without a key. Set {VARIABLE} or "
            f"--key-file ({_MAKE}), or listen on 127.0.0.1"
        )


def check_key(headers: Headers, keys: Sequence[bytes]) -> None:
    """Check the key of a request; every key is compared, each in constant time.

    Raises:
        Problem: 401, it is missing or wrong.
    """
    if not keys:
        return
    given = headers.get(b"x-api-key", b"")
    scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        given = rest.strip()
    if not any([hmac.compare_digest(given, key) for key in keys]):
        raise Problem(
            "key",
            "This server wants its key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            if not given
            else "This is not a key of this server; check it, or ask who runs the server.",
            {"WWW-Authenticate": 'Bearer realm="layerwise"'},
        )


class Hosts:
    """Under which names the server answers, against pages of other sites.

    A page on the internet can make a browser send requests to 127.0.0.1: under its own name,
    once that leads there (DNS rebinding, then Host is not ours), or across sites (then Origin is
    not ours).
    """

    def __init__(self, host: str, allowed: Sequence[str] = ()) -> None:
        """Say where the server listens.

        Args:
            host: What it is bound to.
            allowed: Other names, such as that of a reverse proxy.
        """
        names = (*_LOCAL, host, f"[{host}]") if is_loopback(host) else (host,)
        self._any = not is_loopback(host) and not allowed
        self._names = {name.lower() for name in (*names, *allowed)}
        self._allowed = {name.lower() for name in allowed}

    def check(self, headers: Headers) -> None:
        """Check Host and Origin of a request.

        Raises:
            Problem: 421 or 403.
        """
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._any and _name(host) not in self._names:
            raise Problem(
                "host",
                "The server does not answer under this name; ask for the address it was started "
                "with, or start it with --allow-host NAME.",
            )
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        place = origin.partition("://")[2]
        if origin and place != host and _name(place) not in self._allowed:
            raise Problem(
                "other-site",
                "A page of another site asks; open the server's own page, or ask from a program.",
            )


def _name(host: str) -> str:
    """A host without its port."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() else host
