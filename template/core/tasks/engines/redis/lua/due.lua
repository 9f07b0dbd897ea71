#!lua flags=allow-oom
-- Moves the scheduled messages that are due into the streams.
--
-- ARGV: the largest number of messages of each priority.
-- Returns 1 if more of them may be due.

local limit, is_full = tonumber(ARGV[2]), 0
for priority = 1, 3 do
  local set = KEYS[priority + 3]
  local due = redis.call('zrange', set, '-inf', now(), 'byscore', 'limit', 0, limit)
  for _, job_id in ipairs(due) do
    local body = redis.call('hget', KEYS[7], job_id)
    if body then add(priority, job_id, body, '') end
    redis.call('zrem', set, job_id)
    redis.call('hdel', KEYS[7], job_id)
  end
  if #due == limit then is_full = 1 end
end
return is_full
