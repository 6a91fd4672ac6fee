-- oldest reader: 1
--
-- Times are microseconds since the epoch. Numbers of states, priorities, roles are those of towpath.v1.
-- There are no foreign keys: each would lock a row of the other table for every row that is written, and all schedulers
-- write to the same lanes. The store takes the locks itself, once a statement.

CREATE TABLE migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  -- The oldest schema whose programs may go on working on this one.
  oldest_reader integer NOT NULL,
  apply_time bigint NOT NULL
);

-- A change's sequence is base + (id of its transaction << 20 | number in it). The base is beyond every time that may
-- have been given as a sequence by a store that numbers otherwise, and grows where a dump is restored elsewhere.
CREATE TABLE origin (
  only_row smallint PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
  base bigint NOT NULL CHECK (base % 1048576 = 0)
);
INSERT INTO origin (base) VALUES (1::bigint << 52);

CREATE TABLE lanes (
  lane_id bigint PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  queue text COLLATE "C" NOT NULL,
  job_type text COLLATE "C" NOT NULL,
  requirements text COLLATE "C" NOT NULL,
  concurrency_key text COLLATE "C" NOT NULL,
  -- Of all the attributes together, which may be longer than an index takes.
  digest bytea NOT NULL UNIQUE
);
CREATE INDEX lanes_tenant ON lanes (tenant);

-- What changes about a job. What its submitter wrote, which may be large, lies in definitions and is left alone.
CREATE TABLE jobs (
  job_id bigint PRIMARY KEY,
  lane_id bigint NOT NULL,
  priority smallint NOT NULL CHECK (priority BETWEEN 1 AND 4),
  position bigint NOT NULL,
  state smallint NOT NULL CHECK (state IN (1, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
  state_reason text COLLATE "C" NOT NULL,
  revision bigint NOT NULL CHECK (revision >= 1),
  sequence bigint NOT NULL,
  update_time bigint NOT NULL,
  queue_time bigint,
  lease_time bigint,
  start_time bigint,
  end_time bigint,
  due_time bigint,
  kill_time bigint,
  stall_time bigint,
  attempt bigint NOT NULL CHECK (attempt >= 0),
  attempt_count bigint NOT NULL CHECK (attempt_count >= 0),
  lost_count bigint NOT NULL CHECK (lost_count >= 0),
  lease_token text COLLATE "C" CHECK (lease_token <> ''),
  lease_session text COLLATE "C",
  lease_confirmed smallint NOT NULL CHECK (lease_confirmed IN (0, 1)),
  last_token text COLLATE "C" NOT NULL,
  worker_id bigint,
  progress text COLLATE "C",
  failure text COLLATE "C",
  result bytea,
  dedupe bytea,
  -- Which scheduler wrote it last, and the revision with which the definition was last written.
  writer bigint NOT NULL,
  defined bigint NOT NULL,
  CONSTRAINT leased_while_held CHECK ((state IN (4, 5, 7)) = (lease_token IS NOT NULL)),
  CONSTRAINT lease_is_whole CHECK ((lease_token IS NULL) = (lease_session IS NULL)),
  CONSTRAINT lease_has_worker CHECK (lease_token IS NULL OR worker_id IS NOT NULL),
  CONSTRAINT ended_when_final CHECK ((state >= 8) = (end_time IS NOT NULL)),
  CONSTRAINT result_of_success CHECK (result IS NULL OR state = 8)
) WITH (
  fillfactor = 90,
  -- Each job is updated several times, and most of them are long over: a fifth of the table would be far too late.
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_threshold = 5000,
  autovacuum_analyze_scale_factor = 0.01,
  autovacuum_vacuum_cost_delay = 1
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a final job changes only to QUEUED' USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- A retry gives a new position; what follows it in the same commit is stored with it.
CREATE TRIGGER final_states_last BEFORE UPDATE OF state ON jobs FOR EACH ROW
WHEN (OLD.state >= 8 AND NEW.state <> 3 AND NEW.position = OLD.position) EXECUTE FUNCTION refuse_change();

CREATE INDEX jobs_queued ON jobs (lane_id, priority DESC, position) INCLUDE (queue_time) WHERE state = 3;
CREATE INDEX jobs_by_state ON jobs (lane_id, state, job_id);
-- What is over waits for its deletion apart from clocks that cannot wait.
CREATE INDEX jobs_due ON jobs (due_time, job_id) WHERE due_time IS NOT NULL AND state < 8;
CREATE INDEX jobs_due_final ON jobs (due_time, job_id) WHERE due_time IS NOT NULL AND state >= 8;
CREATE INDEX jobs_held ON jobs (lease_session) WHERE lease_session IS NOT NULL;
CREATE UNIQUE INDEX jobs_by_sequence ON jobs (sequence);
CREATE UNIQUE INDEX jobs_dedupe ON jobs (dedupe) WHERE dedupe IS NOT NULL AND state < 8;

CREATE TABLE definitions (
  job_id bigint PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  workspace text COLLATE "C" NOT NULL,
  queue text COLLATE "C" NOT NULL,
  job_type text COLLATE "C" NOT NULL,
  concurrency_key text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL,
  dedupe_key text COLLATE "C" NOT NULL,
  create_time bigint NOT NULL,
  schedule_time bigint,
  labels text COLLATE "C",
  policy text COLLATE "C" NOT NULL,
  request_hash bytea NOT NULL,
  annotations bytea NOT NULL,
  spec bytea NOT NULL,
  -- Of whose request it is; each label by itself; the job's revision that brought this definition.
  request bytea,
  tags jsonb,
  defined bigint NOT NULL
) WITH (
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_threshold = 5000,
  autovacuum_analyze_scale_factor = 0.02
);

CREATE UNIQUE INDEX definitions_request ON definitions (request) WHERE request IS NOT NULL;
CREATE INDEX definitions_tenant ON definitions (tenant, job_id);

CREATE TABLE attempts (
  job_id bigint NOT NULL,
  number bigint NOT NULL CHECK (number >= 1),
  worker_id bigint NOT NULL,
  lease_time bigint NOT NULL,
  start_time bigint,
  end_time bigint,
  outcome smallint CHECK (outcome BETWEEN 1 AND 6),
  failure text COLLATE "C",
  PRIMARY KEY (job_id, number)
) WITH (
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.05
);

CREATE TABLE logs (
  job_id bigint NOT NULL,
  attempt bigint NOT NULL CHECK (attempt >= 1),
  "offset" bigint NOT NULL CHECK ("offset" >= 0),
  size bigint NOT NULL CHECK (size > 0),
  stream bigint NOT NULL,
  time bigint NOT NULL,
  text text COLLATE "C" NOT NULL,
  PRIMARY KEY (job_id, attempt, "offset")
) WITH (
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.05
);

CREATE TABLE tokens (
  token_id bigint PRIMARY KEY,
  secret_hash text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  role smallint NOT NULL CHECK (role BETWEEN 1 AND 3),
  create_time bigint NOT NULL,
  expire_time bigint,
  revoke_time bigint
);

CREATE TABLE queues (
  tenant text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  create_time bigint NOT NULL,
  paused smallint NOT NULL CHECK (paused IN (0, 1)),
  PRIMARY KEY (tenant, name)
);

CREATE TABLE workers (
  worker_id bigint PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  slots bigint NOT NULL CHECK (slots >= 0),
  job_types text COLLATE "C" NOT NULL,
  labels text COLLATE "C" NOT NULL,
  machine text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL,
  create_time bigint NOT NULL,
  connect_time bigint NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  draining smallint NOT NULL CHECK (draining IN (0, 1)),
  replica_id bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE models (
  model_id bigint PRIMARY KEY,
  worker_id bigint NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  model_type text COLLATE "C" NOT NULL,
  task_type bigint NOT NULL,
  create_time bigint NOT NULL,
  body bytea NOT NULL
);

-- Each scheduler beats in it every second: the few rows stay on their page.
CREATE TABLE replicas (
  replica_id bigint PRIMARY KEY,
  life text COLLATE "C" NOT NULL,
  beat bigint NOT NULL,
  start_time bigint NOT NULL,
  view text COLLATE "C" NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- Which small records have changed, or are gone, and when: what other schedulers read again.
CREATE TABLE record_changes (
  kind text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  sequence bigint NOT NULL,
  writer bigint NOT NULL,
  PRIMARY KEY (kind, key)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX record_changes_by_sequence ON record_changes (sequence);
