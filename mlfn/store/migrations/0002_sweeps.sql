-- A sweep is a run that has a row here; its children name it as parent and count from 1.
CREATE TABLE sweeps (
    run TEXT PRIMARY KEY, name TEXT, slot TEXT UNIQUE, body TEXT NOT NULL
);
ALTER TABLE runs ADD COLUMN sweep {integer} NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN iteration {integer} NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN point TEXT;
ALTER TABLE runs ADD COLUMN memo TEXT;
ALTER TABLE runs ADD COLUMN reused TEXT;
CREATE INDEX sweeps_by_name ON sweeps (name) WHERE name IS NOT NULL;
CREATE UNIQUE INDEX runs_by_iteration ON runs (parent, iteration) WHERE iteration > 0;
CREATE INDEX runs_by_memo ON runs (function, memo) WHERE memo IS NOT NULL;
CREATE INDEX runs_on_top ON runs (project, seq) WHERE parent IS NULL;
CREATE INDEX reused_runs ON runs (reused) WHERE reused IS NOT NULL;
