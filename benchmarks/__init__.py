"""The speed of steadygaze on real networks, beside the time that the neural arithmetic alone takes.

`python -m benchmarks` in the root of the repository, or `make bench`. The networks and images are public
ones that are not part of this repository: see `workloads.NETS` for what the folder given by ``--shared``
holds.
"""
