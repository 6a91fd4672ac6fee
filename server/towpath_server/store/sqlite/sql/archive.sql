-- Keys with the sizes in bytes of what belongs to them, so that what is read next fits into memory.
-- name: jobs
SELECT j.job_id, length(d.spec) + length(d.annotations) + ifnull(length(j.result), 0) + ifnull(length(j.failure), 0)
FROM jobs j CROSS JOIN definitions d ON d.job_id = j.job_id WHERE j.job_id > :after ORDER BY j.job_id LIMIT :limit

-- name: attempts
SELECT job_id, number, ifnull(length(failure), 0) FROM attempts
WHERE (job_id, number) > (:job_id, :number) ORDER BY job_id, number LIMIT :limit

-- name: logs
SELECT job_id, attempt, offset, size FROM logs
WHERE (job_id, attempt, offset) > (:job_id, :attempt, :offset) ORDER BY job_id, attempt, offset LIMIT :limit

-- name: attempts_between
SELECT job_id, number, worker_id, lease_time, start_time, end_time, outcome, failure FROM attempts
WHERE (job_id, number) > (:job_id, :number) AND (job_id, number) <= (:last_job_id, :last_number)
ORDER BY job_id, number

-- name: logs_between
SELECT job_id, attempt, offset, size, stream, time, text FROM logs
WHERE (job_id, attempt, offset) > (:job_id, :attempt, :offset)
AND (job_id, attempt, offset) <= (:last_job_id, :last_attempt, :last_offset) ORDER BY job_id, attempt, offset

-- name: audit
SELECT event_id, time, action, tenant, user, token_id, origin, subject, details FROM audit
WHERE event_id > :after ORDER BY event_id LIMIT :limit

-- name: size
SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM attempts) + (SELECT count(*) FROM logs)
+ (SELECT count(*) FROM audit)

-- name: go_on_above
UPDATE last_sequence SET sequence = max(sequence, ?)
