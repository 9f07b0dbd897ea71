#!lua flags=allow-oom
-- Creates the consumer group of each stream, if it does not exist.
--
-- ARGV: the group.

for priority = 1, 3 do
  if not group_of(priority) then
    redis.call('xgroup', 'create', KEYS[priority], ARGV[2], '0', 'mkstream')
  end
end
