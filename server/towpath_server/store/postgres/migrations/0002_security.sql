-- oldest reader: 1
--
-- More roles, secrets that overlap while they are changed, shared workers, quotas, and a record of who did what.

ALTER TABLE tokens DROP CONSTRAINT tokens_role_check;
ALTER TABLE tokens
  ADD CONSTRAINT tokens_role_check CHECK (role BETWEEN 1 AND 6),
  ADD COLUMN share smallint NOT NULL DEFAULT 1 CHECK (share BETWEEN 1 AND 2),
  ADD COLUMN lifetime bigint,
  ADD COLUMN previous_hash text COLLATE "C" NOT NULL DEFAULT '',
  ADD COLUMN previous_expire_time bigint;

ALTER TABLE workers
  ADD COLUMN share smallint NOT NULL DEFAULT 1 CHECK (share BETWEEN 1 AND 2),
  ADD COLUMN token_id bigint NOT NULL DEFAULT 0;

CREATE TABLE quotas (
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  max_queued bigint,
  max_running bigint,
  max_requests_per_minute bigint,
  max_result_bytes bigint,
  max_log_bytes bigint,
  PRIMARY KEY (tenant, "user")
);

-- What is in it stays as it is, whoever tries.
CREATE TABLE audit (
  event_id bigint PRIMARY KEY,
  time bigint NOT NULL,
  action text COLLATE "C" NOT NULL CHECK (action <> ''),
  tenant text COLLATE "C" NOT NULL,
  "user" text COLLATE "C" NOT NULL,
  token_id bigint NOT NULL,
  origin text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  details text COLLATE "C" NOT NULL
);
CREATE INDEX audit_tenant ON audit (tenant, event_id);

CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'what was recorded is never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR DELETE ON audit FOR EACH ROW
EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER audit_is_never_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT
EXECUTE FUNCTION refuse_rewriting();
