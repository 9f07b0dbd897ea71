-- The functions that the other scripts share.
--
-- KEYS: the streams of the priorities high, normal and low (1 to 3), their sets of scheduled jobs
-- (4 to 6), the messages of the scheduled jobs (7), the stashed dead letters (8), the prefix of the
-- keys that jobs hold (9), the time of the last search for dead workers (10), a key for test writes
-- (11). For limits (see `slots.lua`): the slots that jobs need (12), the prefix of the sets of jobs
-- that hold a slot (13), and the prefix of the lines of jobs that wait for one (14).
-- ARGV[1]: the prefix of the records. The keys of a service share a hash tag, so a script may make
-- the key of a record from it, in a cluster too.
--
-- The record of a job is a string of three lines. The scripts read and write the first one:
--
--     status fence deliveries blocked abort worker
--
-- Default words at the end of this line may be left out. This saves memory, because each job that
-- ended lately has a record. The second line is the progress, and the third one has all other
-- fields. Both are JSON, which the scripts do not parse.
-- `waiting` is the status of a later stage of a chain. It has no message yet.

local FORM = '^(%l+) ?(%d*) ?(%d*) ?(%d*) ?([01]?) ?(%S*)\n([^\n]*)\n(.*)$'
local LONGEST_LINE = 64 -- bytes
local LARGEST_COUNT = 1e14 -- Lua writes larger numbers with an exponent

local function key_of(job_id)
  return ARGV[1] .. job_id
end

-- Return a record, or nil if there is no record or it cannot be read.
local function read(job_id)
  local stored = redis.pcall('get', key_of(job_id))
  if type(stored) ~= 'string' then return nil end
  -- A longer line was not written by us, and the pattern could take very long for it.
  local line_end = string.find(stored, '\n', 1, true)
  if not line_end or line_end > LONGEST_LINE then return nil end
  local status, fence, deliveries, blocked, abort, worker, progress, fields =
    string.match(stored, FORM)
  if not status then return nil end
  local record = {
    status = status,
    fence = tonumber(fence) or 0,
    deliveries = tonumber(deliveries) or 0,
    blocked = tonumber(blocked) or 0,
    abort = abort == '1' and '1' or '0',
    worker = worker ~= '' and worker or '-',
    progress = progress,
    fields = fields,
  }
  if math.max(record.fence, record.deliveries, record.blocked) >= LARGEST_COUNT then return nil end
  return record
end

-- Write a record, and return it as it is stored. `ttl` is in milliseconds; with 0 it never expires.
local function write(job_id, record, ttl)
  local line = record.status .. ' ' .. record.fence .. ' ' .. record.deliveries
  local rest = record.blocked .. ' ' .. record.abort .. ' ' .. record.worker
  if rest ~= '0 0 -' then line = line .. ' ' .. rest end
  local stored = line .. '\n' .. record.progress .. '\n' .. record.fields
  if ttl > 0 then
    redis.call('set', key_of(job_id), stored, 'px', ttl)
  else
    redis.call('set', key_of(job_id), stored)
  end
  return stored
end

local function new_record()
  return {
    status = 'pending',
    fence = 0,
    deliveries = 0,
    blocked = 0,
    abort = '0',
    worker = '-',
    progress = '',
    fields = '{}',
  }
end

local function has_ended(record)
  local status = record.status
  return status == 'completed' or status == 'failed' or status == 'aborted'
end

-- Add a message to the stream of its priority, or to its set if it is due later (milliseconds).
local function add(priority, job_id, body, due)
  if due == '' then
    redis.call('xadd', KEYS[priority], '*', 'id', job_id, 'body', body)
  else
    redis.call('hset', KEYS[7], job_id, body)
    redis.call('zadd', KEYS[priority + 3], due, job_id)
  end
end

-- Remove a scheduled message.
local function forget(priority, job_id)
  redis.call('zrem', KEYS[priority + 3], job_id)
  redis.call('hdel', KEYS[7], job_id)
end

-- Move a scheduled message into its stream.
local function move(priority, job_id)
  local body = redis.call('hget', KEYS[7], job_id)
  if body then add(priority, job_id, body, '') end
  forget(priority, job_id)
end

-- Move or forget a job's scheduled message, if there is one, and return whether there was.
local function leave_set(job_id, act)
  for priority = 1, 3 do
    if redis.call('zscore', KEYS[priority + 3], job_id) then
      act(priority, job_id)
      return true
    end
  end
end

local function start(job_id)
  return leave_set(job_id, move)
end

-- Remove an entry from its stream. If the message moves, first add it in its new place: a script
-- that fails does not undo its earlier writes.
local function remove(priority, group, entry)
  redis.call('xack', KEYS[priority], group, entry)
  redis.call('xdel', KEYS[priority], entry)
end

-- Begin a delivery, and return the record as it is stored.
local function begin(job_id, record, worker)
  record.status, record.worker, record.progress = 'running', worker, ''
  record.fence = record.fence + 1
  record.deliveries = record.deliveries + 1
  return write(job_id, record, 0)
end

-- Return the arguments from a position on as a table with these names.
local function named(names, at)
  local values = {}
  for number, name in ipairs(names) do values[name] = ARGV[at + number - 1] end
  return values
end

-- Return what the server says about a stream's group, or nil if it has none.
local function group_of(priority)
  local groups = redis.pcall('xinfo', 'groups', KEYS[priority])
  if groups.err or not groups[1] then return nil end
  local group = {}
  for at = 1, #groups[1], 2 do group[groups[1][at]] = groups[1][at + 1] end
  return group
end

-- The server's clock, in milliseconds since 1970. A worker's own clock may be wrong.
local function now()
  local time = redis.call('time')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
