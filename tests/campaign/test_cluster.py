"""A campaign on a Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from steadygaze.campaign import Plan, PlannedCase, Status, make_case, read, run
from steadygaze.errors import SettingError
from steadygaze.question.digits import builtin_model

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'steadygaze[cluster]'")
from ray.cluster_utils import Cluster  # noqa: E402

from steadygaze.campaign.cluster import RayCrew  # noqa: E402

pytestmark = pytest.mark.slow
GIB = 2**30


@pytest.fixture
def cluster(monkeypatch):
    """A head that works on nothing, and two nodes of one core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(num_cpus=1, memory=4 * GIB) for _ in range(2)]
    yield made
    ray.shutdown()
    made.shutdown()


def plan(model: str, count: int, gib: float = 1.0) -> Plan:
    return Plan(
        "p",
        tuple(
            PlannedCase(
                make_case(
                    {
                        "model": model,
                        "image": f"digits:{number}",
                        "perturb": ["brightness(amount=-0.3..0.3)"],
                        "memory-limit": gib,
                    }
                )
            )
            for number in range(count)
        ),
    )


def verdicts(store: Path):
    return [(entry.record.status, entry.record.answer["shares"]) for entry in read(store)]


def test_a_lost_node_s_cases_are_done_elsewhere_and_answers_are_the_pool_s(cluster, tmp_path, monkeypatch):
    shutil.copy(builtin_model("digits-mlp"), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)  # nodes do not: a path relative to here leads nowhere there
    asked, lost = plan("net.onnx", 24), []

    def look(now):
        if now.finished >= 6 and not lost:
            lost.append(cluster.workers[0])
            cluster.remove_node(cluster.workers[0], allow_graceful=False)

    summary = run(asked, tmp_path / "cluster.sqlite", crew=RayCrew(cluster.address), progress=look)
    assert lost
    assert summary.ended == {Status.SOLVED: 24}
    run(asked, tmp_path / "pool.sqlite", workers=2)
    assert verdicts(tmp_path / "cluster.sqlite") == verdicts(tmp_path / "pool.sqlite")


def test_a_case_that_no_machine_has_room_for_is_refused_in_a_sentence(cluster, tmp_path):
    with pytest.raises(SettingError, match=r"no machine of the cluster has room .* lower memory-limit"):
        run(plan("digits-mlp", 2, gib=64), tmp_path / "s.sqlite", crew=RayCrew(cluster.address))


def test_an_address_where_no_cluster_is_is_refused_in_a_sentence():
    with pytest.raises(SettingError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        RayCrew("127.0.0.1:1")
