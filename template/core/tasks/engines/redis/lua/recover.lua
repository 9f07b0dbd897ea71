#!lua flags=allow-oom
-- Puts messages back into their streams: the messages of workers that seem dead, or the messages
-- that one worker was given and does not run. Each becomes a new entry, so an entry never changes
-- its owner.
--
-- ARGV: the group, the milliseconds without a sign of life, the largest number of messages of each
-- priority, the milliseconds between two signs of life, and then, for one worker only, its name and
-- the entries and jobs that it runs.
-- Returns 1 if more of them may be left.

local group, idle, limit, pause, worker = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local runs, is_full = {}, 0
for at = 7, #ARGV do runs[ARGV[at]] = true end

-- If nobody has searched for a while, the server was away or no worker ran. All workers seem dead
-- then, so each one gets time for a sign of life.
local function is_too_early()
  local time = now()
  local looked = redis.pcall('get', KEYS[10])
  local last, since = string.match(type(looked) == 'string' and looked or '', '(%d+) (%d+)')
  -- After a jump of the server's clock, the stored times mean nothing.
  if not last or math.abs(time - last) > tonumber(pause) then since = time end
  redis.call('set', KEYS[10], string.format('%d %d', time, since))
  return time - since < tonumber(pause)
end

-- The reply with the message was lost, so the delivery does not count.
local function undo_delivery(job_id)
  local record = read(job_id)
  if record and record.status == 'running' and record.worker == worker then
    record.status, record.worker = 'pending', '-'
    record.deliveries = record.deliveries - 1
    write(job_id, record, 0)
  end
end

if not worker and is_too_early() then return 0 end
for priority = 1, 3 do
  local which = {'idle', idle, '-', '+', limit, worker}
  local held = redis.call('xpending', KEYS[priority], group, unpack(which))
  for _, message in ipairs(held) do
    local entry = message[1]
    if not runs[priority .. ':' .. entry] then
      local found = redis.call('xrange', KEYS[priority], entry, entry)[1]
      if found then
        local job_id, body = found[2][2], found[2][4]
        if worker and not runs[job_id] then undo_delivery(job_id) end
        add(priority, job_id, body, '')
      end
      remove(priority, group, entry)
    end
  end
  if #held == limit then is_full = 1 end
end
return is_full
