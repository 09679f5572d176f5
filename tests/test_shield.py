"""The wrappers between the engine and crates.io: what is sent, what waits, what is refused, and what is learnt."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest

from proxy.errors import Busy, Down, Dropped, Faulty, Late, Throttled
from proxy.fleet.bookings import Bookings
from proxy.fleet.local import LocalFleet
from proxy.model import Head, Headers, Host, State
from proxy.rules.breaker import FAILURES, PAUSE
from proxy.rules.bucket import Limits, Urgency
from proxy.rules.holds import BLOCK, POLICY, PROBE, Why
from proxy.upstream.base import THROTTLED, Ask, Need
from proxy.upstream.limited import REPEATED
from proxy.upstream.peeked import ENOUGH
from proxy.upstream.shield import Shield
from tests import virtual_time
from tests.waiting import became

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
SAME_IP = "too many requests from the same IP"
BLOCKED = "you are in violation of our API data access policy (https://crates.io/data-access)"
FAST = Limits(rate=50.0, burst=2, window=100_000, max_wait=0.1)


class Said:
    """An answer of some pieces; an error among them is raised in its place."""

    def __init__(self, status: int, *pieces: bytes | Exception, fields: Headers = ()) -> None:
        self.head = Head(status, fields)
        self.closed = False
        self._pieces = pieces

    async def body(self) -> AsyncGenerator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def distrust(self) -> None:
        pass

    async def aclose(self) -> None:
        self.closed = True


def refusal(status: int, detail: str, **fields: str) -> Said:
    told = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
    return Said(status, json.dumps({"errors": [{"detail": detail}]}).encode(), fields=told)


class Scripted:
    """An upstream that answers what it is told to, the last for ever, and remembers when it was asked."""

    def __init__(self, *answers: Said | Exception) -> None:
        self.answers = list(answers) or [Said(200, b"ok")]
        self.asked: list[tuple[float, Ask]] = []

    async def send(self, ask: Ask) -> Said:
        self.asked.append((asyncio.get_running_loop().time(), ask))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        pass


@contextlib.asynccontextmanager
async def shielded(upstream: Scripted, directory: Path, limits: Limits = FAST) -> AsyncIterator[Shield]:
    fleet = await LocalFleet.opened(directory, lambda _: None, lambda: None, limits=limits)
    shield = Shield(upstream, fleet.budget, clock=lambda: NOW, chance=lambda: 0.0, stale_after=0.03)
    try:
        yield shield
    finally:
        await shield.aclose()
        await fleet.aclose()


def read(host: Host = Host.API, target: str = "/x", urgency: Urgency = Urgency.CLIENT) -> Ask:
    return Ask(host, "GET", target, need=Need(urgency))


async def test_reads_of_the_api_wait_for_their_turn_in_order_and_those_without_one_are_told_when(
    tmp_path: Path,
) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path) as shield:
        asks = [read(target=str(number)) for number in range(20)]
        done = await asyncio.gather(*map(shield.send, asks), return_exceptions=True)
    sent = [ask.target for _, ask in upstream.asked]
    assert sent == [str(number) for number in range(len(sent))] and 7 <= len(sent) <= 9
    refused = [each for each in done if isinstance(each, Throttled)]
    assert len(refused) == 20 - len(sent)
    assert all(each.retry_after == 1 and "try again in 1 s" in each.detail for each in refused)
    waited = [ask.need.doubted.done() for ask in asks[: len(sent)]]
    assert not waited[0] and waited[-1], "who waits long is told, in case there is a copy"
    assert asks[len(sent) - 1].need.doubted.result() == THROTTLED


async def test_who_has_a_copy_that_lacks_something_waits_for_a_turn_however_late(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path) as shield:
        asks = [read(urgency=Urgency.CONTENT) for _ in range(6)]
        for ask in asks:
            ask.need.outdated = True
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*map(shield.send, asks))
    assert len(upstream.asked) == 6 and not any(ask.need.doubted.done() for ask in asks)
    due = [ask.need.due - begun for ask in asks]
    assert due == sorted(due) and due[-1] > 0.03
    assert all(at >= ask.need.due - 0.01 for at, ask in upstream.asked), "and knows when that is"


async def test_what_is_wanted_by_the_way_stays_so_and_its_doubts_are_everybodys(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path, Limits(rate=0.01, burst=1, max_wait=1000.0)) as shield:
        await shield.send(read())
        need = Need(Urgency.CONTENT)
        by_the_way = need.by_the_way()
        need.raise_to(Urgency.CLIENT)
        with pytest.raises(Throttled):
            await shield.send(Ask(Host.API, "GET", "/x", need=by_the_way))
        by_the_way.doubt("why")
        assert need.doubted.result() == "why"
    assert len(upstream.asked) == 1


async def test_the_index_and_the_tarballs_have_no_budget(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path, Limits(rate=0.01, burst=1, max_wait=0.0)) as shield:
        for host in (Host.INDEX, Host.STATIC):
            await asyncio.gather(*(shield.send(read(host)) for _ in range(20)))
        assert (await shield.standing()).free == 1
    assert len(upstream.asked) == 40


async def test_what_goes_in_its_callers_name_waits_for_nothing_and_is_counted(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path, Limits(rate=0.01, burst=1, max_wait=0.0)) as shield:
        for _ in range(5):
            await shield.send(read(urgency=Urgency.CALLER))
        assert len(upstream.asked) == 5
        with pytest.raises(Throttled):
            await shield.send(read())
        assert (await shield.standing()).recent == 5


async def test_a_refresh_that_somebody_joins_waits_like_a_client(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path) as shield:
        await asyncio.gather(*(shield.send(read()) for _ in range(3)))
        with pytest.raises(Throttled):
            await shield.send(read(urgency=Urgency.REFRESH))
        ask = read(urgency=Urgency.REFRESH)
        refresh = asyncio.create_task(shield.send(ask))
        await asyncio.sleep(0)
        ask.need.raise_to(Urgency.CLIENT)
        assert (await refresh).head.status == 200


async def test_who_leaves_the_queue_gives_the_turn_back(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path, Limits(rate=0.1, burst=1, max_wait=15.0)) as shield:
        await shield.send(read())
        waiting = asyncio.create_task(shield.send(read()))
        await became(shield.standing, lambda standing: standing.recent == 2)
        waiting.cancel()
        await became(shield.standing, lambda standing: standing.recent == 1)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("host", "answer", "seconds", "why"),
    [
        (Host.API, refusal(429, "slow down", retry_after="30"), 30, Why.TOLD),
        (Host.INDEX, refusal(503, "", retry_after="30"), 30, Why.TOLD),
        (Host.STATIC, refusal(429, "", retry_after=formatdate(NOW + 40, usegmt=True)), 40, Why.TOLD),
        (Host.API, refusal(429, SAME_IP), BLOCK, Why.LIMITED),
        (Host.API, refusal(403, BLOCKED), POLICY, Why.BLOCKED),
        (
            Host.API,
            Said(
                403,
                gzip.compress(json.dumps({"errors": [{"detail": BLOCKED}]}).encode()),
                fields=((b"content-encoding", b"gzip"),),
            ),
            POLICY,
            Why.BLOCKED,
        ),
    ],
)
async def test_a_host_that_wants_to_be_left_alone_is(
    host: Host, answer: Said, seconds: float, why: Why, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Scripted(answer, Said(200))
    async with shielded(upstream, tmp_path) as shield:
        assert (await shield.send(read(host))).head.status == answer.head.status
        with pytest.raises(Throttled) as refused:
            await shield.send(read(host))
        assert refused.value.retry_after is not None and seconds - 1 <= refused.value.retry_after <= seconds + 1
        assert len(upstream.asked) == 1
        others = [each for each in Host if each is not host]
        for each in others:
            await shield.send(read(each))
        await shield.send(read(host, urgency=Urgency.CALLER))
        hold = (await shield.standing()).holds[host]
        assert hold.why is why and seconds - 2 < hold.seconds <= seconds
        (line,) = [each for each in await asyncio.gather(*shield.checks()) if each.name == f"upstream {host.value}"]
        assert line.state is State.DEGRADED and ("somebody must act" in line.detail) is (why is Why.BLOCKED)
    shouts = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(shouts) == (why is Why.BLOCKED)


@pytest.mark.parametrize("over", [True, False], ids=["over", "not over"])
def test_after_a_block_one_request_finds_out_whether_it_is_over(over: bool, tmp_path: Path) -> None:
    upstream = Scripted(refusal(403, BLOCKED), Said(200) if over else refusal(403, BLOCKED), Said(200))
    limits = Limits(rate=100.0, burst=50, window=100_000, max_wait=0.1)

    async def main() -> None:
        async with shielded(upstream, tmp_path, limits) as one, shielded(upstream, tmp_path, limits) as another:

            async def crowd() -> list[object]:
                reads = [each.send(read(target=str(number))) for number in range(8) for each in (one, another)]
                answers = await asyncio.gather(*reads, return_exceptions=True)
                return [each for each in answers if not isinstance(each, Throttled)]

            await one.send(read())
            assert await crowd() == []
            await asyncio.sleep(POLICY + 1)
            # Two members may find at the same moment that it is time; neither lets more than one go.
            found = len(await crowd())
            assert 1 <= found <= 2
            (line,) = [each for each in await asyncio.gather(*one.checks()) if each.name == "upstream api"]
            assert "BLOCKED by crates.io" in line.detail and ("finding out" in line.detail) is over
            assert await crowd() == [], "nobody goes before it is known"
            await asyncio.sleep(PROBE + 1)
            assert len(await crowd()) == (16 if over else 0)

    with virtual_time.running() as runner:
        runner.run(main())


async def test_a_hold_ends_by_itself_and_those_who_wait_meanwhile_are_refused(tmp_path: Path) -> None:
    upstream = Scripted(refusal(429, "", retry_after="1"), Said(200))
    async with shielded(upstream, tmp_path, Limits(rate=5.0, burst=1, window=100_000, max_wait=5.0)) as shield:
        first, second = await asyncio.gather(shield.send(read()), shield.send(read()), return_exceptions=True)
        assert not isinstance(first, BaseException) and first.head.status == 429
        assert isinstance(second, Throttled) and second.retry_after in (1, 2)
        assert len(upstream.asked) == 1
        await became(shield.standing, lambda standing: Host.API not in standing.holds)
        assert (await shield.send(read())).head.status == 200


async def test_what_a_caller_is_told_holds_nobody_else_but_for_the_address(tmp_path: Path) -> None:
    words = json.dumps({"errors": [{"detail": "You have published too many crates"}]}).encode()
    publishers = Said(429, words, fields=((b"retry-after", b"600"),))
    upstream = Scripted(publishers, refusal(403, BLOCKED), refusal(503, "read-only", retry_after="60"), Said(200))
    async with shielded(upstream, tmp_path) as shield:
        answer = await shield.send(read(urgency=Urgency.CALLER))
        assert b"".join([piece async for piece in answer.body()]) == words
        for _ in range(2):
            await shield.send(read(urgency=Urgency.CALLER))
        assert (await shield.send(read())).head.status == 200
        upstream.answers = [refusal(429, SAME_IP), Said(200)]
        answer = await shield.send(read(urgency=Urgency.CALLER))
        assert answer.head.get(b"retry-after") == b"", "what a caller is told stays as it was"
        with pytest.raises(Throttled):
            await shield.send(read())


async def test_a_429_that_does_not_say_for_how_long_says_so_to_our_client(tmp_path: Path) -> None:
    async with shielded(Scripted(refusal(429, SAME_IP)), tmp_path) as shield:
        answer = await shield.send(read())
        assert answer.head.get(b"retry-after") == b"300"
        assert json.loads(b"".join([piece async for piece in answer.body()]))["errors"][0]["detail"] == SAME_IP


async def test_a_refusal_is_passed_on_as_it_came_however_it_came(tmp_path: Path) -> None:
    long = [b"x" * ENOUGH, b"y" * 10]
    broken = Faulty("it broke off")
    upstream = Scripted(Said(403, *long), Said(403, b"half", broken), Said(403))
    async with shielded(upstream, tmp_path, Limits(rate=100.0, burst=10, window=100_000)) as shield:
        answer = await shield.send(read())
        assert [piece async for piece in answer.body()] == long
        await answer.aclose()
        answer = await shield.send(read())
        pieces = []
        with pytest.raises(Faulty):
            async for piece in answer.body():
                pieces.append(piece)
        assert pieces == [b"half"]
        assert [piece async for piece in (await shield.send(read())).body()] == []


async def test_a_host_that_fails_again_and_again_is_left_alone_and_the_others_are_not(tmp_path: Path) -> None:
    upstream = Scripted(Faulty("refused"), Late("late"), Busy("ours"), Faulty("reset"), Said(200))
    async with shielded(upstream, tmp_path) as shield:
        for kind in (Faulty, Late, Busy, Faulty):
            with pytest.raises(kind):
                await shield.send(read(Host.INDEX))
        for _ in range(3):
            with pytest.raises(Down) as down:
                await shield.send(read(Host.INDEX))
            assert down.value.status == 502 and 4 <= (down.value.retry_after or 0) <= 5
        assert len(upstream.asked) == FAILURES + 1
        await shield.send(read(Host.STATIC))
        (line,) = [each for each in await asyncio.gather(*shield.checks()) if each.name == "upstream index"]
        assert line.state is State.DEGRADED and "is tried again in" in line.detail
        # In its caller's name it goes all the same, and shows that it works again.
        await shield.send(read(Host.INDEX, urgency=Urgency.CALLER))
        await shield.send(read(Host.INDEX))


def test_a_host_that_begins_its_answers_and_ends_none_is_left_alone_until_it_ends_one(tmp_path: Path) -> None:
    stalled = Said(200, b"the beginning", Late("stalled"))
    upstream = Scripted(*[stalled] * (FAILURES + 1), Said(200, b"whole"))

    async def main() -> None:
        async with shielded(upstream, tmp_path) as shield:

            async def whole() -> bytes:
                answer = await shield.send(read(Host.STATIC))
                return b"".join([piece async for piece in answer.body()])

            for _ in range(FAILURES):
                with pytest.raises(Late):
                    await whole()
            for probe in (1, 2):
                with pytest.raises(Down):
                    await whole()
                await asyncio.sleep(PAUSE)
                if probe == 1:
                    with pytest.raises(Late):  # its head says nothing
                        await whole()
            assert [await whole() for _ in range(3)] == [b"whole"] * 3

    with virtual_time.running() as runner:
        runner.run(main())
    assert len(upstream.asked) == FAILURES + 4


async def test_one_page_that_fails_is_not_a_host_that_fails(tmp_path: Path) -> None:
    upstream = Scripted(Said(500))
    async with shielded(upstream, tmp_path) as shield:
        for _ in range(2 * FAILURES):
            await shield.send(read(Host.STATIC, "/one"))
            await shield.send(Ask(Host.STATIC, "PUT", "/other", need=Need(Urgency.CALLER)))
        await shield.send(read(Host.STATIC, "/two"))
        await shield.send(read(Host.STATIC, "/three"))
        with pytest.raises(Down):
            await shield.send(read(Host.STATIC, "/four"))


async def test_a_failing_server_is_asked_once_more_where_somebody_waits(tmp_path: Path) -> None:
    first, second = Said(502), Said(200)
    upstream = Scripted(first, second)
    async with shielded(upstream, tmp_path) as shield:
        assert (await shield.send(read())).head is second.head
        assert first.closed
        assert (await shield.standing()).recent == 2, "out of the same budget"


@pytest.mark.parametrize("urgency", [Urgency.CLIENT, Urgency.CALLER])
async def test_what_was_on_its_way_when_an_idle_connection_was_closed_goes_again_and_counts_each_time(
    urgency: Urgency, tmp_path: Path
) -> None:
    again = [Dropped("closed")] * REPEATED
    upstream = Scripted(*again, Said(200), *again, Dropped("closed again"), Said(200))
    async with shielded(upstream, tmp_path, Limits(rate=50.0, burst=10, window=100)) as shield:
        assert (await shield.send(read(urgency=urgency))).head.status == 200
        with pytest.raises(Faulty, match="again"):
            await shield.send(read(urgency=urgency))
        assert len(upstream.asked) == (await shield.standing()).recent == 2 * (REPEATED + 1)
        upstream.answers = [Dropped("closed")]
        with pytest.raises(Faulty):
            await shield.send(read(Host.INDEX, urgency=urgency))
        assert len(upstream.asked) == 3 * (REPEATED + 1) and (await shield.standing()).recent == 2 * (REPEATED + 1)


def test_a_request_becomes_no_less_urgent_and_never_its_callers() -> None:
    need = Need(Urgency.REFRESH)
    seen = []
    for urgency in (Urgency.CONTENT, Urgency.MACHINE, Urgency.CLIENT, Urgency.REFRESH):
        need.raise_to(urgency)
        seen.append(need.urgency)
    assert seen == [Urgency.CONTENT, Urgency.CONTENT, Urgency.CLIENT, Urgency.CLIENT]
    need = Need(Urgency.CALLER)
    need.raise_to(Urgency.CLIENT)
    assert need.urgency is Urgency.CALLER


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (read(urgency=Urgency.REFRESH), Said(502)),
        (read(urgency=Urgency.CALLER), Said(502)),
        (Ask(Host.API, "GET", "/x", straight=True), Said(502)),
        (Ask(Host.STATIC, "HEAD", "/x"), Said(502)),
        (read(), refusal(503, "", retry_after="1")),
        (read(), Said(501)),
        (read(), Said(404)),
    ],
)
async def test_nothing_else_is_asked_again(ask: Ask, answer: Said, tmp_path: Path) -> None:
    upstream = Scripted(answer, Said(200))
    async with shielded(upstream, tmp_path, Limits(rate=100.0, burst=10, window=100_000)) as shield:
        assert (await shield.send(ask)).head.status == answer.head.status
    assert len(upstream.asked) == 1 and not answer.closed


async def test_where_the_second_attempt_fails_too_the_first_answer_stands(tmp_path: Path) -> None:
    first = Said(502, b"words")
    (tmp_path / "new").mkdir()
    async with shielded(Scripted(first, Faulty("reset")), tmp_path) as shield:
        answer = await shield.send(read())
        assert (answer.head, b"".join([piece async for piece in answer.body()])) == (first.head, b"words")
        await answer.aclose()
    async with shielded(Scripted(first), tmp_path / "new", Limits(rate=0.01, burst=1, max_wait=0.0)) as shield:
        assert (await shield.send(read())).head is first.head, "and where the budget has no room for it"


async def test_who_asks_again_has_given_the_first_connection_back(tmp_path: Path) -> None:
    first = Said(502, Faulty("reset"))
    closed: list[bool] = []

    class Observed(Scripted):
        async def send(self, ask: Ask) -> Said:
            closed.append(first.closed)
            return await super().send(ask)

    async with shielded(Observed(first, Said(200)), tmp_path) as shield:
        assert (await shield.send(read())).head.status == 200
    assert closed == [False, True], "else all connections may be held by those who wait for one more"


async def test_a_refusal_that_does_not_end_holds_up_nobody_for_long(tmp_path: Path) -> None:
    class Endless(Said):
        async def body(self) -> AsyncGenerator[bytes]:
            await asyncio.Event().wait()
            yield b""

    first = Endless(502)
    async with shielded(Scripted(first, Said(200)), tmp_path) as shield:
        async with asyncio.timeout(5):
            assert (await shield.send(read())).head.status == 200
    assert first.closed


async def test_who_leaves_between_two_attempts_leaves_nothing_open(tmp_path: Path) -> None:
    first = Said(502)
    upstream = Scripted(first)
    async with shielded(upstream, tmp_path) as shield:
        task = asyncio.create_task(shield.send(read()))
        while not upstream.asked:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert first.closed


async def test_readiness_tells_what_is_left_and_who_is_alone() -> None:
    shield = Shield(Scripted(), Bookings(FAST), clock=lambda: NOW, chance=lambda: 0.0, stale_after=2.0)
    lines = {line.name: line for line in await asyncio.gather(*shield.checks())}
    assert lines["budget"].state is State.DEGRADED and "its own part" in lines["budget"].detail
    assert {name: line.state for name, line in lines.items() if name != "budget"} == {
        f"upstream {host.value}": State.OK for host in Host
    }


async def test_whoever_asks_again_before_the_time_that_was_told_makes_it_no_later_for_others(tmp_path: Path) -> None:
    upstream = Scripted()
    async with shielded(upstream, tmp_path, Limits(rate=0.01, burst=1, max_wait=0.0)) as shield:
        await shield.send(read(target="/served"))
        told = []
        for target in (*["/impatient"] * 50, "/polite", "/other", "/polite"):
            with pytest.raises(Throttled) as refused:
                await shield.send(read(target=target))
            assert refused.value.retry_after is not None
            told.append(refused.value.retry_after)
    assert 90 < min(told[:50]) and max(told[:50]) <= 100
    assert [round(each, -2) for each in told[50:]] == [200, 300, 200], "to each its own, and to one the same again"
