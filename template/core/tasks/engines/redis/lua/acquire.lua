#!lua flags=allow-oom
-- Lets a run take all of its slots, or none of them.
--
-- ARGV: the job's id, the fence, and the slots.
-- Returns -1, or the number of jobs in line if a slot is missing. A run that has lost its job gets
-- no slot.

local job_id, fence, slots = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local full = find_full(slots, job_id, {})
if full then return redis.call('zcard', KEYS[13] .. full) end
if not has_slot(job_id, fence) then return 0 end
hold(slots, job_id, fence)
return -1
