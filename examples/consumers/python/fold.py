"""What is left when Events are folded: the objects that exist, as the cluster holds them.

The rule is that of docs/guarantees.md, "What a consumer has to do". It is kept in SQLite, so that an Event is acknowledged
only when what it says would survive this process. An application has a table of its own in this place.
"""

import json
import sqlite3
from collections.abc import Iterable

from cloudevents.core.base import BaseCloudEvent

PUTS = ("snapshot", "added", "updated")
REMOVES = ("deleted", "left")

# An object that is gone keeps its row, without data: a late repeat must not bring it back. `ids` are those that had this
# very sequence, separated by spaces, which no id has.
SCHEMA = """
    CREATE TABLE IF NOT EXISTS objects (
        subscription TEXT, source TEXT, subject TEXT,
        sequence TEXT NOT NULL, ids TEXT NOT NULL, data TEXT,
        PRIMARY KEY (subscription, source, subject)
    )
"""
FIND = "SELECT sequence, ids FROM objects WHERE (subscription, source, subject) = (?, ?, ?)"
PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)"
EXISTING = "SELECT subject, data FROM objects WHERE data IS NOT NULL ORDER BY subject"


def change(event: BaseCloudEvent) -> str:
    """snapshot, added, updated, deleted or left."""
    return event.get_type().rpartition(".")[2]


def check(event: BaseCloudEvent) -> None:
    """Fails unless it is an Event of Tidings that this code understands."""
    if change(event) not in PUTS + REMOVES:
        raise ValueError(f"the type {event.get_type()!r} does not end in a change that is known here")
    for name in ("subject", "sequence", "subscription"):
        if name not in event.get_attributes():
            raise ValueError(f"there is no attribute {name!r}")


class Fold:
    def __init__(self, path: str) -> None:
        # Transactions are begun below, and not by the module. Threads take turns: see who calls.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute(SCHEMA)

    def take(self, events: Iterable[BaseCloudEvent]) -> list[bool]:
        """Takes in all of `events` or none, and answers of each whether it was news. When this returns, it is stored."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return [self._take(event) for event in events]

    def objects(self) -> dict[str, object]:
        """What exists, by namespace/name. Where one place has several kinds, names need `source` beside them."""
        return {subject: json.loads(data) for subject, data in self._connection.execute(EXISTING)}

    def _take(self, event: BaseCloudEvent) -> bool:
        attributes = event.get_attributes()
        id, sequence = event.get_id(), attributes["sequence"]
        key = (attributes["subscription"], event.get_source(), attributes["subject"])
        known, ids = self._connection.execute(FIND, key).fetchone() or ("", "")
        # Sequences are compared as text. With an equal one the order of arrival counts, but for repeats.
        if sequence < known or (sequence == known and id in ids.split(" ")):
            return False
        ids = f"{ids} {id}" if sequence == known else id
        data = json.dumps(event.get_data()) if change(event) in PUTS else None
        self._connection.execute(PUT, (*key, sequence, ids, data))
        return True
