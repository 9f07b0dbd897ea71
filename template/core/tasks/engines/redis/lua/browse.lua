#!lua flags=no-writes
-- Lists jobs of one state, a page at a time.
--
-- ARGV: the state (pending, scheduled or running), the group, and the largest number of jobs. The
-- next page needs four more words, which describe the last job of the page before: its priority,
-- its time in milliseconds, and its place: `set` and a job's id, or `stream` and an entry. The job
-- may be gone.
-- Returns for each job these four words, the job's id, and the record. After the jobs comes 1 if
-- there are more of them. A page with much data is shorter.

local STEP = 8
local ENOUGH = 1024 * 1024 -- bytes, after which the page ends
local LARGEST_RECORD = 256 * 1024 -- bytes; a larger record was not written by us

local state, group, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local last_priority, last_score = tonumber(ARGV[5] or 0), tonumber(ARGV[6]) and ARGV[6] or '0'
local last_kind, last_place = ARGV[7], ARGV[8]
local last_time = tonumber(last_score)
local time, size, page = now(), 0, {}

local function is_before(entry, other)
  local first, number = string.match(entry, '(%d+)-(%d+)')
  local second, other_number = string.match(other, '(%d+)-(%d+)')
  if first == second then return tonumber(number) < tonumber(other_number) end
  return tonumber(first) < tonumber(second)
end

local function time_of(entry)
  return string.match(entry, '^%d+')
end

local function read_entries(priority, first, last, count)
  local found = {}
  local entries = redis.call('xrange', KEYS[priority], first, last, 'count', count)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    local job_id = fields[1] == 'id' and fields[2] or ''
    for _, word in ipairs(fields) do size = size + #word end
    table.insert(found, {priority, time_of(entry[1]), 'stream', entry[1], job_id})
  end
  return found
end

-- A source is a function that returns its next jobs. This one has the entries that no worker has.
local function list_stream(priority)
  local stream_group = group_of(priority)
  local after = stream_group and stream_group['last-delivered-id'] or '0-0'
  if priority == last_priority then
    local place = last_place
    if last_kind == 'set' then
      local time_of_set = math.min(math.max(0, last_time), LARGEST_COUNT)
      place = string.format('%.0f-18446744073709551615', time_of_set)
    end
    if is_before(after, place) then after = place end
  end
  return function()
    local found = read_entries(priority, '(' .. after, '+', STEP)
    if #found > 0 then after = found[#found][4] end
    return found
  end
end

local function list_held(priority)
  local is_last = priority == last_priority and last_kind == 'stream'
  local after = is_last and '(' .. last_place or '-'
  return function()
    local found = {}
    if not group_of(priority) then return found end
    for _, held in ipairs(redis.call('xpending', KEYS[priority], group, after, '+', STEP)) do
      after = '(' .. held[1]
      -- A worker may hold an entry that was deleted. It becomes a job without an id.
      local entry = read_entries(priority, held[1], held[1], 1)[1]
      table.insert(found, entry or {priority, time_of(held[1]), 'stream', held[1], ''})
    end
    return found
  end
end

-- Return how many jobs of a set come before the page.
local function find_start(priority)
  local set = KEYS[priority + 3]
  local is_last = priority == last_priority
  if not last_place or (state == 'pending' and not is_last) then return 0 end
  if is_last and last_kind == 'set' then
    local score = redis.call('zscore', set, last_place)
    if score and tonumber(score) == last_time then
      return redis.call('zrank', set, last_place) + 1
    end
  end
  -- Scheduled jobs of one time are in the order of their priorities.
  local are_over = state == 'scheduled' and priority < last_priority
  return redis.call('zcount', set, '-inf', are_over and last_score or '(' .. last_score)
end

local function list_set(priority)
  local set = KEYS[priority + 3]
  local start, stop = find_start(priority), redis.call('zcount', set, '-inf', time)
  if state == 'scheduled' then start, stop = math.max(start, stop), math.huge end
  return function()
    local found = {}
    local most = math.min(start + STEP, stop) - 1
    if most < start then return found end
    local jobs = redis.call('zrange', set, start, most, 'withscores')
    for at = 1, #jobs, 2 do
      table.insert(found, {priority, jobs[at + 1], 'set', jobs[at], jobs[at]})
    end
    start = start + #jobs / 2
    return found
  end
end

local function read_record(job_id)
  local stored = redis.pcall('get', key_of(job_id))
  if type(stored) ~= 'string' or #stored > LARGEST_RECORD then return '' end
  return stored
end

local function add_job(job)
  local place, job_id = job[4], job[5]
  local record = read_record(job_id)
  size = size + #place + #job_id + #record
  table.insert(page, {job[1], job[2], job[3], place, job_id, record})
end

-- Add the jobs of several sources, the earliest first, and return whether there are more of them.
local function add_all(sources)
  local found = {}
  local function time_of_next(number)
    return found[number][1] and tonumber(found[number][1][2])
  end
  for number in ipairs(sources) do found[number] = {} end
  while true do
    local best
    for number, list in ipairs(sources) do
      if #found[number] == 0 then found[number] = list() end
      local due = time_of_next(number)
      if due and (not best or due < time_of_next(best)) then best = number end
    end
    if not best then return false end
    if #page == limit or (#page > 0 and size > ENOUGH) then return true end
    add_job(table.remove(found[best], 1))
  end
end

local more = false
if state == 'scheduled' then
  more = add_all({list_set(1), list_set(2), list_set(3)})
else
  for priority = math.max(1, last_priority), 3 do
    local sources = {list_held}
    if state == 'pending' then sources = {list_stream, list_set} end
    for number, list in ipairs(sources) do sources[number] = list(priority) end
    more = more or add_all(sources)
    if more then break end
  end
end
return {page, more and 1 or 0}
