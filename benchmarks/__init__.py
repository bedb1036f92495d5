"""The speed of steadygaze on real networks, beside the time that the neural arithmetic alone takes.

`python -m benchmarks` in the root of the repository, or `make bench`. The sweep is measured everywhere;
where there are three parameters or more, the other searches are measured beside it (`--method` chooses).
The networks and images are public ones that are not part of this repository: see `workloads.NETS` for what
the folder given by ``--shared`` holds.
"""
