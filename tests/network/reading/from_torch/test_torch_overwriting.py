"""What overwrites its input, written as what makes its result anew, against the module as it runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.nn import functional

from steadygaze.errors import FidelityError
from steadygaze.network.reading.fidelity import check_fidelity
from steadygaze.network.reading.from_torch import tracing as torch_tracing
from steadygaze.network.reading.from_torch.overwriting import overwrites, write_anew
from steadygaze.network.reading.load import load_network


class Named(nn.Module):
    """A function of a convolution and the image."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.body = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), body
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.body(self, x).flatten(1)


def kept_beside(m, x):
    """The sum is of what was overwritten, twice."""
    y = m.conv(x)
    return functional.relu(y, inplace=True) + y


def used_before(m, x):
    y = m.conv(x)
    before = 2 * y
    y.relu_()
    return before + 3 * y


def twice_by_either_name(m, x):
    y = m.norm(m.conv(x))
    z = functional.leaky_relu(y, 0.1, inplace=True)
    y += torch.sigmoid(z)
    z.sub_(m.conv(x)).relu_()
    return y - 2 * z


def residual(m, x):
    return functional.relu(m.norm(m.conv(x)).add_(m.conv(x)), inplace=True)


def seen_by_a_view(m, x):
    y = m.conv(x)
    view = y[:, :1]
    y.relu_()
    return view + y


def seen_by_a_view_of_its_other_name(m, x):
    y = m.conv(x)
    view = functional.relu(y, inplace=True)[:, :1]
    y.sub_(0.1)
    return view + y


def through_a_view(m, x):
    y = m.conv(x)
    y[:, 0].relu_()
    return y


def handed_on(m, x):
    y = m.conv(x)
    same = functional.dropout(y, 0.5, training=False)
    same.relu_()
    return same + y


def handed_on_before(m, x):
    y = m.conv(x)
    same = functional.dropout(y, 0.5, training=False)
    y.relu_()
    return same + y


def of_the_image(m, x):
    return functional.relu(x.sub_(0.5), inplace=True) + m.conv(x)


def of_another_precision(m, x):
    return m.conv(x).add_(torch.full((), 0.5, dtype=torch.float64)).relu_()


WRITTEN = (kept_beside, used_before, twice_by_either_name, residual)
LEFT = (
    seen_by_a_view, seen_by_a_view_of_its_other_name, through_a_view, handed_on, handed_on_before,
    of_the_image, of_another_precision,
)  # fmt: skip


def exported(module) -> ExportedProgram:
    return torch.export.export(module, (torch.zeros(1, 1, 4, 4),), strict=False)


@pytest.mark.parametrize("body", [*WRITTEN, *LEFT], ids=lambda body: body.__name__)
def test_a_program_computes_what_the_module_does(body):
    module = Named(body)
    program = exported(module)
    assert any(map(overwrites, program.graph.nodes))
    done = write_anew(program.graph)
    assert done == (body in WRITTEN)
    assert any(map(overwrites, program.graph.nodes)) != done
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.3
    theirs = module(image.clone())
    run = torch_tracing.runnable(program)(image.clone())
    assert torch.equal(run, theirs)
    if body in WRITTEN:
        network = load_network(module, input_shape=(1, 4, 4))
        assert torch.allclose(network.graph.forward(image.double()), theirs.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("body", [handed_on, handed_on_before], ids=lambda body: body.__name__)
def test_what_pytorch_itself_takes_apart_wrongly_is_refused(body):
    network = load_network(Named(body), input_shape=(1, 4, 4))
    with pytest.raises(FidelityError, match="logits"):
        check_fidelity(network, np.random.default_rng(0).uniform(0, 1, (2, 1, 4, 4)))


def test_pytorch_need_not_trace_again_what_a_residual_network_overwrites(monkeypatch):
    def traced_again(*_):
        raise AssertionError("the program was traced again")

    monkeypatch.setattr(ExportedProgram, "run_decompositions", traced_again)
    module = Named(residual)
    assert torch_tracing.functional(exported(module)).graph_signature.user_outputs


def test_nothing_changes_where_one_of_several_is_not_known():
    program = exported(Named(lambda m, x: through_a_view(m, x) + m.conv(x).relu_()))
    before = [str(node.format_node()) for node in program.graph.nodes]
    assert not write_anew(program.graph)
    assert [str(node.format_node()) for node in program.graph.nodes] == before
