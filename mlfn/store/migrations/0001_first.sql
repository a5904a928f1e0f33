-- {serial}, {real} and {integer} are the dialect's types; one statement ends with a semicolon at the end of a line.
CREATE TABLE functions (
    hash TEXT PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, spec TEXT NOT NULL, created {real} NOT NULL
);
CREATE INDEX functions_by_name ON functions (project, name, created);
CREATE TABLE plans (
    hash TEXT PRIMARY KEY, function TEXT NOT NULL, body TEXT NOT NULL
);
CREATE TABLE clients (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, pid {integer} NOT NULL, started TEXT NOT NULL, beat {real} NOT NULL
);
CREATE TABLE workers (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, host TEXT NOT NULL, pid {integer} NOT NULL, started TEXT NOT NULL,
    folder TEXT NOT NULL, consumed {integer} NOT NULL DEFAULT 0
);
CREATE INDEX workers_by_client ON workers (client);
CREATE TABLE runs (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL, name TEXT NOT NULL, function TEXT NOT NULL, plan TEXT NOT NULL, place TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT, attempt {integer} NOT NULL DEFAULT 0, retries {integer} NOT NULL DEFAULT 0,
    owner TEXT, worker TEXT, params TEXT NOT NULL,
    created {real} NOT NULL, started {real}, ended {real}, not_before {real},
    cancel_requested {integer} NOT NULL DEFAULT 0,
    failure TEXT, returns TEXT, progress TEXT, labels TEXT NOT NULL DEFAULT '{{}}', parent TEXT
);
CREATE INDEX runs_by_project ON runs (project, seq);
CREATE INDEX runs_by_name ON runs (name, seq);
CREATE INDEX runs_active ON runs (owner, seq) WHERE state IN ('pending', 'running');
CREATE INDEX runs_unsuccessful ON runs (state, seq) WHERE state IN ('failed', 'cancelled', 'pruned');
CREATE INDEX runs_by_parent ON runs (parent, seq) WHERE parent IS NOT NULL;
CREATE TABLE labels (
    key TEXT NOT NULL, value TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (key, value, run)
);
CREATE TABLE attempts (
    run TEXT NOT NULL, attempt {integer} NOT NULL, worker TEXT, claimed {real}, started {real}, ended {real},
    state TEXT NOT NULL, reason TEXT, log TEXT,
    PRIMARY KEY (run, attempt)
);
CREATE TABLE outputs (
    run TEXT NOT NULL, attempt {integer} NOT NULL, key TEXT NOT NULL, role TEXT NOT NULL, packer TEXT NOT NULL,
    type TEXT NOT NULL, inline TEXT, path TEXT, sha256 TEXT, size {integer} NOT NULL,
    PRIMARY KEY (run, attempt, key)
);
CREATE TABLE metrics (
    run TEXT NOT NULL, attempt {integer} NOT NULL, name TEXT NOT NULL, step {integer}, value {real}, time {real} NOT NULL
);
CREATE INDEX metrics_by_run ON metrics (run, attempt, name, step);
CREATE TABLE scores (
    run TEXT NOT NULL, name TEXT NOT NULL, value {real} NOT NULL,
    PRIMARY KEY (run, name)
);
CREATE INDEX scores_by_value ON scores (name, value);
CREATE TABLE events (
    seq {serial}, run TEXT NOT NULL, attempt {integer} NOT NULL, time {real} NOT NULL, what TEXT NOT NULL, detail TEXT
);
CREATE INDEX events_by_run ON events (run);
