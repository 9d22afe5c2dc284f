"""The frame numbers of image files: one rule for `prepare` and `predict`."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mol_fast.preparation.frame_files import frame_files
from mol_fast.utils.errors import UserError
from mol_fast.vision.frame_numbers import number_files
from mol_fast.vision.video import ImageFolder, read_image, used_bits

CLOCK = ["RGB-11-26-57-600", "RGB-11-26-57-640", "RGB-11-26-58-10", "RGB-11-27-0-5"]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["img9", "img46", "img100"], [9, 46, 100]),
        (["006_05562", "006_05563"], [5562, 5563]),
        (["001_v2", "002_v2", "010_v2"], [1, 2, 10]),
        (CLOCK, [1, 2, 3, 4]),
        (["RGB-11-26-57-600", "RGB-11-26-57-633"], [600, 633]),
        (["f_0001_t0.033", "f_0002_t0.067", "f_0003_t0.100", "f_0004_t1.000"], [1, 2, 3, 4]),
        (["img (1)", "img (2)", "img (10)"], [1, 2, 10]),
        (["a", "b", "c"], [1, 2, 3]),
        (["s1_7"], [7]),
    ],
)
def test_numbers_are_what_differs(names, numbers):
    found = number_files(Path(f"{name}.jpg") for name in reversed(names))
    assert [path.stem for path in found.files.values()] == names
    assert [*found.files] == numbers
    assert not found.doubled
    assert not found.unnumbered


def test_copies_covers_and_stray_names_are_no_frames():
    names = ["img14", "img15", "img15 (1)", "img16", "img17", "cover", "reg_img16", "img20 (1)"]
    found = number_files(Path(f"{name}.jpg") for name in names)
    assert [path.stem for path in found.files.values()] == ["img14", "img15", "img16", "img17", "img20 (1)"]
    assert {path.stem for path in found.doubled} == {"img15 (1)", "reg_img16"}
    assert [path.stem for path in found.unnumbered] == ["cover"]


@pytest.mark.parametrize("names", [CLOCK, ["001_v2", "002_v2", "010_v2"], ["img14", "img15", "img15 (1)", "img16"]])
def test_prepare_and_predict_read_the_same_frames(tmp_path, names):
    for name in names:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((4, 4), dtype=np.uint8))
    source = ImageFolder(tmp_path)
    assert [*frame_files(tmp_path).files.values()] == source.files
    assert [file.stem for file in source.files] == [name for name in names if "(" not in name]
    assert len(source.notes) == any("(" in name for name in names)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_deep_stills_are_scaled_by_one_factor(tmp_path, suffix, bits):
    """A dark frame stays darker than a bright one, and all 8 bits are used."""
    most = 2**bits - 1
    for number, share in enumerate((0.1, 0.5, 1.0)):
        picture = np.linspace(0, share * most, 64 * 48).round().astype(np.uint16).reshape(48, 64)
        assert cv2.imwrite(str(tmp_path / f"img{number}{suffix}"), picture)
    source = ImageFolder(tmp_path)
    assert used_bits(source.files) == bits
    for share, frame in zip((0.1, 0.5, 1.0), source, strict=True):
        np.testing.assert_allclose(frame[..., 1].ravel(), np.linspace(0, share * 255, 64 * 48), atol=1)
    assert len(np.unique(frame)) == 256


def test_plain_stills_are_left_as_they_are(tmp_path):
    picture = np.full((4, 4, 3), (10, 20, 30), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "1.png"), picture)
    assert used_bits([tmp_path / "1.png"]) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), picture[..., ::-1])


@pytest.mark.parametrize(("first", "other"), [(np.uint8, np.uint16), (np.uint16, np.uint8)])
def test_stills_of_different_depths_are_refused(tmp_path, first, other):
    for number, depth in enumerate((first, first, other)):
        picture = np.full((48, 64), 200 if depth == np.uint8 else 3000, dtype=depth)
        assert cv2.imwrite(str(tmp_path / f"img{number}.png"), picture)
    has, others = (np.iinfo(depth).bits for depth in (other, first))
    with pytest.raises(UserError, match=rf"img2.png has {has} bits per colour where the first .* has {others}"):
        list(ImageFolder(tmp_path))
