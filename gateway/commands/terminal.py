"""What the commands of `carnet-gateway` share beside the frame of both programs: the site directory, and serving until told."""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from carnet.flow.commandline import known_error
from carnet.flow.event_loop import new_event_loop

PROGRAM = "carnet-gateway"
ENVIRONMENT_PREFIX = "CARNET_GATEWAY"

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The site directory.")]


def harden_process() -> None:
    """Write no core dump and no file that others may read, whatever the shell or unit that started us allows."""
    os.umask(0o077)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid even that; then its unit says LimitCORE=0
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve_until_stopped(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `serve` under uvloop where there is one; the event it is given is set by SIGTERM or SIGINT."""

    async def supervise() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.set_exception_handler(_report)
        await serve(stop)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(supervise())
        except Exception as error:
            if known_error(error) is None:
                from gateway.telemetry import events
                from gateway.telemetry.logs import get_logger

                get_logger().error(events.SITE_FAILED, exc_info=error)
            raise


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what no task awaited; a `SystemExit` is on its way out of the loop already, with words of its own."""
    if not isinstance(context.get("exception"), SystemExit):
        loop.default_exception_handler(context)
