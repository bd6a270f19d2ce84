import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.soup import crew
from salsa.soup.crew import share


@given(amounts=st.lists(st.integers(0, 9), max_size=30), threads=st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_every_task_is_done_once_and_its_amount_told_in_the_calling_thread(amounts, threads):
    done, told, workers = [], [], set()

    def hire():
        def work(task):
            workers.add(threading.current_thread())
            done.append(task)
            return amounts[task]

        return work

    def tell(amount):
        assert threading.current_thread() is threading.main_thread()
        told.append(amount)

    share(range(len(amounts)), hire, threads, tell)
    assert sorted(done) == list(range(len(amounts)))
    assert sorted(told) == sorted(amounts)
    assert len(workers) <= threads
    assert threading.main_thread() not in workers


def test_each_thread_has_a_worker_of_its_own_and_they_work_at_the_same_time():
    hired, both = [], threading.Barrier(2)

    def hire():
        worker = object()
        hired.append(worker)

        def work(_):
            both.wait(timeout=30)
            return 1

        return work

    share(range(2), hire, 2, lambda _: None)
    assert len(set(map(id, hired))) == 2


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_earliest_error_is_raised_and_no_thread_is_left(threads):
    before, begun = threading.active_count(), []
    ready = threading.Barrier(threads)

    def work(task):
        begun.append(task)
        if task < threads:
            ready.wait(timeout=30)  # all fail at about the same time
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 0"):
        share(iter(range(1000)), lambda: work, threads, lambda _: None)
    assert threading.active_count() == before
    assert len(begun) <= 2 * threads


def test_no_thread_works_on_after_an_error():
    both, ended = threading.Barrier(2), []

    def work(task):
        both.wait(timeout=30)
        if task == 0:
            raise ValueError("task 0")
        time.sleep(0.2)
        ended.append(task)
        return 1

    with pytest.raises(ValueError, match="task 0"):
        share(range(2), lambda: work, 2, lambda _: None)
    assert ended == [1]


def test_an_error_of_the_callback_or_the_tasks_or_the_hiring_ends_it():
    before, tasks = threading.active_count(), iter(range(10**9))

    def tell(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(tasks, lambda: lambda _: 1, 2, tell)

    def broken():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        share(broken(), lambda: lambda _: 1, 2, lambda _: None)

    def hire():
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        share(range(3), hire, 2, lambda _: None)
    assert threading.active_count() == before


def test_there_are_as_many_threads_as_processors_but_four_at_most(monkeypatch):
    for processors, threads in (({0}, 1), ({0, 5}, 2), (set(range(64)), 4)):
        monkeypatch.setattr(crew.os, "sched_getaffinity", lambda _, found=processors: found, raising=False)
        assert crew.usual_threads() == threads
