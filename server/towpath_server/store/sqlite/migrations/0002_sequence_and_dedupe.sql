-- Every stored change has a number of its own, so that a watcher can go on where it was cut off; and a user's dedupe key
-- belongs to one job at a time that is not final.

DROP TRIGGER final_states_last;

ALTER TABLE jobs ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET sequence = numbered.number
FROM (SELECT job_id, row_number() OVER (ORDER BY update_time, job_id) AS number FROM jobs) AS numbered
WHERE jobs.job_id = numbered.job_id;
CREATE UNIQUE INDEX jobs_by_sequence ON jobs (sequence);

-- The greatest number that was ever given out: the job that had it may be deleted, and the clock put back.
CREATE TABLE last_sequence (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  sequence INTEGER NOT NULL
) STRICT;
INSERT INTO last_sequence SELECT 1, ifnull(max(sequence), 0) FROM jobs;

ALTER TABLE jobs ADD COLUMN dedupe TEXT;
ALTER TABLE definitions ADD COLUMN dedupe_key TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX jobs_dedupe ON jobs (dedupe) WHERE dedupe IS NOT NULL AND state < 8;

-- To number a job anew, as a restore does, changes nothing about it.
CREATE TRIGGER final_states_last BEFORE UPDATE OF state ON jobs
WHEN OLD.state >= 8 AND NEW.state <> 3 AND NEW.position = OLD.position
BEGIN
  SELECT RAISE(ABORT, 'a final job changes only to QUEUED');
END;
