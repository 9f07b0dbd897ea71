"""Limits: requests are counted by address and by client."""

import asyncio

import pytest

from core.services.limits import Limits, TooManyRequests, check_limits


async def test_limits_count_by_address_and_by_client(db):
    limits = Limits("2 per minute", "4 per minute")
    for address in ("a@example.com", "a@example.com", "b@example.com"):
        await check_limits("test", limits, address, "192.0.2.1")
    with pytest.raises(TooManyRequests) as refused:
        await check_limits("test", limits, "a@example.com", "192.0.2.2")
    assert 1 <= refused.value.retry_after <= 60
    await check_limits("test", limits, "c@example.com", "192.0.2.1")
    with pytest.raises(TooManyRequests):
        await check_limits("test", limits, "d@example.com", "192.0.2.1")
    await check_limits("another", limits, "a@example.com", "192.0.2.1")


async def test_simultaneous_requests_do_not_exceed_a_limit(db):
    limits = Limits("5 per minute", "1000 per minute")
    attempts = [check_limits("test", limits, "a@example.com", "192.0.2.1") for _ in range(40)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert results.count(None) == 5


async def test_a_client_that_is_refused_does_not_use_up_the_limit_of_an_address(db):
    limits = Limits("4 per minute", "100 per minute", "2 per minute")
    for _ in range(2):
        await check_limits("test", limits, "a@example.com", "192.0.2.1")
    for _ in range(4):
        with pytest.raises(TooManyRequests):
            await check_limits("test", limits, "a@example.com", "192.0.2.1")
    for _ in range(2):
        await check_limits("test", limits, "a@example.com", "192.0.2.2")
    with pytest.raises(TooManyRequests):
        await check_limits("test", limits, "a@example.com", "192.0.2.3")
    for _ in range(2):
        await check_limits("test", limits, "a@example.com", "192.0.2.1", "device")
    with pytest.raises(TooManyRequests):
        await check_limits("test", limits, "a@example.com", "192.0.2.4", "device")
