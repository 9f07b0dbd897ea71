-- The slots of a job are a text such as `KEY 5 KEY 2`: at most 5 jobs hold a slot of the first key,
-- and at most 2 of the second one. A hash for each key has the holders, with the fences of their
-- runs. A sorted set for each key is the line of the jobs that wait, each with its slots before its
-- id.

local PAIR = '(%S+) (%d+)'
local MOST_STEPS = 100

-- Return whether a holder still has its slot. If it does not run yet, the fence is its next one.
local function has_slot(job_id, fence)
  local record = read(job_id)
  if not record then return false end
  if record.status == 'running' then return record.fence == fence end
  return record.status == 'pending' and record.fence + 1 == fence
end

-- Return the first key of which a job gets no slot, or nil. Some keys may be known to be full.
local function find_full(slots, job_id, full)
  for key, most in string.gmatch(slots, PAIR) do
    if full[key] then return key end
    local holders = KEYS[12] .. key
    local allowed = most + redis.call('hexists', holders, job_id)
    if redis.call('hlen', holders) >= allowed then
      -- A holder may have lost its slot without giving it back, as when its worker was killed.
      local held = redis.call('hgetall', holders)
      for at = 1, #held, 2 do
        local is_lost = held[at] ~= job_id and not has_slot(held[at], tonumber(held[at + 1]))
        if is_lost then redis.call('hdel', holders, held[at]) end
      end
      if redis.call('hlen', holders) >= allowed then return key end
    end
  end
end

local function hold(slots, job_id, fence)
  for key in string.gmatch(slots, PAIR) do redis.call('hset', KEYS[12] .. key, job_id, fence) end
end

-- Let a job wait in line behind those of its priority. If it waits already, it keeps its place.
local function wait(slots, job_id, priority)
  local first = priority * 1e12
  for key in string.gmatch(slots, PAIR) do
    local band = {first + 1e12, first, 'byscore', 'rev', 'limit', 0, 1, 'withscores'}
    local last = redis.call('zrange', KEYS[13] .. key, unpack(band))[2] or first
    redis.call('zadd', KEYS[13] .. key, 'nx', last + 1, slots .. '|' .. job_id)
  end
end

-- Give the free slots of a key to the first jobs in line, and move these into the streams. A job
-- that also needs a slot of another key, which is full, lets others pass.
local function give(key)
  local waiting, full = KEYS[13] .. key, {}
  for _, first in ipairs(redis.call('zrange', waiting, 0, MOST_STEPS - 1)) do
    local slots, job_id = string.match(first, '^([^|]*)|(.*)$')
    local missing = find_full(slots or '', job_id, full)
    if missing == key then return end
    if missing then
      full[missing] = true
    else
      redis.call('zrem', waiting, first)
      local record = read(job_id or '')
      -- It may have ended, or begun: the lists of its other keys still have it.
      if record and record.status == 'pending' and start(job_id) then
        hold(slots, job_id, record.fence + 1)
      end
    end
  end
end

-- Give back the slots of a run that has ended. Its job may wait for them.
local function give_back(run, record)
  local freed = {}
  for key in string.gmatch(run.slots, PAIR) do
    local is_freed = redis.call('hdel', KEYS[12] .. key, run.job_id) == 1
    if is_freed then table.insert(freed, key) end
  end
  if run.waits == '1' then
    wait(run.slots, run.job_id, tonumber(run.priority))
    -- Its slots may have become free since it asked, and an aborted job ends now.
    local is_full = find_full(run.slots, run.job_id, {})
    if not is_full or record.abort == '1' then start(run.job_id) end
  end
  for _, key in ipairs(freed) do give(key) end
end
