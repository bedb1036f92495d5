"""What travels with a case: enough to answer it where none of its files are."""

from __future__ import annotations

import pickle
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import misbehaving
from misbehaving import HANGS, SEGFAULTS
from steadygaze.campaign import Margins, Status, make_case, pool
from steadygaze.campaign.cluster import Needs, Station
from steadygaze.campaign.crew import Task
from steadygaze.campaign.freight import Packer, model_files
from steadygaze.errors import ImageError, ModelError
from steadygaze.question.digits import builtin_model

CASE = make_case({"model": "digits-mlp", "image": "digits:2", "perturb": ["brightness(amount=-0.1..0.1)"]})


def same(files):
    return files


@contextmanager
def station(margins: Margins):
    made = Station((), margins, same)
    try:
        yield made
    finally:
        made.close()


def test_a_case_is_answered_where_none_of_its_files_are(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(builtin_model("digits-mlp"), here / "net.onnx")
    np.save(here / "spot.npy", np.full((8, 8), 0.5))
    np.save(here / "image.npy", np.full((1, 8, 8), 0.25))
    np.save(here / "dark.npy", np.full((1, 8, 8), 0.05))
    monkeypatch.chdir(here)
    case = make_case(
        {"model": "net.onnx", "image": "image.npy", "perturb": ["blend(amount=0..0.001, target=spot.npy)"]},
        {"saliency": "integrated-gradients", "baseline": "dark.npy", "method": "bound", "measure": 3},
    )
    freight = pickle.loads(pickle.dumps(Packer(same).freight(case)))  # noqa: S301 (our own bytes)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(here)
    with station(Margins()) as made:
        reply = made.answer(Task("key", case, freight=freight))
    assert reply.status == Status.SOLVED, reply.sentence
    assert reply.answer["shape"] == [1, 8, 8]
    assert reply.answer["measured"]["drawn"] == 3


def test_a_model_is_stored_once_and_placed_once(tmp_path):
    stored, fetched = [], []
    packer = Packer(lambda files: stored.append(files) or len(stored))
    path = tmp_path / "a.onnx"
    path.write_bytes(builtin_model("digits-mlp").read_bytes())
    case = replace(CASE, model=str(path))
    both = [packer.freight(case), packer.freight(replace(case, image="digits:3"))]

    def fetch(number):
        fetched.append(number)
        return stored[number - 1]

    placed = {freight.placed(tmp_path / "there", fetch) for freight in both}
    assert len(stored) == len(fetched) == len(placed) == 1
    assert Path(placed.pop()).read_bytes() == path.read_bytes()


def test_weights_beside_a_model_travel_and_files_elsewhere_do_not(tmp_path):
    model = onnx.load(builtin_model("digits-mlp"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert list(model_files(path)) == ["net.onnx", "weights.bin"]
    freight = Packer(same).freight(replace(CASE, model=str(path)))
    placed = freight.placed(tmp_path / "there", same)
    assert Path(placed).with_name("weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()
    for location in ("../secret", "/etc/hostname"):
        changed = onnx.load(path, load_external_data=False)
        for tensor in changed.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        path.write_bytes(changed.SerializeToString())
        assert list(model_files(path)) == ["net.onnx"]


def test_built_in_models_do_not_travel(tmp_path):
    freight = Packer(lambda _: pytest.fail("stored")).freight(CASE)
    assert freight.placed(tmp_path, lambda _: pytest.fail("fetched")) == "digits-mlp"


def test_what_cannot_be_read_here_is_said_here(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        Packer(same).freight(replace(CASE, model=str(tmp_path / "absent.onnx")))
    with pytest.raises(ImageError):
        Packer(same).freight(replace(CASE, image="digits:99999"))


def test_a_station_outlives_the_process_that_a_case_destroys(monkeypatch):
    monkeypatch.setattr(pool, "serve", misbehaving.serve)
    cases = (replace(CASE, image=SEGFAULTS), replace(CASE, image=HANGS, time_limit=0.5), CASE)
    with station(Margins(factor=1, seconds=0.2)) as made:
        found = [made.answer(Task("key", case)).status for case in cases]
    assert found == [Status.CRASHED, Status.TIMED_OUT, Status.SOLVED]


@pytest.mark.parametrize(
    ("needs", "resources", "room"),
    [
        (Needs(1, 0, 2), {"CPU": 4, "memory": 100}, 4),
        (Needs(3, 0, 2), {"CPU": 4, "memory": 100}, 1),
        (Needs(1, 0, 40), {"CPU": 4, "memory": 100}, 2),
        (Needs(1, 1, 2), {"CPU": 4, "memory": 100, "GPU": 1}, 1),
        (Needs(1, 1, 2), {"CPU": 4, "memory": 100}, 0),
        (Needs(1, 0, 2), {}, 0),
    ],
)
def test_room_is_what_cores_memory_and_gpus_leave(needs, resources, room):
    assert needs.room(resources) == room
