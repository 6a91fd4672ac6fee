-- More roles, secrets that overlap while they are changed, shared workers, quotas, and a record of who did what.

CREATE TABLE tokens_new (
  token_id INTEGER PRIMARY KEY,
  secret_hash TEXT NOT NULL,
  name TEXT NOT NULL,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  role INTEGER NOT NULL CHECK (role BETWEEN 1 AND 6),
  create_time INTEGER NOT NULL,
  expire_time INTEGER,
  revoke_time INTEGER,
  share INTEGER NOT NULL DEFAULT 1 CHECK (share BETWEEN 1 AND 2),
  lifetime INTEGER,
  previous_hash TEXT NOT NULL DEFAULT '',
  previous_expire_time INTEGER
);
INSERT INTO tokens_new (token_id, secret_hash, name, tenant, user, role, create_time, expire_time, revoke_time)
SELECT token_id, secret_hash, name, tenant, user, role, create_time, expire_time, revoke_time FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_new RENAME TO tokens;

ALTER TABLE workers ADD COLUMN share INTEGER NOT NULL DEFAULT 1 CHECK (share BETWEEN 1 AND 2);
ALTER TABLE workers ADD COLUMN token_id INTEGER NOT NULL DEFAULT 0;

CREATE TABLE quotas (
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  max_queued INTEGER,
  max_running INTEGER,
  max_requests_per_minute INTEGER,
  max_result_bytes INTEGER,
  max_log_bytes INTEGER,
  PRIMARY KEY (tenant, user)
);

-- What is in it stays as it is, whoever tries.
CREATE TABLE audit (
  event_id INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  action TEXT NOT NULL CHECK (action <> ''),
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,
  token_id INTEGER NOT NULL,
  origin TEXT NOT NULL,
  subject TEXT NOT NULL,
  details TEXT NOT NULL
);
CREATE INDEX audit_tenant ON audit (tenant, event_id);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'what was recorded is never changed'); END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'what was recorded is never deleted'); END;
-- REPLACE deletes without those of a DELETE.
CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'what was recorded is never changed'); END;
