"""What consumers of all brokers have in common: the command line, the end, and what is printed."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat

from fold import Fold, change, check

BATCH = 50
"""How many Events are taken in at once, and how many may wait here: what bounds the memory."""


class Unreadable(Exception):
    """There is something that is no Event. Nobody may skip it: a person has to look, and what comes after it waits."""


class Consumer:
    """One run of a consumer: until SIGTERM or Ctrl-C, or until --count Events were taken in."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--database", default="todos.db", help="SQLite file of what is folded (default: %(default)s)")
        parser.add_argument("--count", type=int, help="end after so many Events (or none), and print what is folded as JSON")
        parser.add_argument("--json", action="store_true", help="print whole Events, in the JSON format of CloudEvents")
        self.options = parser.parse_args()
        self._fold = Fold(self.options.database)
        self._lock = threading.Lock()
        self._taken = 0
        self._stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopped.set())

    @property
    def is_done(self) -> bool:
        """To be asked at least once a second."""
        return self._stopped.is_set() or self.remaining == 0

    @property
    def remaining(self) -> int:
        """How many Events to take at most next."""
        count = self.options.count
        return BATCH if count is None else max(0, min(BATCH, count - self._taken))

    def take(self, events: Sequence[BaseCloudEvent]) -> None:
        """Folds and prints. What was read may be acknowledged when this returns, and not before."""
        with self._lock:
            for event, news in zip(events, self._fold.take(events), strict=True):
                if self.options.json:
                    print(JSONFormat().write(event).decode())
                else:
                    print(f"{change(event) if news else 'known':<8} {event.get_subject()}")
            sys.stdout.flush()
            self._taken += len(events)

    def finish(self) -> None:
        """To be called when everything is acknowledged."""
        if self.remaining == 0:
            print(json.dumps(self._fold.objects()), flush=True)


def server(parser: argparse.ArgumentParser, variable: str, default: str) -> None:
    """The argument that says where the broker is; `cargo xtask env` sets the variable."""
    parser.add_argument("--server", default=os.environ.get(variable, default), help=f"default: ${variable}, or {default}")


def readable(place: str, read: Callable[[], BaseCloudEvent]) -> BaseCloudEvent:
    """The Event that `read` answers; `place` says where it lies."""
    try:
        event = read()
        check(event)
        return event
    except Exception as error:
        raise Unreadable(f"{place} is no Event that can be read: {error!r}") from error


def run(main: Callable[[], None]) -> None:
    """Says in a line what went wrong. Who restarts the consumer has lost nothing, since only what is folded was acknowledged."""
    try:
        main()
    except Exception as error:
        sys.exit(f"error: {error!r}")
