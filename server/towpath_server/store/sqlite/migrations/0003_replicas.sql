-- Several schedulers may share a store of another kind: who they are, and which of them a worker's session lives on.

ALTER TABLE workers ADD COLUMN replica_id INTEGER NOT NULL DEFAULT 0;

CREATE TABLE replicas (
  replica_id INTEGER PRIMARY KEY,
  life TEXT NOT NULL,
  beat INTEGER NOT NULL,
  start_time INTEGER NOT NULL,
  view TEXT NOT NULL
);

-- What is over waits for its deletion apart from clocks that cannot wait: a million such jobs stand in nobody's way.

DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (due_time) WHERE due_time IS NOT NULL AND state < 8;
CREATE INDEX jobs_due_final ON jobs (due_time) WHERE due_time IS NOT NULL AND state >= 8;
