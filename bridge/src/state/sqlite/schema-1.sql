-- What is said once: the uid of the cluster.
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- One row per Watch, with everything that is small.
CREATE TABLE watch (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, record BLOB NOT NULL) STRICT;

-- Known and the views of a Watch: runs, each sorted by name; what a run with a greater age says holds.
-- One that is not complete is being merged from others, and does not count.
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    watch INTEGER NOT NULL,
    age INTEGER NOT NULL,
    pages INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    emptied BLOB NOT NULL,
    complete INTEGER NOT NULL
) STRICT;

-- The pages of runs: run * 2^20 + number.
CREATE TABLE page (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;

-- The Journal: watch * 2^40 + number. Contents are the numbers and recipients, so that nobody reads a body for them.
CREATE TABLE chunk (id INTEGER PRIMARY KEY, contents BLOB NOT NULL, body BLOB NOT NULL) STRICT;
