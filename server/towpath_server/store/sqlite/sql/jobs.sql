-- Rows come back as one JSON text: to fetch them one by one would give up the interpreter's lock for each.
-- {picked} names the jobs, in order. A blob of more than 8 KiB is left out (NULL, a result 0) and comes by itself.
-- name: packed
SELECT json_group_array(json_array(
  j.job_id, j.lane_id, j.priority, j.position, j.state, j.state_reason, j.revision, j.sequence, j.update_time, j.queue_time,
  j.lease_time, j.start_time, j.end_time, j.due_time, j.kill_time, j.stall_time, j.attempt, j.attempt_count,
  j.lost_count, j.lease_token, j.lease_session, j.lease_confirmed, j.last_token, j.worker_id, j.progress, j.failure,
  CASE WHEN j.result IS NULL THEN NULL WHEN length(j.result) <= 8192 THEN hex(j.result) ELSE 0 END,
  d.tenant, d.user, d.workspace, d.queue, d.job_type, d.concurrency_key, d.request_id, d.dedupe_key, d.create_time,
  d.schedule_time, d.labels, d.policy, hex(d.request_hash),
  CASE WHEN length(d.annotations) <= 8192 THEN hex(d.annotations) END,
  CASE WHEN length(d.spec) <= 8192 THEN hex(d.spec) END))
FROM ({picked}) p CROSS JOIN jobs j ON j.job_id = p.job_id CROSS JOIN definitions d ON d.job_id = p.job_id

-- name: ids
SELECT json_group_array(job_id) FROM ({picked})

-- name: blobs
SELECT job_id, result, annotations, spec FROM jobs JOIN definitions USING (job_id)
WHERE job_id IN (SELECT value FROM json_each(?))

-- name: by_id
SELECT job_id FROM jobs WHERE job_id IN (SELECT value FROM json_each(:job_ids))

-- name: by_request
SELECT job_id FROM definitions INDEXED BY definitions_request
WHERE tenant = :tenant AND user = :user AND request_id <> '' AND request_id IN (SELECT value FROM json_each(:request_ids))
ORDER BY job_id LIMIT :limit

-- name: by_dedupe
SELECT job_id FROM jobs INDEXED BY jobs_dedupe
WHERE dedupe IS NOT NULL AND state < 8 AND dedupe IN (SELECT value FROM json_each(:keys)) ORDER BY job_id LIMIT :limit

-- name: in_lane
SELECT job_id FROM jobs INDEXED BY jobs_queued WHERE lane_id = :lane_id AND state = 3
ORDER BY priority DESC, position LIMIT :limit

-- name: due
SELECT job_id FROM jobs INDEXED BY jobs_due
WHERE due_time IS NOT NULL AND state < 8 AND due_time <= :now ORDER BY due_time, job_id LIMIT :limit

-- name: due_final
SELECT job_id FROM jobs INDEXED BY jobs_due_final
WHERE due_time IS NOT NULL AND state >= 8 AND due_time <= :now ORDER BY due_time, job_id LIMIT :limit

-- name: held_by
SELECT job_id FROM jobs WHERE lease_session = :session_id ORDER BY job_id LIMIT :limit

-- name: owned_by
SELECT job_id FROM definitions INDEXED BY definitions_tenant
WHERE tenant = :tenant AND job_id IN (SELECT value FROM json_each(:job_ids)) AND user = ifnull(:user, user)
ORDER BY job_id LIMIT :limit

-- name: last_sequence
SELECT max(last.sequence, (SELECT ifnull(max(sequence), 0) FROM jobs)) FROM last_sequence last

-- name: greatest_job
SELECT max(job_id) FROM jobs

-- name: keep_sequence
UPDATE last_sequence SET sequence = :sequence WHERE only_row = 1

-- name: next_due
SELECT min(due_time) FROM jobs INDEXED BY jobs_due WHERE due_time IS NOT NULL AND state < 8

-- name: next_due_final
SELECT min(due_time) FROM jobs INDEXED BY jobs_due_final WHERE due_time IS NOT NULL AND state >= 8

-- name: delete
DELETE FROM jobs WHERE job_id IN (SELECT value FROM json_each(?))

-- name: attempts
SELECT json_group_array(json_array(job_id, number, worker_id, lease_time, start_time, end_time, outcome, failure))
FROM (SELECT * FROM attempts WHERE job_id = ? ORDER BY number LIMIT -1)

-- The chunk that holds `offset` is the last one that begins at or before it.
-- name: logs
SELECT job_id, attempt, offset, size, stream, time, text FROM logs
WHERE job_id = :job_id AND attempt = :attempt AND offset + size > :offset AND offset >= ifnull(
  (SELECT max(offset) FROM logs WHERE job_id = :job_id AND attempt = :attempt AND offset <= :offset), 0)
ORDER BY offset LIMIT :limit

-- name: lanes
SELECT json_group_array(json_array(
  l.lane_id, l.tenant, l.user, l.queue, l.job_type, l.requirements, l.concurrency_key, h.priority, h.position))
FROM (SELECT * FROM lanes ORDER BY lane_id LIMIT -1) l LEFT JOIN jobs h ON h.job_id = (
  SELECT job_id FROM jobs INDEXED BY jobs_queued WHERE lane_id = l.lane_id AND state = 3
  ORDER BY priority DESC, position LIMIT 1)
