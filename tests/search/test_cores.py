"""Work spread over processes has the answers of one process, in their order."""

import gc
import os
import signal
import threading
import time

import pytest

from predictor.search import cores, exploring, finding, search

FORKED = (
    pytest.mark.usefixtures("forking"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
)
"""Children are forked whatever threads other tests left."""


SMALL = {
    "gpu": "h100-sxm5-80gb",
    "num_gpus": 2,
    "global_batch_size": 4,
    "constraints": {"seq_length": 2048, "recompute": "none", "sharding": "optimizer"},
}


def forked(test):
    """Mark a test that forks."""
    for mark in FORKED:
        test = mark(test)
    return test


def squared(number):
    if number == 13:
        raise ValueError("unlucky")
    return number * number


@pytest.fixture
def forking(monkeypatch):
    for module in (cores, exploring):
        monkeypatch.setattr(module, "able", lambda processes: processes)


@pytest.fixture
def interrupted():
    """An interrupt is heard, even where a shell in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@forked
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_answers_come_in_order(processes):
    assert list(cores.spread(squared, range(7), processes)) == [n * n for n in range(7)]


@forked
def test_what_a_child_raises_is_raised():
    answers = cores.spread(squared, [12, 13, 14], 2)
    assert next(answers) == 144
    with pytest.raises(ValueError, match="unlucky"):
        list(answers)


@forked
def test_who_stops_asking_leaves_the_rest_undone(tmp_path):
    def noted(number):
        (tmp_path / str(number)).touch()
        return number

    answers = cores.spread(noted, range(100), 2)
    assert next(answers) == 0
    answers.close()
    assert len(list(tmp_path.iterdir())) <= 6


def test_a_process_with_threads_does_not_fork():
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert cores.able(4) == 1
    finally:
        end.set()
        thread.join()


def until_halted(folder, *, at, once=lambda: True):
    """A function that interrupts its parent `at` an item, and ends when it is told to."""
    parent = os.getpid()

    def slow(number):
        if number == at:
            while not once():
                time.sleep(0.01)
            os.kill(parent, signal.SIGINT)
        while not cores.halted():
            time.sleep(0.01)
        (folder / str(number)).touch()
        return number

    return slow


@forked
@pytest.mark.usefixtures("interrupted")
def test_an_interrupt_halts_the_children_and_loses_no_answer_of_theirs(tmp_path):
    found = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(cores.spread(until_halted(tmp_path, at=1), range(3), 3))
    assert found == [0, 1]
    assert not cores.halted()
    assert len(list(tmp_path.iterdir())) == 2


@forked
@pytest.mark.usefixtures("interrupted")
def test_a_parent_that_answers_in_spite_of_an_interrupt_halts_its_children(tmp_path):
    parent, found, begun = os.getpid(), [], tmp_path / "begun"
    slow = until_halted(tmp_path, at=0, once=begun.exists)

    def answered(number):
        try:
            if os.getpid() == parent:
                begun.touch()
            return slow(number)
        except KeyboardInterrupt:
            assert os.getpid() == parent
            cores.halt()
            return -number

    with pytest.raises(KeyboardInterrupt):
        found.extend(cores.spread(answered, range(100), 2))
    assert found[0] == 0
    assert min(found) < 0
    assert len(found) < 5


@forked
@pytest.mark.usefixtures("interrupted")
def test_an_interrupt_while_an_item_is_handed_out_loses_no_answer(monkeypatch):
    submit, found = cores.ProcessPoolExecutor.submit, []

    def interrupted_submit(pool, *given):
        future = submit(pool, *given)
        os.kill(os.getpid(), signal.SIGINT)
        return future

    monkeypatch.setattr(cores.ProcessPoolExecutor, "submit", interrupted_submit)
    with pytest.raises(KeyboardInterrupt):
        found.extend(cores.spread(squared, range(5, 8), 2))
    assert found == [25]


def test_a_search_collects_no_cycles_and_who_asked_for_it_does_again(monkeypatch):
    seen = []
    run = finding._Search.run
    monkeypatch.setattr(
        finding._Search, "run", lambda asked: (seen.append(gc.isenabled()), run(asked))[1]
    )
    search("gpt3-1.3b", **SMALL)
    assert seen == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        search("gpt3-1.3b", **SMALL)
        assert not gc.isenabled()
    finally:
        gc.enable()


@forked
def test_a_limit_is_told_to_children_and_by_them():
    limit = cores.Limit()
    limit.lower(5.0)

    def lowered(number):
        before = limit.value
        limit.lower(number)
        return before

    _, before = cores.spread(lowered, [7.0, 3.0], 2)
    assert before == 5.0
    assert limit.value == 3.0


@forked
def test_two_processes_find_what_one_finds(monkeypatch):
    monkeypatch.setattr(exploring, "SHARED", 2)
    shared = []
    shares = exploring._shares
    monkeypatch.setattr(exploring, "_shares", lambda *given: (shared.append(1), shares(*given))[1])
    asked = {
        "gpu": "h100-sxm5-80gb",
        "num_gpus": 8,
        "global_batch_size": 8,
        "constraints": {"seq_length": 2048, "recompute": "none", "sharding": "optimizer"},
    }
    one = search("deepseek-v2-lite", **asked)
    assert not shared
    two = search("deepseek-v2-lite", **asked, processes=2)
    assert shared
    assert two.plans == one.plans
    assert two.rejected == one.rejected
    assert two.near_misses == one.near_misses
    assert two.plans_evaluated == one.plans_evaluated
