"""Large networks under limits of time, and regions a second beside the floor.

    python -m benchmarks.large                 answers of all networks under limits of 10, 30 and 60 s
    python -m benchmarks.large --rate          regions a second of each on a line, and memory

Networks have random weights, or, where `benchmarks.training` has written some, those. The images are image 0
of Fashion-MNIST and of CIFAR-10's test set, from the shared folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.floor import measured_floor, rows_of_regions
from benchmarks.networks import NETWORKS, seeded
from benchmarks.training import WEIGHTS
from steadygaze.network.reading.load import load_network
from steadygaze.network.saliency import Gradient
from steadygaze.perturbation.notation import chain_of
from steadygaze.question.images import load_image
from steadygaze.question.inconsistency import Cosine
from steadygaze.question.limits import Limits
from steadygaze.question.posing import pose
from steadygaze.question.problem import Problem
from steadygaze.verdict.budget import Progress
from steadygaze.verdict.driver import solve

LINE = "brightness(amount=-0.05..0.05)"
PLANE = f"{LINE} | patch(opacity=0..0.2, top=12, left=12, height=3, width=3, mode=add)"
_IMAGES = {1: "idx:{shared}/data/fashion-mnist:0", 3: "npz:{shared}/data/cifar10/cifar10_test_exact.npz:200"}
#: A public network beside them, from the shared folder.
PUBLIC = "resnet_2b"


def posed(name: str, perturbation: str, shared: Path, device: str) -> Problem:
    """The question about one of the networks."""
    if name == PUBLIC:
        image = load_image(_IMAGES[3].format(shared=shared)).image
        mean, std = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
        network = load_network(shared / "models/resnet_2b.onnx", input_shape=image.shape, mean=mean, std=std)
    else:
        shape = NETWORKS[name][1]
        image = load_image(_IMAGES[shape[0]].format(shared=shared)).image
        network = load_network(model_of(name), input_shape=shape)
    return pose(
        replace(network, graph=network.graph.to(device)), image, chain_of(perturbation), label=None,
        threshold=0.3, clip=(0.0, 1.0), saliency=Gradient(), inconsistency=Cosine(),
    )  # fmt: skip


def model_of(name: str) -> nn.Module:
    """The network, trained if there is a file of weights."""
    model, weights = seeded(name), WEIGHTS / f"{name}.pt"
    if weights.is_file():
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def answers(names: Sequence[str], limits: Sequence[float], shared: Path, device: str = "cpu") -> None:
    """Print what `auto` knows after each limit."""
    heads = ("network", "n", "limit", "loading", "seconds", "scale", "verdict", "regions")
    print("{:14} {} {:>6} {:>8} {:>8} {:>10} {:9} {:>8}".format(*heads))
    for name in names:
        for n, perturbation in enumerate((LINE, PLANE), start=1):
            for limit in limits:
                began = time.perf_counter()
                problem = posed(name, perturbation, shared, device)
                loading = time.perf_counter() - began
                answer = solve(problem, limits=Limits(seconds=limit), loading=loading)
                spent, visited = time.perf_counter() - began, answer.result.regions.get("visited", 0)
                print(
                    f"{name:14} {n} {limit:6g} {loading:8.1f} {spent:8.1f} {answer.safe_scale or 0:10.3g} "
                    f"{answer.verdict.value:9} {visited:8}",
                    flush=True,
                )


def rates(names: Sequence[str], regions: int, seconds: float, shared: Path, device: str = "cpu") -> None:
    """Print regions a second of processor time on a line, by one thread, beside the floor.

    A search stops after so many regions or so many seconds, whichever is sooner: of a network whose regions
    take seconds, the number alone is no limit. And how much memory was resident when a quarter, a half and
    all of the regions were visited: flat, where it does not go with their number.
    """
    heads = ("network", "units", "regions", "a second", "x floor", "MiB at 1/4", "1/2", "all", "peak")
    print("{:14} {:>9} {:>8} {:>9} {:>8} {:>10} {:>7} {:>7} {:>7}".format(*heads))
    for name in names:
        problem, seen = posed(name, LINE, shared, device), _Memory()
        limits, began = Limits(seconds=seconds, regions=regions), time.process_time()
        answer = solve(problem, method="nearest", limits=limits, threads=1, progress=seen)
        found, spent = int(answer.result.regions["visited"]), time.process_time() - began
        if not found:
            print(f"{name:14} {problem.graph.units:9} {found:8} in {seconds:g} s", flush=True)
            continue
        floor = measured_floor(problem, rows_of_regions(problem, found), found, found, 1)
        memory = (*(seen.at(share * found) for share in (0.25, 0.5, 1.0)), seen.peak)
        print(
            f"{name:14} {problem.graph.units:9} {found:8} {found / spent:9.3g} {spent / floor.seconds:8.2f} "
            "{:10.0f} {:7.0f} {:7.0f} {:7.0f}".format(*memory),
            flush=True,
        )


class _Memory:
    """Memory that is resident while a search goes on, in MiB: told of its progress."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float]] = []

    def __call__(self, now: Progress) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._seen.append((now.regions, pages * resource.getpagesize() / 2**20))

    def at(self, regions: float) -> float:
        """How much it was when so many regions were visited."""
        return next((memory for visited, memory in self._seen if visited >= regions), self.peak)

    @property
    def peak(self) -> float:
        """The most that was seen."""
        return max(memory for _, memory in self._seen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large", description=(__doc__ or "").partition("\n")[0]
    )
    every = [*NETWORKS, PUBLIC]
    parser.add_argument("--network", nargs="+", default=every, choices=every, help="which (default all)")
    parser.add_argument("--limit", nargs="+", type=float, default=[10.0, 30.0, 60.0], help="seconds")
    parser.add_argument("--rate", action="store_true", help="regions a second instead")
    parser.add_argument("--regions", type=int, default=60, help="regions to count for a rate (default 60)")
    shared = Path(__file__).resolve().parent.parent.parent / "shared"
    parser.add_argument("--seconds", type=float, default=90.0, help="at most, for a rate (default 90)")
    parser.add_argument("--shared", type=Path, default=shared, help="folder of images and networks")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default cpu)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the search has threads of its own
    if options.rate:
        rates(options.network, options.regions, options.seconds, options.shared, options.device)
    else:
        answers(options.network, options.limit, options.shared, options.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
