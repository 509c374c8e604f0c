import asyncio
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from carnet.errors import CallerError, InternalError, Unavailable
from gateway.catalog.engine import connect, translate_database_error
from gateway.storage.durable import SyncFailure
from tests.gateway.samples import Failpoint, Killed, open_catalog, transfer, transfer_id


async def test_a_write_returns_what_the_change_returned(catalog):
    assert await catalog.write(lambda t: t.save_transfer(transfer()) or 7) == 7


async def test_what_was_written_is_read(catalog):
    await catalog.write(lambda t: t.save_transfer(transfer()))

    assert await catalog.read(lambda t: t.transfer(transfer_id(1))) == transfer()


async def test_a_change_that_raises_changes_nothing(catalog):
    def change(t):
        t.save_transfer(transfer())
        raise CallerError("E-USAGE", "no")

    with pytest.raises(CallerError):
        await catalog.write(change)

    assert await catalog.read(lambda t: t.transfer(transfer_id(1))) is None


async def test_one_failing_change_does_not_disturb_the_others_of_its_group(catalog):
    def change(number):
        def run(t):
            t.save_transfer(transfer(number))
            if number % 3 == 0:
                raise CallerError("E-USAGE", "no")
            return number

        return run

    answers = await asyncio.gather(*(catalog.write(change(number)) for number in range(30)), return_exceptions=True)

    kept = {int(record.id, 16) for record in await catalog.read(lambda t: t.transfers(limit=100))}
    assert kept == {number for number in range(30) if number % 3}
    assert [answer for answer in answers if isinstance(answer, int)] == sorted(kept)


async def test_a_broken_statement_of_one_change_does_not_disturb_the_others(catalog):
    good = [catalog.write(lambda t, number=number: t.save_transfer(transfer(number))) for number in range(3)]
    bad = catalog.write(lambda t: t.put_document(transfer_id(99), "waybill", b"of no transfer"))

    *_, failure = await asyncio.gather(*good, bad, return_exceptions=True)

    assert isinstance(failure, InternalError)
    assert failure.code == "E-DATABASE"
    assert len(await catalog.read(lambda t: t.transfers())) == 3


async def test_many_writes_at_once_share_few_commits(tmp_path):
    steps = Failpoint()
    catalog = open_catalog(tmp_path, step=steps)

    await asyncio.gather(*(catalog.write(lambda t, n=n: t.queue_job("deliver", str(n))) for n in range(200)))

    assert steps.seen.count("committed") < 20
    catalog.close()


async def test_listeners_hear_once_a_commit_of_what_it_changed(catalog):
    heard = []
    catalog.subscribe(heard.append)

    await catalog.write(lambda t: (t.save_transfer(transfer(1)), t.queue_job("deliver", "1")))

    assert [(set(one.transfers), one.jobs, one.log_size) for one in heard] == [({transfer_id(1)}, True, None)]


async def test_listeners_do_not_hear_of_what_was_undone_or_changed_nothing(catalog):
    heard = []
    catalog.subscribe(heard.append)

    def change(t):
        t.save_transfer(transfer())
        raise CallerError("E-USAGE", "no")

    with pytest.raises(CallerError):
        await catalog.write(change)
    await catalog.write(lambda _: None)

    assert heard == []


async def test_a_listener_that_unsubscribed_hears_no_more(catalog):
    heard = []
    catalog.subscribe(heard.append)()

    await catalog.write(lambda t: t.save_transfer(transfer()))

    assert heard == []


async def test_a_read_sees_one_state_while_others_write(catalog):
    await catalog.write(lambda t: t.save_transfer(transfer(1)))
    loop = asyncio.get_running_loop()

    def question(t):
        before = len(t.transfers())
        asyncio.run_coroutine_threadsafe(catalog.write(lambda w: w.save_transfer(transfer(2))), loop).result(5)
        return before, len(t.transfers())

    assert await catalog.read(question) == (1, 1)


async def test_a_question_cannot_change_anything(catalog):
    with pytest.raises(InternalError):
        await catalog.read(lambda t: t.save_transfer(transfer()))

    assert await catalog.read(lambda t: t.transfers()) == []


async def test_a_closed_catalog_tells_writers_to_come_again(tmp_path):
    catalog = open_catalog(tmp_path)
    catalog.close()

    with pytest.raises(Unavailable):
        await catalog.write(lambda _: None)


@pytest.mark.parametrize(("number", "kept"), [(0, False), (1, True)])
async def test_killed_around_the_commit_a_change_is_whole_or_not_there(tmp_path, number, kept):
    catalog = open_catalog(tmp_path, step=Failpoint(number))
    with pytest.raises(Killed):
        await catalog.write(lambda t: (t.save_transfer(transfer()), t.queue_job("deliver", "1")))
    catalog.close()

    again = open_catalog(tmp_path)
    assert (await again.read(lambda t: t.transfer(transfer_id(1))) is not None) is kept
    assert (await again.read(lambda t: t.next_job_due(["deliver"])) is not None) is kept
    again.close()


def test_what_was_acknowledged_survives_a_kill_of_the_process(tmp_path):
    program = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from tests.gateway.samples import open_catalog

        async def main():
            catalog = open_catalog(Path(sys.argv[1]))
            async def write(number):
                await catalog.write(lambda t: t.queue_job("deliver", str(number)))
                os.write(1, f"{number}\\n".encode())
                if number == 40:
                    os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.gather(*(write(number) for number in range(600)))

        asyncio.run(main())
        """
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, timeout=60, check=False)
    acknowledged = {int(line) for line in ended.stdout.split()}
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    kept = {int(row[0]) for row in connection.execute("SELECT key FROM jobs")}
    connection.close()

    assert ended.returncode == -9
    assert acknowledged
    assert acknowledged <= kept


class TestErrors:
    def test_the_writer_syncs_every_commit(self, tmp_path):
        connection = connect(tmp_path / "new.sqlite", writer=True)

        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        connection.close()

    def test_a_file_that_cannot_be_opened_is_a_disk_error(self, tmp_path):
        with pytest.raises(InternalError) as failure:
            connect(tmp_path / "missing" / "catalog.sqlite", writer=True)

        assert failure.value.code == "E-DISK"

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("SQLITE_FULL", "E-DISK-FULL"),
            ("SQLITE_BUSY", "E-BUSY"),
            ("SQLITE_IOERR_WRITE", "E-DISK"),
            ("SQLITE_CORRUPT", "E-DATABASE"),
        ],
    )
    def test_each_error_of_the_database_has_a_code_of_ours(self, name, code):
        error = sqlite3.OperationalError("broken")
        error.sqlite_errorname = name

        assert translate_database_error(error).code == code

    async def test_a_full_disk_undoes_the_whole_group_and_is_temporary(self, tmp_path):
        catalog = open_catalog(tmp_path)
        await catalog.write(lambda t: t.save_transfer(transfer(1)))
        catalog._writer.execute("PRAGMA max_page_count = 1")
        big = bytes(2_000_000)

        with pytest.raises(Unavailable) as refusal:
            await catalog.write(lambda t: t.put_document(transfer_id(1), "index", big))
        catalog._writer.execute("PRAGMA max_page_count = 1000000")

        assert refusal.value.code == "E-DISK-FULL"
        assert await catalog.read(lambda t: t.document(transfer_id(1), "index")) is None
        await catalog.write(lambda t: t.put_document(transfer_id(1), "index", big))
        catalog.close()

    async def test_a_commit_of_unknown_outcome_is_fatal(self, tmp_path):
        catalog = open_catalog(tmp_path)
        real = catalog._writer

        class Broken:
            in_transaction = property(lambda _: real.in_transaction)

            def execute(self, text, *values):
                if text == "COMMIT":
                    error = sqlite3.OperationalError("disk I/O error")
                    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
                    raise error
                return real.execute(text, *values)

        catalog._writer = Broken()
        with pytest.raises(SyncFailure):
            await catalog.write(lambda t: t.queue_job("deliver", "1"))
        catalog._writer = real
        catalog.close()
