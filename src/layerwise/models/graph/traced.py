"""One trace a network, kept for as long as the network lives and stays as it is.

Whoever cuts a network, counts it or exports a part of it asks for its graph, in a fit many times
of each network, and following it takes longer than all that is then found out from it.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn

from layerwise.models.graph.trace import Trace, copy_modes, trace


@dataclass(frozen=True)
class _Kept:
    """A trace, and what the network was made of.

    Attributes:
        trace: See `trace`.
        made_of: As `_made_of` gives it, weakly referenced where that is possible, so that nothing
            is kept alive.
        read: Buffers outside the graph's layers, which the network's own code may have computed
            constants from, and their versions.
    """

    trace: Trace
    made_of: list[object]
    read: list[tuple[Tensor, int]]


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def traced(model: nn.Module) -> Trace:
    """As `trace`, from memory where nothing of the network has changed since.

    Training it, or copying other weights into it, is no change. A layer, a parameter or an
    attribute that was exchanged is one, at any depth, and so are other numbers in a buffer that
    the network's own code reads. What is returned is shared: it must not be changed.

    Args:
        model: As of `trace`.

    Raises:
        ModelError: As `trace`.
    """
    kept = _KEPT.get(model)
    if kept is None or not _holds(kept, model):
        _KEPT.pop(model, None)
        found = trace(model)
        made_of = [_weakly(value) for value in _made_of(model)]
        kept = _KEPT[model] = _Kept(found, made_of, _read(model, found))
    copy_modes(model, kept.trace.module)
    return kept.trace


def _holds(kept: _Kept, model: nn.Module) -> bool:
    """Whether a network is still the one that was traced."""
    now = _made_of(model)
    return (
        len(now) == len(kept.made_of)
        and all(_is(old, new) for old, new in zip(kept.made_of, now, strict=True))
        and all(_version(buffer) == version for buffer, version in kept.read)
    )


def _made_of(model: nn.Module) -> list[object]:
    """All modules, and their attributes, parameters, buffers, hooks and parts, but for the mode."""
    out: list[object] = []
    for part in model.modules():
        out.append(part)
        for name, value in vars(part).items():
            if isinstance(value, dict):
                out.append(name)
                for pair in value.items():
                    out.extend(pair)
            elif name != "training":
                out += [name, value]
    return out


def _weakly(value: object) -> object:
    try:
        return ref(value)
    except TypeError:  # numbers, strings, tuples
        return value


def _is(old: object, new: object) -> bool:
    """Whether what was kept is this very object; None now is not what died meanwhile."""
    return (old() is new is not None) if isinstance(old, ref) else old is new


def _read(model: nn.Module, found: Trace) -> list[tuple[Tensor, int]]:
    """Buffers that no layer of the graph keeps to itself, with their versions."""
    layers = {
        id(buffer)
        for node in found.module.graph.nodes
        if node.op == "call_module"
        for buffer in found.module.get_submodule(str(node.target)).buffers()
    }
    return [(b, _version(b)) for b in model.buffers() if id(b) not in layers]


def _version(buffer: Tensor) -> int:
    """How often it was written to."""
    return 0 if buffer.is_inference() else buffer._version
