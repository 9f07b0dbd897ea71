#!lua flags=allow-oom
-- Aborts a job that has not begun, and marks a running one, whose worker then ends it.
--
-- ARGV: the job's id, and the milliseconds after which the record of an aborted job expires.

local record = read(ARGV[2])
if not record or has_ended(record) then return end
if record.status == 'running' then
  record.abort = '1'
  write(ARGV[2], record, 0)
else
  -- A later stage may have its turn until its record expires, so keep the record as long.
  local ttl = math.max(tonumber(ARGV[3]), redis.call('pttl', key_of(ARGV[2])))
  if record.status == 'pending' then start(ARGV[2]) end -- a job that waits for a slot ends now
  record.status = 'aborted'
  write(ARGV[2], record, ttl)
end
