#!lua flags=allow-oom
-- Moves the scheduled messages that are due into the streams.
--
-- ARGV: the largest number of messages of each priority.
-- Returns 1 if more of them may be due.

local limit, is_full = tonumber(ARGV[2]), 0
for priority = 1, 3 do
  local due = redis.call('zrange', KEYS[priority + 3], '-inf', now(), 'byscore', 'limit', 0, limit)
  for _, job_id in ipairs(due) do move(priority, job_id) end
  if #due == limit then is_full = 1 end
end
return is_full
