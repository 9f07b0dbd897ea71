#!lua flags=allow-oom
-- Takes messages for a worker, those of a higher priority first, and begins their deliveries.
--
-- ARGV: the group, the worker, the largest number of messages, and the deliveries without an
-- outcome after which a job is a suspect.
-- Returns two lists. The first one has for each message its priority, its entry, the job's id, the
-- body, `begun` or why the delivery was not begun, and the record. A message that cannot be read is
-- removed, and returned without an id. If there is no message, the second list has for each stream
-- the last entry that a worker was given.

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

-- A suspect may end its worker, so no message after it is taken: it would have to wait until the
-- worker seems dead.
local taken, has_suspect = {}, false
for priority = 1, 3 do
  if room == 0 or has_suspect then break end
  local reply = redis.call(
    'xreadgroup', 'group', group, worker, 'count', room, 'streams', KEYS[priority], '>')
  for _, found in ipairs(reply and reply[1][2] or {}) do
    local entry, id_name, job_id, body_name, body = found[1], unpack(found[2])
    if id_name == 'id' and body_name == 'body' then
      if has_suspect then
        remove(priority, group, entry)
        add(priority, job_id, body, '')
      else
        local beginning, record = try_begin(job_id)
        has_suspect = beginning == 'suspect'
        table.insert(taken, {priority, entry, job_id, body, beginning, record})
        room = room - 1
      end
    else
      remove(priority, group, entry)
      table.insert(taken, {priority, entry, '', table.concat(found[2], ' '), 'removed', ''})
    end
  end
end
if #taken > 0 then return {taken, {}} end

local positions = {}
for priority = 1, 3 do positions[priority] = group_of(priority)['last-delivered-id'] end
return {taken, positions}
