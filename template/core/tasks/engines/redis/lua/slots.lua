-- The slots that a job needs are a text such as `KEY 5 KEY 2`: at most 5 jobs hold a slot of the
-- first key, and at most 2 of the second one. The hash KEYS[12] has this text for each job that
-- holds its slots or waits for them. Each key has a set of the jobs that hold a slot (13), and a
-- sorted set, the line of the jobs that wait (14). A job waits in one line only, for a full key.

local PAIR = '(%S+) (%d+)'
local SAMPLE = 10
local MOST_STEPS = 100

local function slots_of(job_id)
  return redis.call('hget', KEYS[12], job_id) or ''
end

-- Remove holders that have ended without giving their slots back, for example because the server
-- lost its last changes. A key may have thousands of holders, so look at only some of them.
local function remove_lost(holders)
  for _, job_id in ipairs(redis.call('srandmember', holders, SAMPLE)) do
    local record = read(job_id)
    if not record or has_ended(record) then redis.call('srem', holders, job_id) end
  end
end

-- Return the first key that has no slot for a job, or nil.
local function find_full(job_id)
  for key, most in string.gmatch(slots_of(job_id), PAIR) do
    local holders = KEYS[13] .. key
    local allowed = most + redis.call('sismember', holders, job_id)
    if redis.call('scard', holders) >= allowed then
      remove_lost(holders)
      if redis.call('scard', holders) >= allowed then return key end
    end
  end
end

local function hold(job_id)
  for key in string.gmatch(slots_of(job_id), PAIR) do
    redis.call('sadd', KEYS[13] .. key, job_id)
  end
end

-- Put a job into a key's line, behind the jobs of its priority. A job in that line keeps its place.
local function wait(job_id, key, priority)
  for other in string.gmatch(slots_of(job_id), PAIR) do
    if other ~= key then redis.call('zrem', KEYS[14] .. other, job_id) end
  end
  local line, first = KEYS[14] .. key, priority * 1e12
  local band = {first + 1e12, first, 'byscore', 'rev', 'limit', 0, 1, 'withscores'}
  local last = redis.call('zrange', line, unpack(band))[2] or first
  redis.call('zadd', line, 'nx', last + 1, job_id)
end

-- Give the free slots of a key to the first jobs in line, and start these jobs. A job that also
-- needs a slot of another key, which is full, moves to the line of that key.
local function give(key)
  local line = KEYS[14] .. key
  for step = 1, MOST_STEPS + 1 do
    local job_id, place = unpack(redis.call('zrange', line, 0, 0, 'withscores'))
    if not job_id then return end
    local full = find_full(job_id)
    if full == key then return end
    redis.call('zrem', line, job_id)
    if step > MOST_STEPS then
      -- The script must stay short. This job looks for its slots itself, and `end` then continues.
      start(job_id)
    elseif full then
      wait(job_id, full, math.floor(place / 1e12))
    elseif start(job_id) then
      hold(job_id)
    end
  end
end

-- Take the slots of a job away, and give them to the next jobs in line.
local function give_back(job_id)
  local slots = slots_of(job_id)
  redis.call('hdel', KEYS[12], job_id)
  for key in string.gmatch(slots, PAIR) do
    redis.call('srem', KEYS[13] .. key, job_id)
    redis.call('zrem', KEYS[14] .. key, job_id)
    give(key)
  end
end

-- Let a job wait whose run found no slot. Its message is already scheduled.
local function step_aside(job_id, priority, is_aborted)
  local full = find_full(job_id)
  if is_aborted or not full then return start(job_id) end
  wait(job_id, full, priority)
  for key in string.gmatch(slots_of(job_id), PAIR) do give(key) end
end
