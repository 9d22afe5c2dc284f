"""Layers over pictures in YUV."""

import cv2
import numpy as np

from mol_fast.vision.yuv import Layer, planes, size_of, to_yuv


def test_a_layer_hides_as_much_as_it_is_opaque() -> None:
    generator = np.random.default_rng(0)
    picture = np.kron(generator.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    color = np.kron(generator.integers(0, 256, (4, 5, 3)), np.ones((8, 8, 1)))
    opacity = np.kron(np.linspace(0, 1, 20).reshape(4, 5), np.ones((8, 8)))
    drawn = np.dstack([np.rint(color * opacity[..., None]), np.rint(255 * opacity)]).astype(np.uint8)
    yuv = to_yuv(picture)
    assert size_of(yuv) == (64, 48)
    before = [plane.copy() for plane in planes(yuv)]
    Layer(drawn, 16, 8).lay(yuv)
    expected = picture.astype(float)
    part = expected[8:40, 16:56]
    part += opacity[..., None] * (color - part)
    inside = np.zeros((48, 64), dtype=bool)
    inside[8:40, 16:56] = True
    for plane, old, side in zip(planes(yuv), before, (1, 2, 2), strict=True):
        outside = ~inside[::side, ::side]
        assert (plane[outside] == old[outside]).all()
    shown = cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_I420).astype(float)
    assert np.abs(shown - expected).max() < 6
    assert np.abs(shown - expected).mean() < 1.5


def test_what_is_not_drawn_stays_to_the_bit() -> None:
    yuv = np.random.default_rng(1).integers(0, 256, (72, 64), dtype=np.uint8)
    before = yuv.copy()
    Layer(np.zeros((20, 30, 4), dtype=np.uint8), 2, 4).lay(yuv)
    assert (yuv == before).all()
