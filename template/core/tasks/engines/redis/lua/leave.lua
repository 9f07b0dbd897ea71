#!lua flags=allow-oom
-- Deletes consumers that hold no message: this worker, and those without a sign of life.
--
-- ARGV: the group, this worker or '', and the milliseconds after which a consumer is deleted.

for priority = 1, 3 do
  for _, found in ipairs(redis.call('xinfo', 'consumers', KEYS[priority], ARGV[2])) do
    local consumer = {}
    for at = 1, #found, 2 do consumer[found[at]] = found[at + 1] end
    local is_over = consumer.name == ARGV[3] or consumer.idle > tonumber(ARGV[4])
    if is_over and consumer.pending == 0 then
      redis.call('xgroup', 'delconsumer', KEYS[priority], ARGV[2], consumer.name)
    end
  end
end
