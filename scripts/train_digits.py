"""Trains the two built-in networks and writes them as ONNX files into the package.

    python scripts/train_digits.py [FOLDER]

Seeded: the same versions on the same kind of machine write the same files. Prints the accuracy on the
held-out fifth of the digits and refuses to write a network below 96 %. The files are built operator by
operator, so that they hold nothing but Flatten, Gemm, Conv, Relu and MaxPool.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from steadygaze.question.digits import builtin_model, digits, is_held_out

SEED = 7
EPOCHS = 150
BATCH = 64
LEAST_ACCURACY = 0.96
OPSET = 13
IR_VERSION = 8


def mlp() -> nn.Sequential:
    """64-32-32-10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def cnn() -> nn.Sequential:
    """Two convolutions with a maximum between them, and a dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train on, then those held out."""
    images, labels = digits()
    held_out = np.array([is_held_out(index) for index in range(len(labels))])
    return (
        torch.tensor(images[~held_out], dtype=torch.float32),
        torch.tensor(labels[~held_out]),
        torch.tensor(images[held_out], dtype=torch.float32),
        torch.tensor(labels[held_out]),
    )


def jitter(images: Tensor) -> Tensor:
    """The images a little brighter or darker, and noisy: attention shall not hang on single grey levels."""
    offset = 0.2 * (torch.rand(len(images), 1, 1, 1) - 0.5)
    return (images + offset + 0.1 * torch.randn_like(images)).clip(0, 1)


def train(model: nn.Sequential, images: Tensor, labels: Tensor) -> None:
    """Cross-entropy by AdamW with one cosine schedule."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(jitter(images[batch])), labels[batch]).backward()
            optimiser.step()
        schedule.step()


def node_of(layer: nn.Module, name: str, source: str) -> onnx.NodeProto:
    """The ONNX operator that does what the layer does."""
    weights = [f"{name}.weight", f"{name}.bias"]
    if isinstance(layer, nn.Flatten):
        return helper.make_node("Flatten", [source], [name], axis=1)
    if isinstance(layer, nn.Linear):
        return helper.make_node("Gemm", [source, *weights], [name], transB=1)
    if isinstance(layer, nn.Conv2d):
        padding = 2 * list(layer.padding)
        return helper.make_node(
            "Conv", [source, *weights], [name], kernel_shape=layer.kernel_size, pads=padding
        )
    if isinstance(layer, nn.MaxPool2d):
        return helper.make_node("MaxPool", [source], [name], kernel_shape=[2, 2], strides=[2, 2])
    return helper.make_node("Relu", [source], [name])


def to_onnx(model: nn.Sequential, name: str, accuracy: float) -> onnx.ModelProto:
    """The trained network as an ONNX model with a free batch size."""
    names = [f"layer{position}" for position in range(len(model) - 1)] + ["logits"]
    sources = ["image", *names[:-1]]
    nodes = [
        node_of(layer, output, source) for layer, output, source in zip(model, names, sources, strict=True)
    ]
    weights = [
        numpy_helper.from_array(tensor.detach().numpy(), f"{output}.{key}")
        for layer, output in zip(model, names, strict=True)
        for key, tensor in layer.named_parameters()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, name, [image], [logits], weights)
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="steadygaze"
    )
    proto.ir_version = IR_VERSION
    proto.doc_string = (
        f"Handwritten digits, 8 x 8; {accuracy:.1%} of the held-out images are classified rightly."
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def accuracy_of(model: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    """The share of the images that the network classifies rightly."""
    with torch.no_grad():
        return (model(images).argmax(1) == labels).double().mean().item()


def main() -> None:
    """Trains and writes both networks."""
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    images, labels, held_out_images, held_out_labels = split()
    for name, build in (("digits-mlp", mlp), ("digits-cnn", cnn)):
        torch.manual_seed(SEED)
        model = build()
        train(model, images, labels)
        accuracy = accuracy_of(model, held_out_images, held_out_labels)
        if accuracy < LEAST_ACCURACY:
            sys.exit(f"{name} reaches {accuracy:.2%} on the held-out images, below {LEAST_ACCURACY:.0%}.")
        shipped = builtin_model(name)
        target = Path(sys.argv[1]) / shipped.name if len(sys.argv) > 1 else shipped
        content = to_onnx(model, name, accuracy).SerializeToString()
        target.write_bytes(content)
        print(f"{name}: {accuracy:.2%} on {len(held_out_labels)} held-out images, written to {target}")


if __name__ == "__main__":
    main()
