"""What each step of a pipeline found, in a few words: for the table at its end."""

from collections.abc import Mapping
from typing import Any


def found(step: str, results: Mapping[str, Any]) -> str:
    """A few words.

    Args:
        step: Its name.
        results: What `pipeline.json` keeps of it; empty where it did not come to an end.
    """
    return _SAY[step](results) if results else ""


def _audit(results: Mapping[str, Any]) -> str:
    counts = [f"{n} {name}{'s' * (n > 1)}" for name, n in results["findings"].items() if n]
    return f"{', '.join(counts) or 'no findings'}: {results['report']}"


def _split(results: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} {part}" for part, count in results["images"].items())


def _fit(results: Mapping[str, Any]) -> str:
    return f"{results['chosen']}: {results['report']}"


def _verify(results: Mapping[str, Any]) -> str:
    return f"bundle {results['id']} is whole"


def _evaluate(results: Mapping[str, Any]) -> str:
    auroc = results["test"]["auroc"]
    if auroc["value"] is None:
        return f"no AUROC: {results['results']}"
    span = "" if auroc["low"] is None else f" (95% {auroc['low']:.3f} to {auroc['high']:.3f})"
    return f"AUROC {auroc['value']:.3f}{span}"


def _promote(results: Mapping[str, Any]) -> str:
    if not results["promoted"]:
        return f"not promoted; the champion is still {results['champion']}"
    if results["already"]:
        return f"{results['champion']} was the champion already"
    return f"made {results['champion']} the champion"


def _deploy(results: Mapping[str, Any]) -> str:
    if results["shown_after_seconds"] is None:
        return "the command has run" if results["command"] else "the registry's switch was all"
    return f"{results['url']} showed it after {results['shown_after_seconds']:.1f} s"


_SAY = {
    "audit": _audit,
    "split": _split,
    "fit": _fit,
    "verify": _verify,
    "evaluate": _evaluate,
    "promote": _promote,
    "deploy": _deploy,
}
