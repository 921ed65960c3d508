"""A heat map laid over its picture. Numpy and Pillow only: a server has no matplotlib."""

import base64

import numpy as np
import numpy.typing as npt
from PIL import Image

from layerwise.data.pictures.images import inner_box

_INFERNO = (
    "0009300aO41_1yE0RagC0Sf{F4gvxY0|F8R0~7=U76k+t1_T=i1sw<m9|;B_3I`(#2PO>&C=LiJ4+$+02`>@~G7}0k6b"
    "m*M3pp1HI~fZ;8Vf)i3_~3ZMIQ`DAPh<(3rr*nP9_UbCks+33sfr#RxJuxE(%&O3S2S?T{H<_H3?uh31K-"
    "2Vmk?BJPBn!31&bEW<d#OLkeg`3TZ|PX-ErdN(*XB3~NmcYflYqPz`KS4s25nZB-"
    "9#R}XDi5N%o!ZCep;T@r3z5^i7<ZekQ}V-"
    "#*>6>eq~ZfF*6Y8P&67jA7BZf+QEa2alL8EtbKZFL)Mb{lPY9Bq0WZF?PTeI0Cm9&CUgYk?nYgCJ{#AZmsoYKS3fi6Uu"
    ">B592yX^tdlkR)i4C1;Z*XO$*qmL_JHCuNx^WSb~toGD|TDPy22VxcQxqbp&gEMTTAU#Bf!sV-"
    "itE?ulIT&^%%uQ6M(F<P=RS+p})wKG?@G*-AZR=PG-yEjz5H&ebiQolJ-"
    "!8%aFJ5R(sPQ^V<$39HRK1<0zO3Oe=%t1)aLPyU;M$kn>(MChkM?%y{LDfk>)=EFuOFr36J=#t?+fO>&P&wUFINnn?-"
    "&8i>Ry5*QGvin?<XSQ1TQKHaF6Le>=U*)7VJqokD(Yk?>t!eGXD01vCGBb>?rb9OZ6WY)AMkJ<@p2vVbR6<^8uND<^LZ"
    "HbdKUG374?1;_J9)hff4tE5ch=+_=gSnhz$6O3;B!*`Hl$rkO=yb2l|r+`jrOymj?Tp2K$=^`<({+o(KD&2m7K3`=ko{"
    "rVIP14g0DN`>YWAt`hsO6#KCj`?DDPwHo`k9Q(N*`nw_ey(9X+CHlcA`NJyt#Vq;9FZjtZ_{%i-"
    "%{TYYI``2$_R~N1)k5{xMfKT8^xI4H+)wk~QuE+e^Ws_Z<X!USVDac=@#$#s>umAuaPjVR@$h-"
    "^@_q92f%5c)^Y)4K_l@=Vk@otP_xqXo{GIy!p#1)%"
)

INFERNO: npt.NDArray[np.uint8] = np.frombuffer(base64.b85decode(_INFERNO), np.uint8).reshape(256, 3)
"""The colours of matplotlib's "inferno" (CC0), (256, 3), dark to bright."""


def overlay(image: npt.NDArray[np.uint8], heat: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """A picture with its heat map laid over it; where there is no heat the picture is untouched.

    Args:
        image: uint8 (H, W), (H, W, 1) or (H, W, 3).
        heat: (H, W), from 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    grey = image[..., None] if image.ndim == 2 else image
    rgb = np.broadcast_to(grey, (*grey.shape[:2], 3)).astype(np.float64)
    heat = np.clip(np.nan_to_num(heat), 0, 1)
    colour = INFERNO[np.minimum((0.25 + 0.75 * heat) * 256, 255).astype(np.int64)]  # (H, W, 3)
    opacity = 0.7 * heat[..., None] ** 0.8
    mixed: npt.NDArray[np.float64] = np.rint(rgb * (1 - opacity) + colour * opacity)
    return mixed.astype(np.uint8)


def place(
    heat: npt.NDArray[np.float32], size: tuple[int, int], letterbox: bool
) -> npt.NDArray[np.float32]:
    """A heat map of the network's size brought onto the picture that the network was given.

    Args:
        heat: float32 (h, w), from 0 to 1.
        size: (height, width) of the picture.
        letterbox: Whether the picture lies in the middle of what the network saw, its aspect
            ratio kept (see `data.pictures.images.resize`), or fills it.

    Returns:
        float32 (height, width), from 0 to 1.
    """
    if letterbox:
        top, left, height, width = inner_box(size, heat.shape)
        heat = heat[top : top + height, left : left + width]
    image = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    wide = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(wide, np.float32), 0, 1)
