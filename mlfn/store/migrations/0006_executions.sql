-- {key} is an integer key, {clustered} stores rows in the order of their primary key, {position} is that of a row in its
-- table, {object} makes a JSON object of names and values.
-- An execution is one object at a place and holds one or more units, each an attempt of a run. Only its place reads `handle`,
-- and only what collects its reports reads `cursor`, which is NULL until something was observed there.
CREATE TABLE executions (
    id TEXT NOT NULL PRIMARY KEY, client TEXT NOT NULL, place TEXT NOT NULL, target TEXT NOT NULL DEFAULT '',
    handle TEXT NOT NULL, cursor TEXT, units {integer} NOT NULL DEFAULT 1
) {clustered};
INSERT INTO executions (id, client, place, handle, cursor)
    SELECT id, client, 'local',
        CAST({object}('host', host, 'pid', pid, 'started', started, 'folder', folder) AS TEXT), CAST(consumed AS TEXT)
    FROM workers;
DROP TABLE workers;
CREATE INDEX executions_by_client ON executions (client);
-- `seq` is the key by which all rows of a run name it: random ids would spread over every index of a large store.
-- The current or last attempt lives here: `claimed` is NULL where there is none, and `begun` until it has started.
CREATE TABLE new_runs (
    seq {key}, id TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL, name TEXT NOT NULL, function TEXT NOT NULL, plan TEXT NOT NULL, place TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT, attempt {integer} NOT NULL DEFAULT 0, retries {integer} NOT NULL DEFAULT 0,
    owner TEXT, execution TEXT, unit {integer}, queued {integer} NOT NULL DEFAULT 0, status TEXT,
    acknowledged {integer} NOT NULL DEFAULT 0, claimed {real}, begun {real}, params TEXT NOT NULL,
    created {real} NOT NULL, started {real}, ended {real}, not_before {real},
    cancel_requested {integer} NOT NULL DEFAULT 0,
    failure TEXT, returns TEXT, progress TEXT, labels TEXT NOT NULL DEFAULT '{{}}',
    parent TEXT, iteration {integer} NOT NULL DEFAULT 0, sweep {integer} NOT NULL DEFAULT 0, point TEXT, memo TEXT,
    reused TEXT, part_of TEXT, nests {integer} NOT NULL DEFAULT 0, best TEXT
);
INSERT INTO new_runs (
        id, project, name, function, plan, place, state, reason, attempt, retries, owner, execution, claimed, begun,
        params, created, started, ended, not_before, cancel_requested, failure, returns, progress, labels, parent,
        iteration, sweep, point, memo, reused, part_of, nests, best)
    SELECT runs.id, project, name, function, plan, place, runs.state, runs.reason, runs.attempt, retries, owner,
        runs.worker, claimed, attempts.started, params, created, runs.started, runs.ended, not_before, cancel_requested,
        runs.failure, returns, progress, labels, parent, iteration, sweep, point, memo, reused, part_of, nests, best
    FROM runs LEFT JOIN attempts ON attempts.run = runs.id AND attempts.attempt = runs.attempt AND (
        runs.state = 'running' OR EXISTS (
            SELECT 1 FROM events
            WHERE events.run = runs.id AND events.attempt = runs.attempt AND events.what = runs.state))
    ORDER BY runs.seq;
CREATE TABLE new_attempts (
    run {integer} NOT NULL, attempt {integer} NOT NULL, execution TEXT, unit {integer}, claimed {real}, started {real},
    ended {real}, state TEXT NOT NULL, reason TEXT, log TEXT, failure TEXT,
    PRIMARY KEY (run, attempt)
) {clustered};
INSERT INTO new_attempts (run, attempt, execution, claimed, started, ended, state, reason, log, failure)
    SELECT new_runs.seq, attempts.attempt, attempts.worker, attempts.claimed, attempts.started, attempts.ended,
        attempts.state, attempts.reason, log, attempts.failure
    FROM attempts JOIN new_runs ON new_runs.id = attempts.run WHERE attempts.state <> 'running'
    ORDER BY new_runs.seq, attempts.attempt;
DROP TABLE attempts;
ALTER TABLE new_attempts RENAME TO attempts;
CREATE TABLE new_labels (
    key TEXT NOT NULL, value TEXT NOT NULL, run {integer} NOT NULL, PRIMARY KEY (key, value, run)
) {clustered};
INSERT INTO new_labels (key, value, run)
    SELECT key, value, new_runs.seq FROM labels JOIN new_runs ON new_runs.id = labels.run
    ORDER BY key, value, new_runs.seq;
DROP TABLE labels;
ALTER TABLE new_labels RENAME TO labels;
CREATE TABLE new_outputs (
    run {integer} NOT NULL, attempt {integer} NOT NULL, key TEXT NOT NULL, role TEXT NOT NULL, packer TEXT NOT NULL,
    type TEXT NOT NULL, inline TEXT, path TEXT, sha256 TEXT, size {integer} NOT NULL,
    PRIMARY KEY (run, attempt, key)
) {clustered};
INSERT INTO new_outputs (run, attempt, key, role, packer, type, inline, path, sha256, size)
    SELECT new_runs.seq, outputs.attempt, key, role, packer, type, inline, path, sha256, size
    FROM outputs JOIN new_runs ON new_runs.id = outputs.run ORDER BY new_runs.seq, outputs.attempt, key;
DROP TABLE outputs;
ALTER TABLE new_outputs RENAME TO outputs;
-- A point's number counts the points of its attempt, whatever their names: one that is recorded again changes nothing.
CREATE TABLE new_metrics (
    run {integer} NOT NULL, attempt {integer} NOT NULL, name TEXT NOT NULL, number {integer} NOT NULL, step {integer},
    value {real}, time {real} NOT NULL,
    PRIMARY KEY (run, attempt, name, number)
) {clustered};
INSERT INTO new_metrics (run, attempt, name, number, step, value, time)
    SELECT new_runs.seq, metrics.attempt, metrics.name,
        row_number() OVER (PARTITION BY new_runs.seq, metrics.attempt ORDER BY metrics.{position}) - 1,
        step, value, time
    FROM metrics JOIN new_runs ON new_runs.id = metrics.run ORDER BY new_runs.seq, metrics.attempt, metrics.name;
DROP TABLE metrics;
ALTER TABLE new_metrics RENAME TO metrics;
CREATE TABLE new_scores (
    run {integer} NOT NULL, name TEXT NOT NULL, value {real} NOT NULL, PRIMARY KEY (run, name)
) {clustered};
INSERT INTO new_scores (run, name, value)
    SELECT new_runs.seq, scores.name, value FROM scores JOIN new_runs ON new_runs.id = scores.run
    ORDER BY new_runs.seq, scores.name;
DROP TABLE scores;
ALTER TABLE new_scores RENAME TO scores;
CREATE INDEX scores_by_value ON scores (name, value);
-- Rows for what runs and attempts do not say themselves.
CREATE TABLE new_events (
    seq {key}, run {integer} NOT NULL, time {real} NOT NULL, what TEXT NOT NULL, detail TEXT
);
INSERT INTO new_events (run, time, what, detail)
    SELECT new_runs.seq, events.time, what, detail FROM events JOIN new_runs ON new_runs.id = events.run
    WHERE what IN ('cancel requested', 'adopted') ORDER BY events.seq;
DROP TABLE events;
ALTER TABLE new_events RENAME TO events;
CREATE INDEX events_by_run ON events (run);
DROP TABLE runs;
ALTER TABLE new_runs RENAME TO runs;
-- Listings are of runs without a parent, or of the children of one: no other is in an index by project or name.
CREATE INDEX runs_by_project ON runs (project, seq) WHERE parent IS NULL;
CREATE INDEX runs_by_name ON runs (name, seq) WHERE parent IS NULL;
CREATE INDEX runs_active ON runs (owner, seq) WHERE state IN ('pending', 'running');
CREATE INDEX runs_unsuccessful ON runs (state, seq) WHERE state IN ('failed', 'cancelled', 'pruned');
CREATE INDEX runs_by_parent ON runs (parent, seq) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX runs_by_iteration ON runs (parent, iteration) WHERE iteration > 0;
CREATE INDEX runs_by_memo ON runs (function, memo) WHERE memo IS NOT NULL;
CREATE INDEX runs_by_whole ON runs (part_of) WHERE part_of IS NOT NULL;
