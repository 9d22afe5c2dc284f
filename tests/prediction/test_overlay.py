"""The annotated video's pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mol_fast.data.embedded.photographs import load_photograph
from mol_fast.explain.result import BLOCKS, Explanation
from mol_fast.prediction.overlay import Annotator
from mol_fast.prediction.result import FlowFile, Prediction, WindowPrediction
from mol_fast.prediction.scenes import Scene, Shown, shown_pairs, window_scenes
from mol_fast.prediction.windows import plan_windows
from mol_fast.vision.align import inverse, resize_matrix
from mol_fast.vision.heat import warp_cells
from mol_fast.vision.video import FrameArray
from mol_fast.vision.yuv import to_yuv

CLASSES = ("negative", "positive", "surprise")
GREY = 100


def shown(matrix: np.ndarray, flow: tuple[float, float] = (0, 0), landmarks: np.ndarray | None = None) -> Shown:
    field = np.zeros((2, 128, 128), dtype=np.float32)
    field[0], field[1] = flow
    if landmarks is None:
        landmarks = np.full((68, 2), -1000.0)
    return Shown(np.array([0.2, 0.7, 0.1], dtype=np.float32), landmarks.astype(np.float32), field, matrix)


def draw(size: tuple[int, int], item: Shown, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    annotator = Annotator(classes, size, 1.0, "clip: positive 0.70")
    picture = on_grey(annotator, item, size)
    assert picture.shape == (*annotator.size[::-1], 3)
    return picture


def on_grey(annotator: Annotator, item: Shown, size: tuple[int, int], grey: int = GREY) -> np.ndarray:
    """A grey frame with what is drawn on it, in RGB."""
    frame = to_yuv(np.full(size[::-1], grey, dtype=np.uint8))
    return cv2.cvtColor(annotator.draw(frame, Scene("frame 3", item)), cv2.COLOR_YUV2RGB_I420)


CROP_AT_100_50 = np.array([[0.5, 0, -50.0], [0, 0.5, -25.0]])  # 256 pixels wide


def test_a_clip_shows_each_frame_by_the_window_that_holds_it():
    windows = plan_windows(18)
    pairs = shown_pairs(windows, 18)
    for index in range(16):
        k, pair = pairs[index]
        frames = list(windows[k].frames)
        assert frames[pair + (index > 1)] == index  # the pair that arrives; on the first frame the one that leaves
    assert pairs[16:].tolist() == [[1, 6], [1, 6]]


def test_a_long_video_shows_the_window_whose_middle_is_nearest():
    windows = plan_windows(60, 16, 10)
    pairs = shown_pairs(windows, 60)
    middles = np.array([(window.start + window.end) / 2 for window in windows])
    for index, (k, pair) in enumerate(pairs):
        distance = np.abs(middles - index)
        assert distance[k] == distance.min()
        assert pair == np.clip((index - windows[k].start) // 2 - 1, 0, 6)


def test_still_face_is_left_as_it_is():
    picture = draw((512, 512), shown(CROP_AT_100_50))[:512]
    outline = np.zeros((512, 512), dtype=bool)
    outline[48:308, 98:358] = True
    outline[54:300, 104:350] = False
    assert (picture[~outline] == GREY).all()
    assert (picture[50, 105:350] != GREY).any()


def test_frames_of_a_pair_and_of_the_next_one_have_their_own_flow():
    first, second = (shown(CROP_AT_100_50, flow) for flow in ((1, 0), (-1, 0)))
    moved = replace(second, matrix=np.array([[0.5, 0, -30.0], [0, 0.5, -25.0]]))
    annotator = Annotator(CLASSES, (512, 512), 1.0, "clip: positive 0.70")
    for brightness, item in ((GREY, first), (GREY + 40, first), (GREY, second), (GREY, moved)):
        alone = Annotator(CLASSES, (512, 512), 1.0, "clip: positive 0.70")
        picture = on_grey(annotator, item, (512, 512), brightness)
        assert (picture == on_grey(alone, item, (512, 512), brightness)).all()


@pytest.mark.parametrize(("flow", "strong", "weak"), [((1, 0), 0, 2), ((-1, 0), 2, 0), ((0, -1), 2, 1), ((0, 1), 0, 2)])
def test_flow_is_coloured_inside_the_crop_only(flow, strong, weak):
    picture = draw((512, 512), shown(CROP_AT_100_50, flow))[:512].astype(int)
    inside = picture[60:300, 110:350].reshape(-1, 3)
    assert (inside[:, strong] > inside[:, weak] + 80).all()
    assert (picture[310:, :] == GREY).all()
    assert (picture[:, :98] == GREY).all()


def test_directions_are_those_of_the_frame():
    turned = np.array([[0, 0.5, -25.0], [-0.5, 0, 150.0]])  # the crop's right is the frame's down
    down = draw((512, 512), shown(turned, (1, 0)))[60:300, 110:270]
    same = draw((512, 512), shown(CROP_AT_100_50, (0, 1)))[60:300, 110:270]
    np.testing.assert_array_equal(down, same)


def test_landmarks_are_drawn_where_they_are():
    landmarks = load_photograph("astronaut").landmarks.numpy()
    picture = draw((512, 512), shown(CROP_AT_100_50, landmarks=landmarks))[:512].astype(int)
    yellow = (picture[..., 0] > 200) & (picture[..., 2] < 150)
    for x, y in np.rint(landmarks).astype(int):
        assert yellow[y, x]
    rows, columns = np.nonzero(yellow)
    assert (rows.min(), rows.max()) == pytest.approx((landmarks[:, 1].min(), landmarks[:, 1].max()), abs=4)
    assert (columns.min(), columns.max()) == pytest.approx((landmarks[:, 0].min(), landmarks[:, 0].max()), abs=4)


def test_the_windows_of_a_clip_in_turn_show_one_heat():
    windows = plan_windows(18)
    cells = np.random.default_rng(0).uniform(0, 1, (2, 16, 16)).astype(np.float32)
    found = []
    for window, label, places in zip(windows, ("positive", "negative"), cells, strict=True):
        told = Explanation(label, 0.6, dict.fromkeys(BLOCKS, places), np.zeros(7), None, None, None, None, None, ())
        item = np.array([0.2, 0.45, 0.35], dtype=np.float32), None, None, CROP_AT_100_50, None, 0, None, told
        found.append(WindowPrediction(window, *item))
    clip = Prediction(CLASSES, np.array([0.2, 0.5, 0.3]), found, None, [])
    source = FrameArray(np.zeros((18, 8, 8), np.uint8))
    scenes = window_scenes(clip, windows, source)
    for index in range(18):
        np.testing.assert_allclose(scenes(index).shown.heat, cells[0] / cells[0].max(), rtol=1e-6)
        assert scenes(index).caption.endswith(f"window {index % 2 + 1 if index < 16 else 2} of 2, uncertain")
    sure = window_scenes(replace(clip, confidence=0.4), windows, source)
    assert sure(3).caption.endswith("of 2")


def test_heat_takes_the_place_of_flow():
    cells = np.zeros((16, 16), dtype=np.float32)
    cells[12, 4] = 1  # of the crop, so at 100 + 2 * (4 * 8 + 3.5) to the right
    turned = np.array([[0, 0.5, -25.0], [-0.5, 0, 177.0]])
    for matrix, (x, y) in ((CROP_AT_100_50, (171, 249)), (turned, (155, 121))):
        item = replace(shown(matrix, (1, 0)), heat=cells)
        annotator = Annotator(CLASSES, (512, 512), 1.0, "1 moment", heat=True)
        picture = on_grey(annotator, item, (512, 512)).astype(int)[:512]
        hot = picture[..., 0] > GREY + 70  # brighter than the outline
        rows, columns = np.nonzero(hot)
        assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=1.5)
        assert (picture[y, x, :2] > 180).all(), "yellow"
        assert (picture[350:] == GREY).all()
        faded = replace(item, heat=cells / 4, probabilities=None)
        weak = on_grey(annotator, faded, (512, 512)).astype(int)[:512]
        difference = np.abs(weak - GREY).max(-1)
        assert 0 < difference[y, x] < 60
        assert set(zip(*np.nonzero(difference), strict=True)) <= set(
            zip(*np.nonzero(warped(cells, matrix)), strict=True)
        )


def warped(cells: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return warp_cells(cells, inverse(matrix), (512, 512))


def test_small_frames_are_enlarged():
    landmarks = np.full((68, 2), 72.0)
    picture = draw((144, 144), shown(resize_matrix(144, 144), landmarks=landmarks))
    assert picture.shape[1] == 432
    rows, columns = np.nonzero((picture[:432, :, 0] > 200) & (picture[:432, :, 2] < 150))
    assert rows.mean() == pytest.approx(72.5 * 3 - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(72.5 * 3 - 0.5, abs=0.6)


@pytest.mark.parametrize("size", [(480, 480), (640, 480), (500, 1000), (1920, 1080)])
@pytest.mark.parametrize("classes", [CLASSES, ("a very long name of a class of expressions", "b", "c")])
def test_text_stays_in_the_panel(size, classes):
    picture = draw(size, shown(CROP_AT_100_50), classes)
    panel = picture[size[1] :].astype(int)
    background = panel[0, 0]
    for edge in (panel[0], panel[-1], panel[:, :3].reshape(-1, 3), panel[:, -3:].reshape(-1, 3)):
        assert (edge == background).all()
    assert (np.abs(panel - background).max(-1) > 100).mean() > 0.02  # bright text and bars


def test_the_bar_of_the_best_class_is_the_longest():
    panel = draw((640, 480), shown(CROP_AT_100_50))[480:].astype(int)
    blue = (panel[..., 2] > 240) & (panel[..., 0] < 110)
    grey = (np.abs(panel - (165, 165, 170)) <= 2).all(-1)
    assert blue.sum(1).max() > 2 * grey.sum(1).max() > 0


def test_a_frame_without_prediction():
    pictures = [draw((640, 480), Shown(remark=reason)) for reason in ("no face", "other person")]
    assert (pictures[0][:480] == GREY).all()
    assert (pictures[0][480:] != pictures[1][480:]).any()


def test_crop_outside_of_the_frame_is_no_error():
    picture = draw((640, 480), shown(np.array([[1, 0, 5000.0], [0, 1, 5000.0]]), (1, 0)))
    assert (picture[:480] == GREY).all()


def test_flow_file(tmp_path):
    flow = np.random.default_rng(0).normal(size=(3, 2, 7, 128, 128)).astype(np.float32)
    with FlowFile(tmp_path) as store:
        for item in flow:
            store.append(item)
        assert len(store) == 3
        np.testing.assert_allclose(store[1], flow[1], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(store[-1], flow[2], rtol=1e-3, atol=1e-6)
        store.append(flow[0])
        np.testing.assert_allclose(store[2:][1], flow[0], rtol=1e-3, atol=1e-6)
        with pytest.raises(IndexError):
            store[4]
    assert not list(tmp_path.iterdir())
