-- Type and first line: the run's own failure is that of its last attempt.
ALTER TABLE attempts ADD COLUMN failure TEXT;
