"""Tiles named from outside reach the launches, change no result, and give way where a device does not take them."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.compare import seeded
from torch import Tensor

pytest.importorskip("triton")

from mol_fast.kernels import ccc, ccc_forward, correlation, fcc, resources, tiles
from mol_fast.kernels.common import DTYPES, Target
from triton.runtime.errors import OutOfResources

SHAPE = (448, 128, 16, 16)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No tiles from the environment, and nothing refused before."""
    monkeypatch.delenv(tiles.VARIABLE, raising=False)
    monkeypatch.setattr(tiles, "STATE", tiles.State())
    tiles.environment.cache_clear()
    yield
    tiles.environment.cache_clear()


def tile(kernel: str) -> dict[str, int]:
    """The fields of the kernel's first launch at the standard shape."""
    launches = [*fcc.launches(SHAPE, torch.bfloat16, "cuda"), *ccc.launches(SHAPE, 4, torch.bfloat16, "cuda")]
    launches += ccc.launches((14, *SHAPE[1:]), 4, torch.bfloat16, "cuda")
    launches += correlation.launches(SHAPE, torch.bfloat16, "cuda")
    return next(launch for launch in launches if launch.name == kernel).tile._asdict()


def test_every_kernel_that_ships_can_be_tuned() -> None:
    launches = [
        launch
        for operator in resources.OPERATORS
        for dtype in DTYPES
        for _, launch in resources.shipped(operator, dtype, "cuda")
    ]
    assert {launch.name for launch in launches} == set(tiles.tunable())
    for launch in launches:
        sides = {name for name in launch.tile._fields if name.isupper()}
        assert sides <= set(launch.constants), launch.name
        others = {name for name in launch.tile._fields if not name.isupper()}
        assert others - {"programs"} == {"num_warps", "num_stages"}


@pytest.mark.parametrize("kernel", sorted(tiles.tunable()))
def test_an_override_reaches_the_launch(kernel: str) -> None:
    pinned = tile(kernel)
    for name, value in pinned.items():
        change = {name: value + 1 if name == "num_stages" else value // 2 if value > 1 else 2}
        with tiles.override({kernel: change}):
            assert tile(kernel) == {**pinned, **change}
        assert tile(kernel) == pinned


def test_the_inner_override_wins_field_by_field() -> None:
    with tiles.override({"ccc_edges_kernel": {"BD": 16, "num_warps": 2}}):
        with tiles.override({"ccc_edges_kernel": {"num_warps": 1}}):
            assert (tile("ccc_edges_kernel")["BD"], tile("ccc_edges_kernel")["num_warps"]) == (16, 1)
        assert tile("ccc_edges_kernel")["num_warps"] == 2


def test_the_end_of_an_override_leaves_an_equal_outer_one_in_its_place() -> None:
    changes = {"ccc_edges_kernel": {"BD": 16}}
    with tiles.override(changes), tiles.override({"ccc_edges_kernel": {"BD": 64}}):
        with tiles.override(changes):
            assert tile("ccc_edges_kernel")["BD"] == 16
        assert tile("ccc_edges_kernel")["BD"] == 64


@pytest.mark.parametrize("target", ["cuda", "hip"])
def test_a_launch_names_the_tiles_that_were_chosen(target: Target) -> None:
    """Otherwise those that do not fit could not be refused: each field, also on targets that do not use it."""
    maps = torch.empty(2, 128, 16, 16, dtype=torch.bfloat16, device="meta")
    with tiles.override({"ccc_edges_kernel": {"BD": 64}}):
        launches = ccc.launches((2, 128, 16, 16), 4, torch.bfloat16, target)
        found = next(launch.tile for launch in launches if launch.name == "ccc_edges_kernel")
        assert found == ccc_forward.edges_tile(maps, True)


def test_sides_end_where_the_map_does() -> None:
    pinned = tile("fcc_forward_kernel")
    with tiles.override({"fcc_forward_kernel": {"BR": 64}, "ccc_neighbours_kernel": {"BI": 512}}):
        assert tile("fcc_forward_kernel") == pinned
        assert tile("ccc_neighbours_kernel")["BI"] == 128


def test_every_change_is_counted() -> None:
    seen = [tiles.generation()]
    with tiles.override({"ccc_edges_kernel": {"BD": 16}}):
        seen.append(tiles.generation())
    seen.append(tiles.generation())
    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": {"BD": 16}}, "names a kernel 'edges', which does not exist; there are fcc_statistics_kernel, "),
        (
            {"ccc_edges_kernel": {"BI": 16}},
            "names a field 'BI' of ccc_edges_kernel, which has BD, TURNS, BK, num_warps",
        ),
        ({"ccc_edges_kernel": {"BD": 24}}, "sets BD of ccc_edges_kernel to 24, it must be a power of two"),
        ({"ccc_edges_kernel": {"BD": "16"}}, "sets BD of ccc_edges_kernel to '16', it must be a power of two"),
        (
            {"ccc_edges_kernel": {"num_stages": 0}},
            "sets num_stages of ccc_edges_kernel to 0, it must be a positive number",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    changes: dict[str, dict[str, Any]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="^tiles " + message), tiles.override(changes):
        pass
    file = tmp_path / "tiles.json"
    file.write_text(json.dumps(changes))
    monkeypatch.setenv(tiles.VARIABLE, str(file))
    with pytest.raises(ValueError, match=message) as caught:
        tile("ccc_edges_kernel")
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "is no readable JSON file"), ("{", "is no readable JSON file"), ("[1]", "must be of the form")],
)
def test_a_file_that_cannot_be_read(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiles.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(tiles.VARIABLE, str(file))
    with pytest.raises(ValueError, match=message):
        tile("ccc_edges_kernel")


def test_the_environment_gives_way_to_an_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = tile("ccc_edges_kernel")
    file = tmp_path / "tiles.json"
    file.write_text('{"ccc_edges_kernel": {"BD": 16, "num_warps": 2}}')
    tiles.environment.cache_clear()
    monkeypatch.setenv(tiles.VARIABLE, str(file))
    assert tile("ccc_edges_kernel") == {**pinned, "BD": 16, "num_warps": 2}
    with tiles.override({"ccc_edges_kernel": {"num_warps": 1}}):
        assert tile("ccc_edges_kernel") == {**pinned, "BD": 16, "num_warps": 1}


def test_a_row_of_the_card_is_taken_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the card that holds the tensors, the kernel, its class of shapes and its dtype; another's are not asked."""
    row = {"128x256": {"bfloat16": {"tile": {"BD": 16}, "run": "a run"}}}
    monkeypatch.setattr(tiles, "table", lambda: {"one card": {"ccc_edges_kernel": row}})
    monkeypatch.setattr(tiles, "card", lambda device: ("one card", "another")[device.index])
    pinned = ccc_forward.EdgesTile(32, 2, 64, 8, 3, 2)

    def chosen(index: int, shape: str = "128x256", dtype: torch.dtype = torch.bfloat16) -> ccc_forward.EdgesTile:
        return tiles.choose("ccc_edges_kernel", shape, dtype, pinned, torch.device("cuda", index))

    assert chosen(0) == pinned._replace(BD=16)
    assert chosen(1) == chosen(0, "128x64") == chosen(0, dtype=torch.float32) == pinned
    with tiles.override({"ccc_edges_kernel": {"BD": 32}}):
        assert chosen(0).BD == 32


def test_the_table_in_the_tree_is_well_formed() -> None:
    for kernels in tiles.table().values():
        for kernel, shapes in kernels.items():
            for row in (row for dtypes in shapes.values() for row in dtypes.values()):
                tiles.check({kernel: row["tile"]}, "tiles.json")
                assert row["run"]


class Limited:
    """A kernel on a device that holds tiles of at most `most` pixels."""

    def __init__(self, kernel: Any, most: int) -> None:
        self.kernel, self.most = kernel, most
        self.__name__, self.arg_names = kernel.__name__, kernel.arg_names
        self.launched: list[int] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*values: Any, **options: int) -> None:
            side = dict(zip(self.arg_names, values, strict=True))["BD"]
            self.launched.append(side)
            if side > self.most:
                raise OutOfResources(300000, 232448, "shared memory")
            self.kernel[grid](*values, **options)

        return launch


def run(maps: Tensor) -> Tensor:
    d = maps.shape[2] * maps.shape[3]
    c = maps.shape[1]
    shapes = ((d, d), (d,), (d, d), (d,), (c, c), (c,))
    own = [seeded(*shape, seed=i, dtype=maps.dtype) for i, shape in enumerate(shapes)]
    return ccc.ccc(maps, *own, 2)


@pytest.mark.interpreter
def test_tiles_that_do_not_fit_give_way_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = seeded(1, 4, 5, 12)
    expected, pinned = run(maps), ccc_forward.edges_tile(maps, True).BD
    kernel = Limited(ccc_forward.ccc_edges_kernel, pinned)
    monkeypatch.setattr(ccc_forward, "ccc_edges_kernel", kernel)
    with tiles.override({"ccc_edges_kernel": {"BD": 2 * pinned}}):
        before = tiles.generation()
        with pytest.warns(RuntimeWarning, match="ccc_edges_kernel does not fit the device .* shared memory") as seen:
            assert torch.equal(run(maps), expected)
        assert len(seen) == 1
        assert tiles.generation() > before
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(run(maps), expected)
    assert kernel.launched == [2 * pinned, pinned, pinned]


@pytest.mark.interpreter
def test_a_default_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccc_forward, "ccc_edges_kernel", Limited(ccc_forward.ccc_edges_kernel, 1))
    with pytest.raises(tiles.Unfit, match="ccc_edges_kernel does not fit the device with EdgesTile"):
        run(seeded(1, 4, 5, 12))


@pytest.mark.interpreter
@pytest.mark.parametrize("side", [16, 64])
def test_other_tiles_give_the_same_maps(side: int) -> None:
    maps = seeded(2, 6, 5, 12)
    expected = run(maps)
    with tiles.override({"ccc_edges_kernel": {"BD": side}, "ccc_neighbours_kernel": {"BD": side, "BI": 16}}):
        torch.testing.assert_close(run(maps), expected)
