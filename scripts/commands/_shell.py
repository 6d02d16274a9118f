"""What every command shares: the county option, the one boundary for errors, progress, and output for people or machines."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from inventory.errors import ExtranetError, InputProblemsError, InterruptedRunError
from inventory.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from migration.standing import Standing

P = ParamSpec("P")
R = TypeVar("R")

CountyDir = Annotated[
    Path,
    typer.Option(
        "--county",
        envvar="EXTRANET_COUNTY",
        help="The county's folder (default: the current one).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without this, only show what would be done.")]
Of = Annotated[
    str | None,
    typer.Option(
        "--of", help="Whose record: `field`, or a lab's name, also of one that is down (default: what is in reach)."
    ),
]
HERE = Path()
UNCONFIRMED = "devices with an unconfirmed change go back by themselves"
INTERRUPTED = f"interrupted - {UNCONFIRMED}; the same command resumes"
EVERY_S = 5.0
"""Where there is no terminal, progress is at most a line in so many seconds."""


def boundary(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into one clear line and the right exit code; nothing else in the suite catches everything."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json"))
        try:
            return command(*args, **kwargs)
        except ExtranetError as error:
            report_error(error, as_json=as_json)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            report_error(InterruptedRunError(INTERRUPTED), as_json=as_json)
            raise typer.Exit(4) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(4) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the last boundary: no traceback reaches a user
            if os.environ.get("EXTRANET_DEBUG"):
                traceback.print_exc()
            what = f"{type(error).__name__}: {error}"
            why = f"unexpected: {what}; {UNCONFIRMED} - set EXTRANET_DEBUG=1 and run again to see where"
            report_error(InterruptedRunError(why), as_json=as_json)
            raise typer.Exit(4) from None

    return wrapped


def report_error(error: ExtranetError, *, as_json: bool) -> None:
    """Print an error: each problem on its own line, or one JSON object. The folder one is in needs no name."""
    said = str(error).removeprefix(f"{HERE}: ")
    if as_json:
        body: dict[str, Any] = {"error": type(error).__name__, "message": said, "exit_code": error.exit_code}
        if isinstance(error, InputProblemsError):
            body["problems"] = [p.model_dump(mode="json") for p in error.problems]
        print_json(body)
        return
    if isinstance(error, InputProblemsError):
        for problem in error.problems:
            complain(str(problem))
        complain(f"{counted(len(error.problems), 'problem')}; nothing was written")
    else:
        complain(said)


def complain(text: str) -> None:
    """Print one line on standard error, red on a terminal."""
    red = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for line in text.splitlines() or [""]:
        sys.stderr.write(f"\x1b[31m{line}\x1b[0m\n" if red else f"{line}\n")


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def show_standing(standing: Standing) -> None:
    """End a report with the exceptions that stand now, a line each."""
    from rich.markup import escape

    for line in standing.lines():
        console().print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def warn_of_account(progress: Progress) -> None:
    """Say once, before something is recorded, that it will be under a bare account and nobody's title."""
    from migration.ledger.record import ACTOR_VARIABLE, current_actor

    actor = current_actor()
    if not os.environ.get(ACTOR_VARIABLE, "").strip() and (actor == "root" or actor.startswith("uid ")):
        progress.say(f"! recorded as account {actor}: set {ACTOR_VARIABLE} to the title of who does it")


@functools.cache
def console() -> Console:
    """Return the console for people; colours only on a terminal."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 400  # lines must not be broken for a file or a pipe
    return Console(highlight=False, emoji=False, width=wide)  # `:100:` is part of an address, no picture


class Progress:
    """Shows long work on standard error: a live line on a terminal, plain lines elsewhere.

    `step(text)` opens a step; `tick(done, total, text)` moves it; steps close with their time.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self._last = 0.0
        self._ended: dict[tuple[str, int], float] = {}

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            self._clear()
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def tick(self, done: int, total: int, text: str = "") -> None:
        """Show how far: a live line on a terminal; elsewhere a line every five seconds and at the end.

        What is repeated ends several times: of the same work's ends, too, at most one in five seconds is told.
        """
        if self.quiet:
            return
        now = time.monotonic()
        share = done / total if total else 1.0
        line = f"  {done}/{total} {text}"
        if self.live:
            bar = "█" * round(share * 24) + "░" * (24 - round(share * 24))
            sys.stderr.write(f"\r\x1b[K  {bar}{line}"[:160])
        else:
            work = (text.partition(",")[0], total)
            ended = done == total and now - self._ended.get(work, -EVERY_S) >= EVERY_S
            if ended or now - self._last >= EVERY_S:
                self._last = now
                if done == total:
                    self._ended[work] = now
                sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Open a step and close it with its time."""
        self.say(f"· {text} …")
        start = time.monotonic()
        yield
        self.say(f"  done in {time.monotonic() - start:.1f} s")
