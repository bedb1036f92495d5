"""What all searches share: the threads that they work in."""

from __future__ import annotations

import torch

from steadygaze.search.base import Options, threads_of


def test_threads_keep_no_record_for_gradients_and_pass_on_what_they_are_given():
    assert not torch.is_inference_mode_enabled()
    with threads_of(Options(threads=2), "some") as pool:
        modes = [pool.submit(torch.is_inference_mode_enabled) for _ in range(4)]
        made = pool.submit(torch.add, torch.ones(2), torch.ones(2), alpha=3)
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    assert all(mode.result() for mode in modes)
    assert made.result().tolist() == [4.0, 4.0]
    assert not torch.is_inference_mode_enabled()
