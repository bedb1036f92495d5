"""Reading a network ends when it is late, between its parts, whatever the network comes as."""

from __future__ import annotations

import time
import warnings
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

import steadygaze as sg
from steadygaze.deadline import NEVER, Deadline, Expired
from steadygaze.network.graph import products_of
from steadygaze.network.reading import load
from steadygaze.network.reading.from_torch import tracing
from steadygaze.network.reading.load import load_network
from steadygaze.question import limits

SHAPE = (1, 6, 6)


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3, groups=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


def written(kind, folder):
    """The module in one of the forms that networks come in."""
    if kind == "module":
        return module()
    image, path = torch.rand(1, *SHAPE), folder / f"net.{kind}"
    if kind == "pt2":
        torch.export.save(torch.export.export(module(), (image,)), path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module(), (image,), str(path), dynamo=False)
    return path


@pytest.mark.parametrize(("kind", "least"), [("module", 6), ("pt2", 4), ("onnx", 2)])
def test_it_is_asked_between_the_parts_and_nothing_is_read_when_it_is_late(kind, least, tmp_path):
    model, clock, told = written(kind, tmp_path), count(1), []

    def late(effort: int) -> Deadline:
        told.append(effort)
        return Deadline(ends=1e9, clock=clock.__next__)

    network = load_network(model, input_shape=SHAPE, late=late)
    often = next(clock) - 1
    assert often >= least
    products = sum(map(products_of, network.graph.nodes))
    assert all(products <= one <= 3 * network.graph.effort for one in told)
    for times in range(often):
        ends = Deadline(ends=times + 0.5, clock=count(1).__next__)
        with pytest.raises(Expired):
            load_network(model, input_shape=SHAPE, late=lambda _, ends=ends: ends)


def test_a_network_that_is_not_read_in_time_is_told_of(monkeypatch):
    """A large one: of a small one the question is posed however late it is."""
    given, began = [], time.perf_counter()

    def slow(*args, own=tracing.course_of):
        given.append(args)
        time.sleep(1.0)
        return own(*args)

    monkeypatch.setattr(tracing, "course_of", slow)
    chain, image = sg.Brightness(-0.2, 0.2), np.full(SHAPE, 0.5)
    assert sg.verify(module(), image, chain, time_limit=0.1, threads=1).problem.network.graph.effort < 10**8
    monkeypatch.setattr(limits, "_QUICK", 100)
    given.clear()
    with pytest.raises(sg.SettingError, match=r"time limit is 0\.1 s, and reading this network"):
        sg.verify(module(), image, chain, time_limit=0.1, threads=1)
    assert len(given) == 1, "no more is begun"
    assert time.perf_counter() - began < 60.0


class Counting(nn.Module):
    """How often it is run, outside of tracing."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.runs = nn.Sequential(*layers), [0]

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.runs[0] += len(x)
        return self.layers(x)


@pytest.mark.parametrize(("large", "rows"), [(False, 6), (True, 2)])
def test_a_large_module_is_not_tried_with_several_images_at_once(large, rows, monkeypatch):
    monkeypatch.setattr(load, "_LARGE", 0 if large else 10**9)
    runs, plain = [], load_network(module(), input_shape=SHAPE).original

    def counted(*args, own=load.TorchOriginal, **options):
        before = args[0].runs[0]
        original = own(*args, **options)
        runs.append(args[0].runs[0] - before)
        return original

    monkeypatch.setattr(load, "TorchOriginal", counted)
    original = load_network(Counting(module()).eval(), input_shape=SHAPE, late=lambda _: NEVER).original
    assert runs == [rows]
    images = np.random.default_rng(0).random((3, *SHAPE))
    singly = [original.gradients(image[None], 1)[0] for image in images]
    assert np.allclose(original.gradients(images, 1), singly, atol=1e-6)
    assert np.allclose(original.logits(images), plain.logits(images), atol=1e-6)


class Flickering(nn.Module):
    """Another answer every other time."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.out, self.runs = nn.Flatten(), nn.Linear(36, 3), [0]

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.runs[0] += 1
        return self.out(self.flatten(x)) * (1.0 + 0.5 * (self.runs[0] % 2))


@pytest.mark.parametrize("large", [False, True])
def test_a_module_that_answers_otherwise_every_time_is_refused(large, monkeypatch):
    monkeypatch.setattr(load, "_LARGE", 0 if large else 10**9)
    with pytest.raises(sg.ModelError):
        load_network(Flickering().eval(), input_shape=SHAPE)
