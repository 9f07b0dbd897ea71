#!lua flags=allow-oom
-- Lets a run take all of its slots, or none of them.
--
-- ARGV: the job's id, the fence, and the slots.
-- Returns -1, or the number of jobs in line if a slot is missing. A run that has lost its job to
-- another one gets no slot.

local job_id, fence, slots = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local record = read(job_id)
if not record or record.fence ~= fence then return 0 end
if slots_of(job_id) ~= slots then
  give_back(job_id) -- it may hold slots of a limit that has changed
  redis.call('hset', KEYS[12], job_id, slots)
end
local full = find_full(job_id)
if full then return redis.call('zcard', KEYS[14] .. full) end
hold(job_id)
return -1
