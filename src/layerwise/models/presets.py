"""Truncated networks that have names in the literature: a preset is a cut of one network.

Peng et al. 2021, "Rethink Transfer Learning in Medical Image Classification", section 2.2:

- Res-T1 … Res-T5 are ResNet50 after its first 25, 37, 43, 46 and 49 convolutional layers, the
  convolutions on shortcuts not counted. With the last linear layer ResNet50 has 50 layers, so these
  are 50, 74, 86, 92 and 98% of it. A bottleneck has three such convolutions, and all five counts
  fall on the end of one.
- Dens-T1 … Dens-T3 are DenseNet121 after 1, 2 and 3 dense blocks, each with the transition that
  follows it: 14, 39 and 88 of its 121 layers, that is 12, 32 and 73% (the paper prints 88, the
  number of layers, as the percentage of Dens-T3).
"""

from dataclasses import dataclass

from layerwise.errors import ModelError


@dataclass(frozen=True)
class Preset:
    """A truncated network that has a name.

    Attributes:
        name: As written after ``--keep``, in small letters.
        networks: The networks that it is a part of.
        cut: Where they are cut; all of them have the same name for it.
        layers: How many convolutional layers are kept, those on shortcuts not counted.
        of: How many layers with weights the whole network has, counted in the same way.
        source: Where it was described.
    """

    name: str
    networks: tuple[str, ...]
    cut: str
    layers: int
    of: int
    source: str

    @property
    def percentage(self) -> int:
        """How much of the network's depth is kept, rounded."""
        return round(100 * self.layers / self.of)


_RESNET50 = ("timm:resnet50", "torchvision:resnet50")
_DENSENET121 = ("timm:densenet121", "torchvision:densenet121")
_PENG = "Peng et al. 2021, section 2.2"

PRESETS = (
    Preset("res-t1", _RESNET50, "layer3.0", 25, 50, _PENG),
    Preset("res-t2", _RESNET50, "layer3.4", 37, 50, _PENG),
    Preset("res-t3", _RESNET50, "layer4.0", 43, 50, _PENG),
    Preset("res-t4", _RESNET50, "layer4.1", 46, 50, _PENG),
    Preset("res-t5", _RESNET50, "layer4", 49, 50, _PENG),  # as layer4.2, which ends it
    Preset("dens-t1", _DENSENET121, "features.transition1", 14, 121, _PENG),
    Preset("dens-t2", _DENSENET121, "features.transition2", 39, 121, _PENG),
    Preset("dens-t3", _DENSENET121, "features.transition3", 88, 121, _PENG),
)


def presets_of(model: str) -> tuple[Preset, ...]:
    """The presets of a network, from bottom to top.

    Args:
        model: As ``--model`` has it; the tag of timm's weights (``timm:resnet50.a1_in1k``) does not
            matter.
    """
    source, _, kind = model.partition(":")
    network = f"{source}:{kind.partition('.')[0]}" if source == "timm" else model
    return tuple(preset for preset in PRESETS if network in preset.networks)


def resolve_keep(model: str, keep: str) -> str:
    """The cut that ``--keep`` means: that of a preset, or what was given where it is no preset.

    Args:
        model: As ``--model`` has it.
        keep: The name of a preset, in small or capital letters, or of a cut. Cuts are not checked.

    Raises:
        ModelError: It is a preset of another network.
    """
    preset = next((p for p in PRESETS if p.name == keep.lower()), None)
    if preset is None:
        return keep
    if preset not in presets_of(model):
        networks = " or ".join(f"--model {network}" for network in preset.networks)
        known = [p.name for p in presets_of(model)]
        of_this = f"it has {', '.join(known)}" if known else "it has no presets"
        raise ModelError(
            f"--keep {keep} is a part of another network than {model} ({of_this}): use {networks}, "
            f"or name a cut of {model} (`layerwise models {model} --cuts`)"
        )
    return preset.cut
