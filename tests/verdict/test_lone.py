"""How many threads torch has while something is asked."""

from __future__ import annotations

import threading

import pytest
import torch

from steadygaze.verdict import lone
from steadygaze.verdict.lone import Lone, shared_for, two_are_quicker


@pytest.fixture
def four():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def seen(asking: Lone, most: int | None = None) -> int:
    with asking.shared(most):
        return torch.get_num_threads()


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(("quicker", "most", "threads"), [(True, None, 2), (True, 1, 1), (False, None, 1)])
def test_two_threads_are_used_where_they_pay_and_may_be(monkeypatch, quicker, most, threads):
    monkeypatch.setattr(lone, "two_are_quicker", lambda: quicker)
    asking = Lone()
    with asking:
        assert torch.get_num_threads() == 1
        assert seen(asking, most) == threads
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
def test_what_was_found_holds_for_a_while(monkeypatch):
    tried = []
    monkeypatch.setattr(lone, "two_are_quicker", lambda: bool(tried.append(1)) or True)
    asking = Lone()
    with asking:
        assert [seen(asking) for _ in range(3)] == [2, 2, 2]
        assert len(tried) == 1
        monkeypatch.setattr(lone, "_HOLDS", -1.0)
        assert seen(asking) == 2
        assert len(tried) == 2


@pytest.mark.usefixtures("four")
def test_nobody_shares_while_another_asks(monkeypatch):
    """The number of threads is the process's: two questions at once have one each."""
    monkeypatch.setattr(lone, "two_are_quicker", lambda: True)
    asking, entered, leave = Lone(), threading.Event(), threading.Event()

    def other() -> None:
        with asking:
            entered.set()
            leave.wait(10)

    with asking:
        beside = threading.Thread(target=other)
        beside.start()
        entered.wait(10)
        assert seen(asking) == 1
        leave.set()
        beside.join()
        assert seen(asking) == 2


def test_who_has_one_thread_keeps_to_one(monkeypatch):
    monkeypatch.setattr(lone, "two_are_quicker", lambda: pytest.fail("nothing is to be tried"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    asking = Lone()
    with asking, asking.shared():
        pass


@pytest.mark.usefixtures("four")
def test_trying_leaves_one_thread():
    assert isinstance(two_are_quicker(), bool)
    assert torch.get_num_threads() == 1


def test_small_networks_try_nothing():
    class Small:
        effort, device = 10**6, torch.device("cpu")

    with shared_for(Small(), None)():  # pyright: ignore[reportArgumentType]
        pass
