#!lua flags=allow-oom
-- Records that a running job blocks the event loop of its worker.
--
-- ARGV: the job's id, and the worker, which may have lost the job.

local record = read(ARGV[2])
if not record or has_ended(record) then return end
if record.status == 'running' and record.worker ~= ARGV[3] then return end
record.blocked = record.blocked + 1
write(ARGV[2], record, 0)
