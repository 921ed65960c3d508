"""What comes after the registry's switch: a command of the user's, and a look at the server."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.errors import LayerwiseError

PAUSE = 0.5  # seconds between two looks at the server
LONGEST = 10.0  # seconds for one answer


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: the key would be sent there too."""

    def redirect_request(self, *args: Any, **named: Any) -> None:  # noqa: ANN401
        """Do not follow."""
        return None


def run_command(words: Sequence[str], values: Mapping[str, str], timeout: float) -> None:
    """Run the recipe's command, without a shell; what it prints goes to standard error.

    Args:
        words: The program and its arguments; {name} in one becomes the value of that name.
        values: Names and values; the command also finds them as LAYERWISE_NAME in its
            environment.
        timeout: Seconds after which it is killed.

    Raises:
        LayerwiseError: It can not be started, takes too long, or ends with another code than 0.
    """
    filled = [_filled(word, values) for word in words]
    named = {f"LAYERWISE_{name.upper()}": value for name, value in values.items()}
    shown = f"[deploy] command {filled[0]!r}"
    try:
        done = subprocess.run(
            filled, stdin=subprocess.DEVNULL, stdout=2, env=os.environ | named, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise LayerwiseError(
            f"{shown} was not done after {timeout:g} s and was killed; give it more with "
            "`timeout` in [deploy], or let it start what takes long and end"
        ) from error
    except OSError as error:
        raise LayerwiseError(
            f"{shown} can not be started ({error.strerror}); it is run without a shell, so name "
            "a program, and its arguments each as a word of the list"
        ) from error
    if done.returncode:
        raise LayerwiseError(
            f"{shown} ended with {done.returncode}; see what it printed above, and run the same "
            "pipeline again"
        )


def wait_for(url: str, bundle: str, timeout: float, key: str | None = None) -> float:
    """Wait until a server answers with a bundle.

    Args:
        url: Of the server, without `/v1/model`.
        bundle: The id that it should show.
        timeout: Seconds that it may take.
        key: Of the server.

    Returns:
        Seconds that it took.

    Raises:
        LayerwiseError: It answers with another one, or not at all; or refuses the key.
    """
    started = time.monotonic()
    while True:
        shown = _model_of(url, key)
        if shown == bundle:
            return time.monotonic() - started
        if time.monotonic() - started > timeout:
            raise LayerwiseError(
                f"{url}: {_said(shown)} after {timeout:g} s, and bundle {bundle} is the "
                "registry's champion. Does the server follow this registry (`layerwise serve "
                "REGISTRY`)? See its log, then run the same pipeline again"
            )
        time.sleep(PAUSE)


def _said(shown: str | None) -> str:
    return "the server does not answer" if shown is None else f"the server shows bundle {shown}"


def _model_of(url: str, key: str | None) -> str | None:
    """The id that a server shows; None where it does not answer."""
    headers = {"Accept": "application/json"} | ({"X-API-Key": key} if key else {})
    request = urllib.request.Request(f"{url.rstrip('/')}/v1/model", headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=LONGEST) as answer:
            said = json.loads(answer.read(2**24))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404, 421) or 300 <= error.code < 400:
            raise LayerwiseError(f"{url}/v1/model answers {error.code}; {_ADVICE}") from error
        return None  # not ready, or busy
    except (OSError, ValueError):  # not there yet, or not whole
        return None
    found = said.get("id") if isinstance(said, dict) else None
    return found if isinstance(found, str) else None


_ADVICE = (
    "in [deploy], `url` is the server's own address without a path, and `key_env` names the "
    "environment variable that has its key"
)


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word
