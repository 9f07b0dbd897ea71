"""Tasks, arguments and options that are refused: most of them before any job exists."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

import pytest
from pydantic import SecretStr

from core.tasks import InvalidArguments, InvalidTask, Limit, Sensitive, Worker


async def test_an_invalid_task_is_refused_when_the_worker_opens(worker, settings):
    @worker.task
    async def fine() -> None: ...

    with pytest.raises(InvalidTask, match="two tasks are named fine"):
        worker.task(name="fine")(fine.function)

    async def count():
        yield 1

    with pytest.raises(InvalidTask, match="task count: a task returns its result"):
        worker.task(count)

    class Counter:
        async def count(self) -> None: ...

    with pytest.raises(InvalidTask, match="task count: a method cannot be a task"):
        worker.task(Counter.count)

    @worker.task
    async def anything(*values: int) -> None: ...

    with pytest.raises(InvalidTask, match="name each parameter"):
        async with worker.open(settings):
            pass

    del worker.tasks["anything"]

    class Plain: ...

    @worker.task
    async def use(value: Plain) -> None: ...

    with pytest.raises(InvalidTask, match="Plain'>; pass an id, or use a Pydantic model"):
        async with worker.open(settings):
            pass

    del worker.tasks["use"]

    @worker.task
    async def secret(password: SecretStr) -> None: ...

    with pytest.raises(InvalidTask, match="would arrive as asterisks"):
        async with worker.open(settings):
            pass


async def async_key(host: str) -> str:
    return host


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"concurrency": 0}, "Limit takes a concurrency of 1 or more, not 0"),
        ({"concurrency": True}, "Limit takes a concurrency of 1 or more, not True"),
        ({"concurrency": 1, "key": "host"}, "Limit takes a plain function as its key, not 'host'"),
        (
            {"concurrency": 1, "key": async_key},
            "Limit takes a plain function as its key, not <func",
        ),
    ],
)
def test_a_wrong_limit_is_refused(values, problem):
    with pytest.raises(InvalidTask, match=problem):
        Limit(**values)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (lambda: "all", "'url'"),
        (lambda address: address, "'address'"),
        (lambda url, host: host, "'host'"),
        (int, "no signature found"),
    ],
)
def test_a_key_of_a_limit_takes_the_arguments_of_the_task(key, problem):
    rule = "task deliver: the key of a limit gets all arguments of the task by name"
    with pytest.raises(InvalidTask, match=f"{rule}: .*{problem}"):

        @Worker().task(limit=[Limit(concurrency=1), Limit(concurrency=1, key=key)])
        async def deliver(url: str, /, *, event: str = "") -> None: ...


async def test_options_that_exclude_each_other_are_refused(worker):
    def fine() -> None: ...

    problems = {
        "timeout and soft_time_limit are the same option": {"timeout": 1, "soft_time_limit": 1},
        "time_limit=1 is shorter than the soft limit, which is 2": {"timeout": 2, "time_limit": 1},
        "memory_limit needs process=True": {"memory_limit": 10},
    }
    for problem, options in problems.items():
        with pytest.raises(InvalidTask, match=f"task fine: {problem}"):
            worker.task(**options)(fine)


async def test_a_result_cannot_be_sensitive(worker, settings):
    @worker.task
    async def make() -> Sensitive[str]:
        return "tok-5ecret"

    with pytest.raises(InvalidTask, match="a result is stored in plain text"):
        async with worker.open(settings):
            pass


async def test_wrong_arguments_of_many_jobs_are_found(worker, settings):
    @worker.task
    async def greet(name: str, times: int) -> None: ...

    async with worker.open(settings):
        problem = r"parameter times: .* \(in the set of arguments 1\)"
        with pytest.raises(InvalidArguments, match=problem):
            await greet.enqueue_many([["Ada", 1], ["Eve", "often"]])
        with pytest.raises(InvalidArguments, match="a list of arguments for each job, not a text"):
            await greet.enqueue_many(["Ada"])


def test_a_chain_takes_tasks_only(worker):
    @worker.task
    async def greet(name: str) -> str:
        return name

    for stages in (greet, greet | greet):
        with pytest.raises(TypeError, match="unsupported operand"):
            stages | len


async def test_wrong_arguments_raise_an_error_that_names_the_parameter(worker, settings):
    @worker.task
    async def greet(name: str, times: int) -> None: ...

    async with worker.open(settings):
        with pytest.raises(InvalidArguments, match=r"greet: parameter times: .*integer"):
            await greet.enqueue("Ada", "often")
        with pytest.raises(InvalidArguments, match="greet: missing a required argument: 'times'"):
            await greet.enqueue("Ada")
        unexpected = "greet: got an unexpected keyword argument 'loud'"
        with pytest.raises(InvalidArguments, match=unexpected):
            await greet.enqueue("Ada", 1, loud=True)
        with pytest.raises(InvalidArguments, match="greet: the arguments cannot be kept as JSON"):
            await greet.enqueue("\ud800", 1)


async def test_invalid_options_are_refused(worker, settings):
    @worker.task
    async def plain() -> None: ...

    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: plain.using(priority="urgent").enqueue(),
        lambda: plain.using(job_id="a b").enqueue(),
        lambda: plain.using(job_id="..").enqueue(),
        lambda: plain.using(delay=1, run_at=datetime.now()).enqueue(),
        lambda: plain.using(delay=1e300).enqueue(),
        lambda: plain.using(delay=float("nan")).enqueue(),
        lambda: plain.using(delay="60").enqueue(),
        lambda: plain.enqueue(scheduled_at="tomorrow"),
    ]
    async with worker.open(settings):
        for enqueue in refused:
            with pytest.raises(InvalidArguments, match="task plain: "):
                await enqueue()
    with pytest.raises(InvalidArguments, match="priority is one of low, normal, high"):
        worker.task(name="other", priority="urgent")(plain.function)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_retires": 3}, "there is no option max_retires; did you mean max_retries?"),
        ({"limit": 5}, "limit=5: Input should be an instance of Limit"),
        ({"colour": "red"}, "there is no option colour; the options are name, max_retries, "),
        ({"max_retries": -1}, "max_retries=-1: Input should be greater than or equal to 0"),
        ({"max_retries": "3"}, "max_retries='3': Input should be a valid integer"),
        ({"timeout": 0}, "timeout=0: Input should be greater than 0"),
        ({"retry_delay": float("nan")}, "retry_delay=nan: Input should be a finite number"),
        ({"unique": "yes"}, "unique='yes': Input should be a valid boolean"),
        ({"idempotency_key": "id"}, "idempotency_key='id': Input should be callable"),
    ],
)
def test_a_wrong_option_of_a_task_is_named(worker, options, problem):
    async def refresh() -> None: ...

    with pytest.raises(InvalidTask) as refused:
        worker.task(**options)(refresh)
    assert str(refused.value).startswith(f"task refresh: {problem}")
    assert len(str(refused.value).splitlines()) == 1
    assert worker.tasks == {}


def test_a_task_above_its_schedule_is_told_to_move(worker):
    async def refresh() -> None: ...

    scheduled = worker.every(hours=1)(refresh)
    problem = r"refresh is a task already; put @worker\.task below the decorator of the schedule"
    for decorate in (worker.task, worker.task(name="other")):
        with pytest.raises(InvalidTask, match=problem):
            decorate(scheduled)


def test_what_is_no_function_is_not_a_task(worker):
    with pytest.raises(InvalidTask, match=r"worker\.task takes a function, not 'refresh'"):
        worker.task("refresh")
    with pytest.raises(InvalidTask, match=r"has no name; give the task one"):
        worker.task(partial(int, "1"))
    assert worker.task(name="one")(partial(int, "1")).name == "one"
