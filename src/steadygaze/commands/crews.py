"""Who answers the cases of a command: the processes of this machine, or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from steadygaze.errors import SettingError

if TYPE_CHECKING:
    from steadygaze.campaign.crew import AbstractCrew


def crew_options(command: Any) -> Any:
    """The options ``--workers`` and ``--cluster``."""
    for add in (
        click.option(
            "--cluster", metavar="auto|ADDRESS",
            help="Work on the machines of a Ray cluster: the one that this machine belongs to, or another.",
        ),
        click.option("--workers", metavar="N", type=int, help="Processes side by side.  [all cores]"),
    ):  # fmt: skip
        command = add(command)
    return command


def crew_of(workers: int | None, cluster: str | None) -> AbstractCrew:
    """The crew that the options ask for. Raises SettingError where there is none."""
    if cluster is None:
        from steadygaze.campaign.pool import PoolCrew

        return PoolCrew(workers)
    if workers is not None:
        raise SettingError("--workers and --cluster exclude each other: a cluster knows its own cores")
    from steadygaze.campaign.cluster import RayCrew

    return RayCrew(cluster)
