#!lua flags=allow-oom
-- Takes messages for a worker, the highest priority first, and begins their deliveries.
--
-- ARGV: the group, the worker, the largest number of messages, and the deliveries without an
-- outcome after which a job is a suspect.
-- Returns two lists. The first one has for each message its priority, its entry, the job's id, the
-- body, `begun` or the reason why it is not begun, and the record. A message that cannot be read is
-- removed, and returned without an id. If there is no message, the second list has for each stream
-- the last entry that a worker was given.

local STEP = 8
local ENOUGH = 1024 * 1024 -- bytes, after which no further message is taken

local group, worker, room, suspect_after = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function try_begin(job_id)
  local record = read(job_id) or new_record()
  local problem
  if has_ended(record) then
    problem = 'ended'
  elseif record.status == 'running' and record.worker == worker then
    problem = 'runs'
  elseif record.deliveries >= suspect_after or record.blocked > 0 then
    problem = 'suspect'
  end
  if problem then return problem, redis.call('get', key_of(job_id)) end
  return 'begun', begin(job_id, record, worker)
end

local taken, size, has_suspect = {}, 0, false

-- Take some messages of a priority, and return whether there may be more of them.
local function take_some(priority)
  local count = math.min(room, STEP)
  local stream = KEYS[priority]
  local reply = redis.call(
    'xreadgroup', 'group', group, worker, 'count', count, 'streams', stream, '>')
  local entries = reply and reply[1][2] or {}
  for _, found in ipairs(entries) do
    local entry, id_name, job_id, body_name, body = found[1], unpack(found[2])
    if id_name ~= 'id' or job_id == '' or body_name ~= 'body' then
      remove(priority, group, entry)
      table.insert(taken, {priority, entry, '', table.concat(found[2], ' '), 'removed', ''})
    elseif has_suspect then
      add(priority, job_id, body, '')
      remove(priority, group, entry)
    else
      local beginning, record = try_begin(job_id)
      -- A suspect may end its worker. Messages taken after it would then have to wait until the
      -- worker seems dead.
      has_suspect = beginning == 'suspect'
      table.insert(taken, {priority, entry, job_id, body, beginning, record})
      size = size + #body
      room = room - 1
    end
  end
  return #entries == count
end

for priority = 1, 3 do
  local may_have_more = true
  while may_have_more and room > 0 and size < ENOUGH and not has_suspect do
    may_have_more = take_some(priority)
  end
end
if #taken > 0 then return {taken, {}} end

local positions = {}
for priority = 1, 3 do positions[priority] = group_of(priority)['last-delivered-id'] end
return {taken, positions}
