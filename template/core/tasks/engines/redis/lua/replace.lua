#!lua flags=allow-oom
-- Replaces a record if it is still the one that was read. Returns 1 if it was.
--
-- ARGV: the job's id, the record as it was read, the new one, the milliseconds after which it
-- expires or 0, and the id of a dead letter to stash, or '', with its text.

local job_id, old, new, ttl, letter_id, letter = unpack(ARGV, 2, 7)
local stored = redis.pcall('get', key_of(job_id))
if (type(stored) == 'string' and stored or '') ~= old then return 0 end
redis.call('set', key_of(job_id), new)
if ttl ~= '0' then redis.call('pexpire', key_of(job_id), ttl) end
if letter_id ~= '' then redis.call('hset', KEYS[8], letter_id, letter) end
return 1
