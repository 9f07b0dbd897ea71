#!lua flags=allow-oom
-- Begins the delivery of a suspect that was taken before, and returns its record.
--
-- ARGV: the job's id, the worker, and the fence that the record had then, or '' for any.
-- Nothing changes if the job has ended, or if another delivery has begun.

local job_id, worker, fence = ARGV[2], ARGV[3], ARGV[4]
local record = read(job_id) or new_record()
if has_ended(record) or (fence ~= '' and record.fence ~= tonumber(fence)) then
  return redis.call('get', key_of(job_id))
end
return begin(job_id, record, worker)
