-- Times are microseconds since the epoch. Numbers of states, priorities, roles are those of towpath.v1.

CREATE TABLE migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  apply_time INTEGER NOT NULL
);

CREATE TABLE lanes (
  lane_id INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  queue TEXT NOT NULL,
  job_type TEXT NOT NULL,
  requirements TEXT NOT NULL,
  concurrency_key TEXT NOT NULL,
  UNIQUE (tenant, user, queue, job_type, requirements, concurrency_key)
);

-- What changes about a job. What its submitter wrote, which may be large, lies in definitions and is left alone.
CREATE TABLE jobs (
  job_id INTEGER PRIMARY KEY,
  lane_id INTEGER NOT NULL REFERENCES lanes (lane_id),
  priority INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 4),
  position INTEGER NOT NULL,
  state INTEGER NOT NULL CHECK (state IN (1, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
  state_reason TEXT NOT NULL,
  revision INTEGER NOT NULL CHECK (revision >= 1),
  update_time INTEGER NOT NULL,
  queue_time INTEGER,
  lease_time INTEGER,
  start_time INTEGER,
  end_time INTEGER,
  due_time INTEGER,
  kill_time INTEGER,
  stall_time INTEGER,
  attempt INTEGER NOT NULL CHECK (attempt >= 0),
  attempt_count INTEGER NOT NULL CHECK (attempt_count >= 0),
  lost_count INTEGER NOT NULL CHECK (lost_count >= 0),
  lease_token TEXT CHECK (lease_token <> ''),
  lease_session TEXT,
  lease_confirmed INTEGER NOT NULL CHECK (lease_confirmed IN (0, 1)),
  last_token TEXT NOT NULL,
  worker_id INTEGER,
  progress TEXT,
  failure TEXT,
  result BLOB,
  CONSTRAINT leased_while_held CHECK ((state IN (4, 5, 7)) = (lease_token IS NOT NULL)),
  CONSTRAINT lease_is_whole CHECK ((lease_token IS NULL) = (lease_session IS NULL)),
  CONSTRAINT lease_has_worker CHECK (lease_token IS NULL OR worker_id IS NOT NULL),
  CONSTRAINT ended_when_final CHECK ((state >= 8) = (end_time IS NOT NULL)),
  CONSTRAINT result_of_success CHECK (result IS NULL OR state = 8)
);

-- A retry gives a new position; what follows it in the same commit is stored with it.
CREATE TRIGGER final_states_last BEFORE UPDATE ON jobs
WHEN OLD.state >= 8 AND NEW.state <> 3 AND NEW.position = OLD.position
BEGIN
  SELECT RAISE(ABORT, 'a final job changes only to QUEUED');
END;

CREATE INDEX jobs_queued ON jobs (lane_id, priority DESC, position, queue_time) WHERE state = 3;
CREATE INDEX jobs_by_state ON jobs (lane_id, state);
CREATE INDEX jobs_due ON jobs (due_time) WHERE due_time IS NOT NULL;
CREATE INDEX jobs_held ON jobs (lease_session) WHERE lease_session IS NOT NULL;

CREATE TABLE definitions (
  job_id INTEGER PRIMARY KEY REFERENCES jobs (job_id) ON DELETE CASCADE,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  workspace TEXT NOT NULL,
  queue TEXT NOT NULL,
  job_type TEXT NOT NULL,
  concurrency_key TEXT NOT NULL,
  request_id TEXT NOT NULL,
  create_time INTEGER NOT NULL,
  schedule_time INTEGER,
  labels TEXT,
  policy TEXT NOT NULL,
  request_hash BLOB NOT NULL,
  annotations BLOB NOT NULL,
  spec BLOB NOT NULL
);

CREATE UNIQUE INDEX definitions_request ON definitions (tenant, user, request_id) WHERE request_id <> '';
CREATE INDEX definitions_tenant ON definitions (tenant, job_id);

CREATE TABLE attempts (
  job_id INTEGER NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  number INTEGER NOT NULL CHECK (number >= 1),
  worker_id INTEGER NOT NULL,
  lease_time INTEGER NOT NULL,
  start_time INTEGER,
  end_time INTEGER,
  outcome INTEGER CHECK (outcome BETWEEN 1 AND 6),
  failure TEXT,
  PRIMARY KEY (job_id, number)
) WITHOUT ROWID;

CREATE TABLE logs (
  job_id INTEGER NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  attempt INTEGER NOT NULL CHECK (attempt >= 1),
  offset INTEGER NOT NULL CHECK (offset >= 0),
  size INTEGER NOT NULL CHECK (size > 0),
  stream INTEGER NOT NULL,
  time INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (job_id, attempt, offset)
);

CREATE TABLE tokens (
  token_id INTEGER PRIMARY KEY,
  secret_hash TEXT NOT NULL,
  name TEXT NOT NULL,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  role INTEGER NOT NULL CHECK (role BETWEEN 1 AND 3),
  create_time INTEGER NOT NULL,
  expire_time INTEGER,
  revoke_time INTEGER
);

CREATE TABLE queues (
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  create_time INTEGER NOT NULL,
  paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
  PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

CREATE TABLE workers (
  worker_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  slots INTEGER NOT NULL CHECK (slots >= 0),
  job_types TEXT NOT NULL,
  labels TEXT NOT NULL,
  machine TEXT NOT NULL,
  version TEXT NOT NULL,
  create_time INTEGER NOT NULL,
  connect_time INTEGER NOT NULL,
  session_id TEXT NOT NULL,
  draining INTEGER NOT NULL CHECK (draining IN (0, 1))
);

CREATE TABLE models (
  model_id INTEGER PRIMARY KEY,
  worker_id INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  model_type TEXT NOT NULL,
  task_type INTEGER NOT NULL,
  create_time INTEGER NOT NULL,
  body BLOB NOT NULL
);
