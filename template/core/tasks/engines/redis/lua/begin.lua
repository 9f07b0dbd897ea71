#!lua flags=allow-oom
-- Begins the delivery of a suspect that was taken before, and returns its record.
--
-- ARGV: the job's id and the worker.

local job_id, worker = ARGV[2], ARGV[3]
local record = read(job_id) or new_record()
if has_ended(record) then return redis.call('get', key_of(job_id)) end
return begin(job_id, record, worker)
