"""What lies in a page: whole where there is room, rounded only where one looks, safe whatever its names."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from pointed import answer
from steadygaze.report.embedding import MOST_PIXELS, Arrays, embedded, reduced, script_safe


def unpacked(facts: str, text: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts and arrays, read as the browser reads them."""
    told, raw, at, arrays = json.loads(facts), base64.b64decode(text), 0, {}
    for entry in told["arrays"]:
        planes = np.frombuffer(zlib.decompress(raw[at : at + entry["bytes"]]), np.uint8)
        kind = np.dtype(f"<{entry['kind']}")
        numbers = np.ascontiguousarray(planes.reshape(kind.itemsize, -1).T).view(kind)
        arrays[entry["name"]] = numbers.reshape(entry["shape"])
        at += entry["bytes"]
    assert at == len(raw)
    return told, arrays


def drawing_of(case: str):
    return replace(answer(case).drawing(), atlas=answer(case)._atlas())


def held(case: str, room: int = 2_000_000):
    return embedded(answer(case).result, drawing_of(case), room)


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u4", "i4", "f4", "f8"])
def test_arrays_come_back_as_they_were(kind):
    numbers = np.random.default_rng(1).integers(0, 100, (7, 3, 2)).astype(f"<{kind}")
    arrays = Arrays()
    arrays.add("first", numbers, kind)
    arrays.add("none", numbers[:0], kind)
    _, found = unpacked(json.dumps({"arrays": arrays.told()}), arrays.text())
    assert (found["first"] == numbers).all()
    assert found["none"].shape == (0, 3, 2)
    assert len(arrays.text()) == arrays.size


def test_json_in_a_script_element_never_ends_it():
    hostile = "</script><!--<script>&\u2028\u2029\ud800"
    text = script_safe({"name": hostile})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"name": hostile}


@pytest.mark.parametrize("case", ["plane", "space", "moved"])
def test_the_cells_in_the_page_are_those_of_the_answer(case):
    told, arrays = unpacked(*held(case)[:2])
    own = answer(case)
    shares = [float(arrays["cells.share"][arrays["cells.kind"] == kind].sum()) for kind in range(4)]
    assert np.allclose(shares, own.result.shares.values(), atol=1e-6)
    number = arrays["cells.number"]
    assert (own.map.kind[number] == arrays["cells.kind"]).all()
    assert (own.map.region[number] == arrays["cells.region"]).all()
    assert told["failure"]["theta"] == list(own.result.nearest_failure.theta)


def test_corners_are_kept_to_a_billionth_of_the_box():
    _, arrays = unpacked(*held("plane")[:2])
    (part,) = answer("plane").drawing().polygons
    box = answer("plane").problem.box
    placed = arrays["sheet0.corners"][arrays["sheet0.corner"]] / (2**32 - 1)
    theta = box[:, 0] + placed * (box[:, 1] - box[:, 0])
    assert np.abs((theta - part.points) / (box[:, 1] - box[:, 0])).max() < 1e-9


def test_what_there_is_no_room_for_is_left_out_from_the_last_stop_on():
    whole = held("space")
    _, every = unpacked(*whole[:2])
    assert whole.kept == len(answer("space")._atlas().stops.theta)
    size = len(whole.facts) + len(whole.arrays)
    for room in (size - 9_000, int(0.7 * size)):
        some = held("space", room)
        assert len(some.facts) + len(some.arrays) <= room
        _, arrays = unpacked(*some[:2])
        assert 0 < some.kept < whole.kept
        assert (arrays["stops.theta"] == every["stops.theta"][: some.kept]).all()
        assert (arrays["cells.kind"] == every["cells.kind"]).all(), "cells are never left out"
    assert held("space", 5_000) is None


def test_maps_are_rounded_to_8_bits_and_keep_their_length():
    _, arrays = unpacked(*held("plane")[:2])
    maps = answer("plane")._atlas().stops.saliency
    shown = arrays["stops.saliency"] * arrays["stops.saliency.unit"][:, None, None]
    whole = (
        np.nan_to_num(maps)
        / np.linalg.norm(np.nan_to_num(maps).reshape(len(maps), -1), axis=1)[:, None, None]
    )
    assert np.abs(shown - whole).max() <= 0.51 * np.abs(whole).max() / 127
    assert (arrays["compared"] > 0).tolist() == np.isfinite(maps[0]).tolist()


def test_large_pictures_are_reduced_by_whole_blocks():
    picture = np.random.default_rng(0).random((2, 3, 300, 200))
    small = reduced(picture)
    assert small.shape == (2, 3, 100, 67)
    assert max(small.shape[-2:]) <= MOST_PIXELS
    assert np.allclose(small[..., 5, 7], picture[..., 15:18, 21:24].mean(axis=(-2, -1)))
    assert reduced(picture[..., :100, :100]) is not None
    assert (reduced(picture[..., :100, :100]) == picture[..., :100, :100]).all()
