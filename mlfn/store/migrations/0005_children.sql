-- A child that a handler opened is part of that handler's run, which ends it at its own end at the latest.
ALTER TABLE runs ADD COLUMN part_of TEXT;
ALTER TABLE runs ADD COLUMN nests {integer} NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN best TEXT;
CREATE INDEX runs_by_whole ON runs (part_of) WHERE part_of IS NOT NULL;
