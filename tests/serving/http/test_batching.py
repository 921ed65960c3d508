"""Dynamic batching with a network that is a function: who gets which answer, and when."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.serving.http.batching import Batcher

FOREVER = 1e9


class Network:
    """Answers each item with its key and itself; can be held up."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.inside = 0

    def __call__(self, key, items):
        self.inside += 1
        assert self.inside == 1, "two batches at a time"
        self.begun.set()
        assert self.go.wait(30)
        self.batches.append((key, list(items)))
        self.inside -= 1
        return [(key, item) for item in items]


def run(work, largest=4, wait=0.0, network=None):
    """Run `work(batcher, network)` in a loop of its own."""
    network = network or Network()
    batcher = Batcher(network, largest, wait)
    try:
        return asyncio.run(asyncio.wait_for(work(batcher, network), 30))
    finally:
        batcher.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.001]),
)
def test_everyone_gets_the_own_answer(asked, largest, wait):
    async def one(batcher, number, key, turns):
        for _ in range(turns):  # arrive at different moments
            await asyncio.sleep(0)
        if turns % 2:  # decoded, and given right after
            with batcher.expecting():
                await asyncio.sleep(0)
        return await batcher.submit(key, number)

    async def work(batcher, network):
        jobs = [one(batcher, n, key, turns) for n, (key, turns) in enumerate(asked)]
        return await asyncio.gather(*jobs), network.batches

    answers, batches = run(work, largest, wait)
    assert answers == [(key, number) for number, (key, _) in enumerate(asked)]
    assert sorted(item for _, items in batches for item in items) == list(range(len(asked)))
    assert all(1 <= len(items) <= largest for _, items in batches)
    assert all(asked[item][0] == key for key, items in batches for item in items)


def test_a_lone_picture_does_not_wait():
    async def work(batcher, network):
        return [await batcher.submit("k", number) for number in range(3)]

    assert run(work, wait=FOREVER) == [("k", 0), ("k", 1), ("k", 2)]


def test_what_gathers_while_the_network_is_busy_goes_together_in_order():
    async def work(batcher, network):
        network.go.clear()
        jobs = [asyncio.create_task(batcher.submit("k", 0))]
        await asyncio.to_thread(network.begun.wait, 30)
        jobs += [asyncio.create_task(batcher.submit("ab"[n % 2], n)) for n in range(1, 12)]
        await asyncio.sleep(0)
        assert batcher.waiting == 11
        network.go.set()
        await asyncio.gather(*jobs)
        return network.batches

    assert run(work, largest=4) == [
        ("k", [0]),
        ("b", [1, 3, 5, 7]),
        ("a", [2, 4, 6, 8]),
        ("b", [9, 11]),
        ("a", [10]),
    ]


def test_a_picture_waits_for_those_that_are_being_decoded():
    async def work(batcher, network):
        with batcher.expecting():
            first = asyncio.create_task(batcher.submit("k", 1))
            await asyncio.sleep(0.01)
            assert not first.done() and not network.batches
        # The announced one leaves its block and is given at once, as the service does.
        second = asyncio.create_task(batcher.submit("k", 2))
        await asyncio.gather(first, second)
        return network.batches

    assert run(work, wait=FOREVER) == [("k", [1, 2])]


def test_a_full_batch_does_not_wait():
    async def work(batcher, network):
        with batcher.expecting():
            await asyncio.gather(*(batcher.submit("k", n) for n in range(4)))
        return network.batches

    assert run(work, largest=4, wait=FOREVER) == [("k", [0, 1, 2, 3])]


def test_it_does_not_wait_longer_than_the_bound():
    async def work(batcher, network):
        with batcher.expecting():
            return await batcher.submit("k", 1)

    assert run(work, wait=0.01) == ("k", 1)


def test_one_that_could_not_be_decoded_holds_up_nobody():
    async def work(batcher, network):
        job = None
        with pytest.raises(ValueError):
            with batcher.expecting():
                job = asyncio.create_task(batcher.submit("k", 1))
                await asyncio.sleep(0)
                raise ValueError
        return await job

    assert run(work, wait=FOREVER) == ("k", 1)


def test_what_was_given_up_is_not_run():
    async def work(batcher, network):
        network.go.clear()
        jobs = [asyncio.create_task(batcher.submit("k", 0))]
        await asyncio.to_thread(network.begun.wait, 30)
        jobs += [asyncio.create_task(batcher.submit("k", n)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        jobs[1].cancel()
        jobs[2].cancel()
        network.go.set()
        assert await jobs[3] == ("k", 3)
        return network.batches

    assert run(work) == [("k", [0]), ("k", [3])]


@pytest.mark.parametrize("fault", ["raises", "too few"])
def test_a_fault_reaches_all_of_its_batch_and_nobody_else(fault):
    def network(key, items):
        if key == "bad":
            if fault == "raises":
                raise ZeroDivisionError
            return items[:-1]
        return items

    async def work(batcher, network):
        jobs = [batcher.submit("bad", 1), batcher.submit("bad", 2), batcher.submit("good", 3)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    first, second, third = run(work, network=network)
    wanted = ZeroDivisionError if fault == "raises" else RuntimeError
    assert isinstance(first, wanted) and isinstance(second, wanted) and third == 3
