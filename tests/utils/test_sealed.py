"""Files with a digest of themselves: every flipped bit of every kind of file is noticed, older files are accepted."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mol_fast.data import write_video
from mol_fast.data.store import Video
from mol_fast.metrics import Evaluation
from mol_fast.nn.config import PRESETS
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import SAMPLES, SCORES
from mol_fast.runs.sample import Sample
from mol_fast.runs.selection import Scoring, read_scoring, write_scoring
from mol_fast.training.checkpoints import Checkpoints
from mol_fast.utils import sealed
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import VideoId
from mol_fast.utils.sealed import DamagedFile, check_digest, pack, sealed_json, unpack

PICTURES = ("first_frame", "frame", "landmarks_true", "landmarks_predicted", "flow_true", "flow_predicted")
SOME = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.bfloat16).T}


def flip(path: Path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ 1 << bit % 8
        file.seek(bit // 8)
        file.write(bytes([byte]))


def test_pack_and_unpack(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(pack(SOME, {"z": "Zoë", "a": '"\\'}))
    tensors, metadata = unpack(path)
    assert metadata == {"z": "Zoë", "a": '"\\'}
    assert all(torch.equal(tensors[name], value) for name, value in SOME.items())
    assert load_file(path).keys() == SOME.keys()


def test_equal_content_gives_equal_bytes() -> None:
    again = {name: SOME[name].clone() for name in sorted(SOME)}
    assert pack(SOME, {"z": "1", "a": "2"}) == pack(again, {"z": "1", "a": "2"})
    assert len({pack(SOME, {str(number): "" for number in range(9)}) for _ in range(9)}) == 1


@pytest.mark.parametrize("content", [pack(SOME, {"z": "Zoë"}), sealed_json({"sums": [1.5, 2], "digests": "sha256:0"})])
def test_digest_notices_a_bit_in_every_byte(tmp_path: Path, content: bytes) -> None:
    """Those of the header, of the digest itself and of padding, too."""
    path = tmp_path / "file"
    path.write_bytes(content)
    for byte in range(len(content)):
        flip(path, 8 * byte + byte % 8)
        with pytest.raises(DamagedFile):
            check_digest(path)
        flip(path, 8 * byte + byte % 8)
    check_digest(path)


def test_file_without_a_digest_is_accepted(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "old.safetensors", {"format": "1"})
    assert unpack(tmp_path / "old.safetensors")[1] == {"format": "1"}
    (tmp_path / "old.json").write_text(json.dumps({"classes": ["a"]}))
    check_digest(tmp_path / "old.json")


def test_digest_is_read_once_while_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(pack(SOME, {}))
    opened = []

    def count(*arguments: str) -> object:
        opened.append(arguments)
        return open(*arguments)

    monkeypatch.setattr(sealed, "open", count, raising=False)
    for _ in range(3):
        check_digest(path)
    assert len(opened) == 1
    path.write_bytes(pack(SOME, {"more": ""}))
    check_digest(path)
    assert len(opened) == 2


def video(folder: Path) -> tuple[Path, Callable[[], object]]:
    data = torch.zeros(8, 144, 144, dtype=torch.uint8), torch.rand(8, 68, 2) * 144, torch.zeros(7, 2, 144, 144).half()
    file = folder / "video.safetensors"
    written = write_video(file, *data, subject="s", video="v", label="l", source="c")
    return file, lambda: (written.read(), Video.from_file(file))


def weights(folder: Path) -> tuple[Path, Callable[[], object]]:
    file = folder / "weights.safetensors"
    save_weights(file, MOL(config=PRESETS["small"]), {"classes": ["a", "b", "c"]})
    return file, lambda: load_weights(file)


def evaluation() -> Evaluation:
    scored = Evaluation(("a", "b"))
    scored.update(torch.tensor([[0.25, 0.5]]), torch.tensor([1]), [VideoId("c", "s", "v")], None, None, None, None)
    return scored


def results(folder: Path, name: str) -> tuple[Path, Callable[[], object]]:
    shapes = (128, 128), (128, 128), (68, 2), (2, 128, 128)
    first, frame, landmarks, flow = (torch.rand(*shape).numpy() for shape in shapes)
    names = {"source": "c", "subject": "s", "video": "v", "label": "b", "predicted": "b"}
    texts = {**names, "probabilities": {"a": 0.25, "b": 0.75}}
    sample = Sample(**texts, **dict(zip(PICTURES, (first, frame, landmarks, None, flow, None), strict=True)))
    FoldResults(evaluation(), (sample,)).write(folder)

    def read() -> None:
        if FoldResults.read(folder) is None:
            raise UserError("damaged")

    return folder / name, read


def samples(folder: Path) -> tuple[Path, Callable[[], object]]:
    return results(folder, SAMPLES)


def scores(folder: Path) -> tuple[Path, Callable[[], object]]:
    return results(folder, SCORES)


def scoring(folder: Path) -> tuple[Path, Callable[[], object]]:
    write_scoring(folder, Scoring(3, evaluation()))
    return next(folder.glob("scorings/*")), lambda: read_scoring(folder, 3)


def checkpoint(folder: Path) -> tuple[Path, Callable[[], object]]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoints = Checkpoints(folder, 1, "mine", {})
    checkpoints.save(1, model, optimizer)

    def load() -> None:
        if checkpoints.load(model, optimizer) != 1:
            raise UserError("damaged")

    return next(folder.iterdir()), load


@pytest.mark.parametrize("make", [video, weights, samples, scores, scoring, checkpoint])
def test_defect_05_digest_of_every_kind_of_file(
    tmp_path: Path, make: Callable[[Path], tuple[Path, Callable[[], object]]]
) -> None:
    """Payloads had no digest: flipped bits were accepted and changed printed probabilities."""
    path, read = make(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(make.__name__)
    header = 8 * (8 + int.from_bytes(whole[:8], "little")) if path.suffix == ".safetensors" else 8 * 100
    bits = [rng.randrange(header) for _ in range(10)] + [rng.randrange(header, 8 * len(whole)) for _ in range(25)]
    for bit in bits:
        flip(path, bit)
        with pytest.raises(UserError):
            read()
        flip(path, bit)
    read()
