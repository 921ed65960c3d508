"""Random changes to pictures, in batches, each picture's own whatever batch it is in.

Every random number is a hash of the picture's key (a counter-based generator), so an epoch can be
cut short and resumed, or its batches shuffled, and each picture still comes out with the same bits.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_CHUNK = 16  # pictures at a time, so that the work stays in the processor's cache


@dataclass(frozen=True)
class Preset:
    """How far a picture may be changed; each amount is drawn evenly from its range.

    The operations are those of Buluttekin 2020, §3.1, with rotation, translation, contrast,
    exposure and sharpness. A zoom of 0.9 is its "90%", taken of height and of width, as
    TensorFlow's central_crop takes its fraction: no crop shows less than nine tenths of either.
    A translation shows up to `shift` less of each again (beyond the edge lies `outside`), and a
    rotation the corners; so of the area 0.74 is in view at the least, and 0.87 in the mean.
    Saturation is the blend with the grey picture, not the channel S of the thesis's HSV.
    """

    flip: float  # probability of a mirror image, left for right
    zoom: float  # least fraction of height and width that stays in view
    degrees: float  # rotation, up to this many degrees either way
    shift: float  # translation beyond the edge, up to this fraction of the size either way
    brightness: float  # factor, up to this far from 1
    contrast: float  # factor around the picture's mean, up to this far from 1
    saturation: float  # factor around the grey picture, up to this far from 1
    outside: str  # what is seen beyond the edge: "zeros" (black) or "reflection"
    gamma: float = 0.0  # exponent of exposure, up to exp(this) either way
    sharpness: float = 0.0  # up to this far towards a 3×3 mean, or as far away from it
    vertical_flip: float = 0.0  # probability of a picture upside down; 0 unless asked for

    @property
    def only_flips(self) -> bool:
        """Whether pictures are mirrored, or upside down, and otherwise stay as they are."""
        amounts = asdict(self) | {"flip": 0, "vertical_flip": 0, "outside": ""}
        return amounts.pop("zoom") == 1 and not any(amounts.values())


PRESETS = {
    # The pixels stay as they are: for small ones, which any other change blurs.
    "flip": Preset(0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, "zeros"),
    # Machines differ in exposure and sharpness, and classes from different places with them; a
    # network must not learn the machine.
    "radiograph": Preset(0.5, 0.9, 7.0, 0.04, 0.15, 0.25, 0.0, "zeros", 0.3, 1.0),
    "natural": Preset(0.5, 0.9, 5.0, 0.04, 0.2, 0.2, 0.2, "reflection"),
}


def preset_of(name: str, *, vertical_flip: bool = False) -> Preset:
    """A preset by its name; with `vertical_flip`, half of its pictures are also upside down.

    Raises:
        ValueError: There is no such preset. ("none" has no amounts and is none of them.)
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known are none, {', '.join(PRESETS)}")
    return replace(PRESETS[name], vertical_flip=0.5) if vertical_flip else PRESETS[name]


def image_keys(
    rows: NDArray[np.int64], *, seed: int, view: int, copies: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """A key (n,) int64 for each picture in one view (an epoch, or a cached view).

    Args:
        rows: (n,) what names the picture: its row in the manifest.
        seed: The run's seed.
        view: The number of the view.
        copies: (n,) which copy of its picture each one is; None: all are the first, 0.
    """
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + view * 0xD1B54A32D192ED03) % 2**64)
    state = _splitmix64(rows.astype(np.uint64)) ^ start
    if copies is not None:
        with np.errstate(over="ignore"):
            state += copies.astype(np.uint64) * np.uint64(0xA0761D6478BD642F)
    return _splitmix64(state).view(np.int64)


def augment(
    images: Tensor,
    keys: NDArray[np.int64] | Tensor,
    preset: str,
    *,
    vertical_flip: bool = False,
) -> Tensor:
    """Change each picture at random, as far as a preset goes.

    Args:
        images: uint8 (n, H, W, C), on any device.
        keys: int64 (n,), see `image_keys`: a picture and a key have one result.
        preset: "none", "flip", "radiograph" or "natural".
        vertical_flip: Turn half of the pictures upside down as well; not with "none".

    Returns:
        uint8 (n, H, W, C); with "none" the pictures themselves.

    Raises:
        ValueError: The preset is unknown, or the pictures are not uint8 (n, H, W, C).
    """
    if preset == "none":
        return images
    limits = preset_of(preset, vertical_flip=vertical_flip)
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"pictures are {images.dtype} {tuple(images.shape)}; need uint8 NHWC")
    numbers = keys.cpu().numpy() if isinstance(keys, Tensor) else keys
    drawn = _draw(numbers, 12)  # (n, 12) in [0, 1)
    if limits.only_flips:
        return flipped(images, _flips(drawn, limits))
    moves = torch.from_numpy(_affine(drawn, limits, *images.shape[1:3])).to(images.device)
    colours = torch.from_numpy(_colours(drawn[:, 6:9], limits)).to(images.device)
    tables = torch.from_numpy(_exposures(drawn[:, 9], limits)).to(images.device)
    blur = torch.from_numpy((2 * drawn[:, 10] - 1).astype(np.float32)).to(images.device)
    out = torch.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        exposed = images[part]
        if limits.gamma:
            exposed = _expose(exposed, tables[part])
        out[part] = _apply(exposed, moves[part], colours[part], blur[part], limits)
    return out


def count_views(preset: str, *, vertical_flip: bool = False) -> int:
    """How many pictures a preset can make of one, that one included; 0: more than can be kept."""
    if preset == "none":
        return 1
    limits = preset_of(preset, vertical_flip=vertical_flip)
    if not limits.only_flips:
        return 0
    return 4 if limits.vertical_flip else 2


def which_view(
    keys: NDArray[np.int64], preset: str, *, vertical_flip: bool = False
) -> NDArray[np.int64]:
    """Which of a preset's `count_views` pictures `augment` makes by each key, where it has a count.

    Returns:
        int64 (n,): 0 the picture itself, 1 mirrored, 2 upside down, 3 both; see `flipped`.
    """
    if preset == "none":
        return np.zeros(len(keys), np.int64)
    return _flips(_draw(keys, 12), preset_of(preset, vertical_flip=vertical_flip))


def flipped(images: Tensor, views: NDArray[np.int64]) -> Tensor:
    """Each picture of (n, H, W, C) in its view (n,): 1 mirrored, 2 upside down, 3 both."""
    out = images.clone()
    for view, axes in ((1, (2,)), (2, (1,)), (3, (1, 2))):
        mine = torch.from_numpy(np.flatnonzero(views == view)).to(images.device)
        if len(mine):
            out[mine] = images[mine].flip(axes)
    return out


def _flips(drawn: NDArray[np.float64], limits: Preset) -> NDArray[np.int64]:
    """(n,) int64: 1 where a picture is mirrored, and 2 more where it is upside down."""
    return (drawn[:, 0] < limits.flip) + 2 * (drawn[:, 11] < limits.vertical_flip)


def _apply(images: Tensor, moves: Tensor, colours: Tensor, blur: Tensor, limits: Preset) -> Tensor:
    """Move and recolour: uint8 (n, H, W, C) → uint8 (n, H, W, C)."""
    n, height, width, channels = images.shape
    pixels = images.permute(0, 3, 1, 2).float()  # (n, C, H, W), 0 … 255
    # Sums of integers are exact, so the mean does not depend on how the sum is divided up.
    total = images.sum(dim=(1, 2, 3), dtype=torch.int64)  # (n,)
    mean = (total.double() / (height * width * channels)).float().view(n, 1, 1, 1)
    grid = _grid(moves, height, width)  # (n, H, W, 2)
    pixels = functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode=limits.outside, align_corners=False
    )
    if limits.sharpness:
        mean3 = functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
        pixels = pixels + (mean3 - pixels) * (limits.sharpness * blur.view(n, 1, 1, 1))
    brightness, contrast, saturation = (colours[:, i].view(n, 1, 1, 1) for i in range(3))
    if limits.saturation and channels == 3:
        weights = pixels.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601
        parts = pixels * weights  # (n, 3, H, W)
        grey = parts[:, 0:1] + parts[:, 1:2] + parts[:, 2:3]  # (n, 1, H, W)
        pixels = grey + (pixels - grey) * saturation
    # brightness * ((x - mean) * contrast + mean), as one multiplication and one addition
    pixels = pixels * (brightness * contrast) + brightness * (mean - mean * contrast)
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _expose(images: Tensor, tables: Tensor) -> Tensor:
    """Each picture through its own table (n, 256) of grey values: uint8 (n, H, W, C)."""
    flat = images.reshape(len(images), -1).long()  # (n, H·W·C)
    return tables.gather(1, flat).view(images.shape)


def _exposures(drawn: NDArray[np.float64], limits: Preset) -> NDArray[np.uint8]:
    """(n, 256) uint8: what every grey value becomes, 255·(v/255)^γ."""
    exponent = np.exp(limits.gamma * (2 * drawn - 1))[:, None]  # (n, 1)
    return np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)


def _grid(moves: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel is read: (n, H, W, 2), x then y in [-1, 1].

    Element by element and not by a matrix product (`affine_grid`), whose rounding depends on the
    number of pictures in the batch.
    """
    ys = (torch.arange(height, device=moves.device, dtype=torch.float32) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=moves.device, dtype=torch.float32) * 2 + 1) / width - 1
    a, b, c = (moves[:, 0, i].view(-1, 1, 1) for i in range(3))
    d, e, f = (moves[:, 1, i].view(-1, 1, 1) for i in range(3))
    row, column = ys.view(1, -1, 1), xs.view(1, 1, -1)
    return torch.stack([a * column + (b * row + c), d * column + (e * row + f)], dim=3)


def _affine(
    drawn: NDArray[np.float64], limits: Preset, height: int, width: int
) -> NDArray[np.float32]:
    """(n, 2, 3) float32: from a place in the new picture to the place in the old one."""
    flips = _flips(drawn, limits)
    mirror, upright = np.where(flips & 1, -1.0, 1.0), np.where(flips & 2, -1.0, 1.0)  # (n,)
    zoom = 1 - (1 - limits.zoom) * drawn[:, 1]
    angle = np.deg2rad(limits.degrees) * (2 * drawn[:, 2] - 1)
    # The part in view may lie anywhere inside the picture, and a little beyond where it may shift.
    room = (1 - zoom)[:, None] + 2 * limits.shift  # (n, 1)
    offset = room * (2 * drawn[:, 3:5] - 1)  # (n, 2)
    cos, sin, aspect = np.cos(angle), np.sin(angle), height / width
    matrix = np.stack(
        [
            np.stack([mirror * zoom * cos, upright * -zoom * sin * aspect, offset[:, 0]], axis=1),
            np.stack([mirror * zoom * sin / aspect, upright * zoom * cos, offset[:, 1]], axis=1),
        ],
        axis=1,
    )
    return matrix.astype(np.float32)


def _colours(drawn: NDArray[np.float64], limits: Preset) -> NDArray[np.float32]:
    """(n, 3) float32: factors of brightness, contrast and saturation."""
    reach = np.array([limits.brightness, limits.contrast, limits.saturation])
    return (1 + reach * (2 * drawn - 1)).astype(np.float32)


def _draw(keys: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(n, count) float64, even in [0, 1): the first numbers of each key's own sequence."""
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = keys.astype(np.int64).view(np.uint64)[:, None] + steps  # (n, count)
    return (_mix(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of splitmix64 from each state."""
    with np.errstate(over="ignore"):
        return _mix(state + np.uint64(0x9E3779B97F4A7C15))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
