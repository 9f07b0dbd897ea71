#!lua flags=allow-oom
-- Keeps the progress that a run reports. Returns 1, or 0 if the run is over.
--
-- ARGV: the job's id, the fence, and the progress as JSON.

local record = read(ARGV[2])
if not record or has_ended(record) or record.fence ~= tonumber(ARGV[3]) then return 0 end
record.progress = ARGV[4]
write(ARGV[2], record, 0)
return 1
