-- A tag names one version of a function at a time; `run` is the one that the version was promoted from.
CREATE TABLE tags (
    project TEXT NOT NULL, name TEXT NOT NULL, tag TEXT NOT NULL, function TEXT NOT NULL, run TEXT NOT NULL,
    moved {real} NOT NULL, PRIMARY KEY (project, name, tag)
);
