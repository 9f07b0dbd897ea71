#!lua flags=no-writes
-- Counts the jobs of each priority: pending, running and scheduled, and the milliseconds for which
-- the oldest pending one has been due. A scheduled job that is due counts as pending.

local time, counts = now(), {}
for priority = 1, 3 do
  local stream, set = KEYS[priority], KEYS[priority + 3]
  local running, after = 0, '-'
  local group = group_of(priority)
  if group then
    running, after = group['pending'], '(' .. group['last-delivered-id']
  end
  local first = redis.call('xrange', stream, after, '+', 'count', 1)[1]
  local since = first and tonumber(string.match(first[1], '^%d+')) or time
  local due = tonumber(redis.call('zrange', set, 0, 0, 'withscores')[2] or time)
  local overdue = redis.call('zcount', set, '-inf', time)
  local pending = redis.call('xlen', stream) - running + overdue
  local scheduled = redis.call('zcard', set) - overdue
  table.insert(counts, {pending, running, scheduled, time - math.min(since, due, time)})
end
return counts
