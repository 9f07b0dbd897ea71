#!lua flags=allow-oom
-- Records that a running job blocks the event loop of its worker.
--
-- ARGV: the job's id.

local record = read(ARGV[2])
if not record or has_ended(record) then return end
record.blocked = record.blocked + 1
write(ARGV[2], record, 0)
