#!lua flags=allow-oom
-- Aborts a job that has not begun, and marks a running one, whose worker then ends it.
--
-- ARGV: the job's id, and the milliseconds after which the record of an aborted job expires.
-- Returns 1 if the job was aborted here.
--
-- Two messages stay in their stream, and a worker removes them without a run: the message of a
-- chain's stage, because it names the later stages, and a message that is far from its turn.

local STEP = 8
local ENOUGH = 256 * 1024 -- bytes, after which the search ends; about 1,000 small messages
local ENTRY = 64 -- bytes that an entry counts in addition to its words

local job_id = ARGV[2]

-- Remove the message from its stream if no worker was given it.
local function remove_pending()
  local size = 0
  for priority = 1, 3 do
    local group = group_of(priority)
    local after = group and group['last-delivered-id'] or '0-0'
    repeat
      local entries = redis.call('xrange', KEYS[priority], '(' .. after, '+', 'count', STEP)
      for _, entry in ipairs(entries) do
        after = entry[1]
        if entry[2][2] == job_id then return redis.call('xdel', KEYS[priority], after) end
        for _, word in ipairs(entry[2]) do size = size + #word end
        size = size + ENTRY
      end
    until #entries < STEP or size > ENOUGH
  end
end

local record = read(job_id)
if not record or has_ended(record) then return 0 end
if record.status == 'running' then
  record.abort = '1'
  write(job_id, record, 0)
  return 0
end
-- A message that stays may have its turn until the record expires, so keep the record as long.
local ttl = math.max(tonumber(ARGV[3]), redis.call('pttl', key_of(job_id)))
record.status = 'aborted'
write(job_id, record, ttl)
if string.find(job_id, '^%x+:%d+$') then
  start(job_id)
else
  if not leave_set(job_id, forget) then remove_pending() end
  give_back(job_id)
end
return 1
