"""The request to reclaim, put by a command to the process that serves the site, and its answer; both go through the catalog.

Only the process that takes segments in may remove what nothing refers to, so a command beside it asks: it queues a job, as any
use case does, and waits for the answer that the job leaves.

Rules:      1. requests are numbered; an answer is for all up to the number that its run began with, never for a later one
            2. one document for each kind of run, however often it is asked for  3. a run that fails is answered with its error
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Final

from pydantic import Field

from carnet.errors import CarnetError, Unavailable
from carnet.messages import Problem
from carnet.problems import error_of, problem_of
from carnet.statement import WireModel, parse_model
from gateway.ports import Catalog, Transaction
from gateway.reclaiming import Reclaim, Reclaimed
from gateway.records import JobRecord

KIND: Final = "reclaim"
"""The kind of the job; its key is the kind of run."""
_REMOVE: Final = "remove"
_LOOK: Final = "look"
_POLL_S: Final = 0.25
_POLLS_MAX: Final = 2_400
"""Ten minutes in all."""
_BYTES_MAX: Final = 64 * 1024
_Count = Annotated[int, Field(ge=0)]


class _Requests(WireModel):
    """How many were put, how many are answered, and the last answer: counts, or what went wrong."""

    asked: _Count = 0
    answered: _Count = 0
    segments: _Count = 0
    segment_bytes: _Count = 0
    temporaries: _Count = 0
    temporary_bytes: _Count = 0
    failure: Problem | None = None


class ReclaimJobs:
    """Handles the jobs, in the process that serves."""

    def __init__(self, catalog: Catalog, reclaim: Reclaim) -> None:
        """Answer in `catalog` with what `reclaim` did."""
        self._catalog = catalog
        self._reclaim = reclaim

    async def run(self, job: JobRecord) -> None:
        """Reclaim, or look what could be, and answer; what fails is not tried again before somebody asks again."""
        begun = await self._catalog.read(lambda tx: _requests(tx, job.key).asked)
        try:
            done = _Requests(**asdict(await self._reclaim.run(dry_run=job.key != _REMOVE)))
        except CarnetError as error:
            done = _Requests(failure=problem_of(error, request="reclaim"))

        def answer(tx: Transaction) -> None:
            _save(tx, job.key, done.model_copy(update={"asked": _requests(tx, job.key).asked, "answered": begun}))

        await self._catalog.write(answer)


async def ask_to_reclaim(
    catalog: Catalog, *, dry_run: bool, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> Reclaimed:
    """Ask the process that serves the site of this catalog, and return its answer.

    Raises:
        Unavailable: E-TIMEOUT if there is none for ten minutes. Otherwise what the run raised there.
    """
    key = _LOOK if dry_run else _REMOVE

    def ask(tx: Transaction) -> int:
        before = _requests(tx, key)
        _save(tx, key, before.model_copy(update={"asked": before.asked + 1}))
        tx.queue_job(KIND, key)
        return before.asked + 1

    number = await catalog.write(ask)
    for _ in range(_POLLS_MAX):
        now = await catalog.read(lambda tx: _requests(tx, key))
        if now.answered >= number:
            return _answer_in(now)
        await sleep(_POLL_S)
    raise Unavailable(
        "E-TIMEOUT",
        f"the process that serves the site has not answered within {round(_POLLS_MAX * _POLL_S)} seconds",
        remedy="see that it runs this version, and what its log says; it goes on by itself, and the same command asks again",
    )


def _answer_in(requests: _Requests) -> Reclaimed:
    if requests.failure is not None:
        raise error_of(requests.failure)
    return Reclaimed(requests.segments, requests.segment_bytes, requests.temporaries, requests.temporary_bytes)


def _requests(tx: Transaction, key: str) -> _Requests:
    body = tx.site_document(f"{KIND}/{key}")
    return _Requests() if body is None else parse_model(_Requests, body, bytes_max=_BYTES_MAX)


def _save(tx: Transaction, key: str, requests: _Requests) -> None:
    tx.put_site_document(f"{KIND}/{key}", requests.encode())
