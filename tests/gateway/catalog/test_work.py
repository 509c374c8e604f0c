from datetime import timedelta

from tests.gateway.samples import START

KINDS = ("deliver", "inspect")


async def lease(catalog, kinds=KINDS):
    return await catalog.write(lambda t: t.lease_job(kinds))


async def queue(catalog, key, kind="deliver", delay_s=0.0):
    await catalog.write(lambda t: t.queue_job(kind, key, delay_s=delay_s))


async def test_the_job_due_longest_is_leased_first(catalog, clock):
    await queue(catalog, "second", delay_s=2)
    await queue(catalog, "first", delay_s=1)
    clock.pass_seconds(3)

    assert [(await lease(catalog)).key, (await lease(catalog)).key] == ["first", "second"]
    assert await lease(catalog) is None


async def test_a_job_is_not_leased_before_it_is_due(catalog, clock):
    await queue(catalog, "later", delay_s=10)

    assert await lease(catalog) is None
    assert await catalog.read(lambda t: t.next_job_due(KINDS)) == START + timedelta(seconds=10)


async def test_only_jobs_of_the_kinds_asked_for_are_leased(catalog):
    await queue(catalog, "x", kind="reclaim")

    assert await lease(catalog) is None
    assert await lease(catalog, ("reclaim",)) is not None


async def test_queued_twice_before_it_runs_it_runs_once(catalog):
    await queue(catalog, "x")
    await queue(catalog, "x")

    job = await lease(catalog)
    await catalog.write(lambda t: t.finish_job(job))

    assert await lease(catalog) is None


async def test_queued_while_it_runs_it_runs_again_after_it_finished(catalog):
    await queue(catalog, "x")
    job = await lease(catalog)
    await queue(catalog, "x")
    assert await lease(catalog) is None

    await catalog.write(lambda t: t.finish_job(job))

    again = await lease(catalog)
    assert again.attempts == 1
    await catalog.write(lambda t: t.finish_job(again))
    assert await lease(catalog) is None


async def test_queued_while_it_waits_to_be_retried_it_is_due_at_once(catalog):
    await queue(catalog, "x")
    job = await lease(catalog)
    await catalog.write(lambda t: t.retry_job(job, delay_s=50, error="unreachable"))
    assert await lease(catalog) is None

    await queue(catalog, "x")

    assert (await lease(catalog)).attempts == 2


async def test_queued_while_it_fails_it_does_not_wait_for_the_delay(catalog):
    await queue(catalog, "x")
    job = await lease(catalog)
    await queue(catalog, "x")

    await catalog.write(lambda t: t.retry_job(job, delay_s=50, error="unreachable"))

    assert await lease(catalog) is not None


async def test_a_retried_job_counts_its_attempts(catalog, clock):
    await queue(catalog, "x")
    for attempt in (1, 2, 3):
        job = await lease(catalog)
        assert job.attempts == attempt
        await catalog.write(lambda t, job=job: t.retry_job(job, delay_s=5, error="e" * 5_000))
        clock.pass_seconds(5)


async def test_a_lease_that_ran_out_goes_to_another_and_the_late_worker_changes_nothing(catalog, clock):
    await queue(catalog, "x")
    late = await lease(catalog)
    clock.pass_seconds(61)
    current = await lease(catalog)
    assert current.fence > late.fence

    await catalog.write(lambda t: t.finish_job(late))
    await catalog.write(lambda t: t.retry_job(late, delay_s=0, error="late"))

    assert not await catalog.write(lambda t: t.renew_job(late))
    assert await catalog.write(lambda t: t.renew_job(current))


async def test_a_renewed_lease_is_held_longer(catalog, clock):
    await queue(catalog, "x")
    job = await lease(catalog)
    clock.pass_seconds(50)
    assert await catalog.write(lambda t: t.renew_job(job))
    clock.pass_seconds(50)

    assert await lease(catalog) is None


async def test_recovery_ends_the_leases_of_a_process_that_is_gone(catalog):
    await queue(catalog, "x")
    await lease(catalog)

    assert await catalog.write(lambda t: t.recover_jobs()) == 1

    assert (await lease(catalog)).attempts == 2
    assert await catalog.read(lambda t: t.next_job_due(("none",))) is None


async def test_a_job_number_is_never_used_again(catalog):
    await queue(catalog, "x")
    first = await lease(catalog)
    await catalog.write(lambda t: t.finish_job(first))
    await queue(catalog, "x")

    assert (await lease(catalog)).id > first.id
