#!lua flags=allow-oom
-- Ends runs. A run changes nothing if another delivery of its job has begun since.
--
-- ARGV: the group, and for each run the words below.
--   status      is empty if the record stays unchanged
--   deliveries  is empty if this count stays unchanged; so is blocked
--   ttl         milliseconds after which the record expires, or 0
--   delay       milliseconds until the job runs again; empty if it does not
--   letter_id   is empty if there is no dead letter; otherwise the body is the dead letter
--   waits       is 1 if the job waits for a slot of a limit
-- A fence of `+` marks a later stage of the chain. It changes only together with the run before it.
-- If the stage has a body, this is its message, and the stage is now pending. Otherwise the stage
-- will not run.
-- Returns 1 for each run, or 0 if another delivery has begun. Stages are left out.

local WORDS = {
  'priority', 'entry', 'job_id', 'fence', 'status', 'deliveries', 'blocked', 'fields', 'ttl',
  'delay', 'letter_id', 'body', 'waits',
}

local function change_record(run, record)
  if run.letter_id ~= '' then redis.call('hset', KEYS[8], run.letter_id, run.body) end
  record.status, record.worker, record.fields = run.status, '-', run.fields
  if run.deliveries ~= '' then record.deliveries = run.deliveries end
  if run.blocked ~= '' then record.blocked = run.blocked end
  write(run.job_id, record, tonumber(run.ttl))
end

local function change_message(run)
  local priority = tonumber(run.priority)
  local stream, entry, group = KEYS[priority], run.entry, ARGV[2]
  if run.delay ~= '' and #redis.call('xpending', stream, group, entry, entry, 1) > 0 then
    local found = redis.call('xrange', stream, entry, entry)[1]
    local due = run.delay ~= '0' and now() + run.delay or ''
    if found then add(priority, run.job_id, found[2][4], due) end
  end
  remove(priority, group, entry)
end

local function change_stage(run, record)
  local is_waiting = not record or record.status == 'waiting'
  if is_waiting or (run.body == '' and not has_ended(record)) then
    local stage = new_record()
    stage.status, stage.fields = run.status, run.fields
    write(run.job_id, stage, tonumber(run.ttl))
  end
  -- A stage that was aborted before its turn gets its message, because the message names the stages
  -- after it, which do not run either.
  if run.body ~= '' and (is_waiting or record.status == 'aborted') then
    add(tonumber(run.priority), run.job_id, run.body, '')
  end
end

local results, is_current = {}, false
for at = 3, #ARGV, #WORDS do
  local run = named(WORDS, at)
  local record = read(run.job_id)
  if run.fence == '+' then
    if is_current then change_stage(run, record) end
  else
    is_current = record ~= nil and record.fence == tonumber(run.fence)
    if is_current and run.status ~= '' and not has_ended(record) then change_record(run, record) end
    if is_current then
      change_message(run)
      if run.waits == '1' then
        step_aside(run.job_id, tonumber(run.priority), record.abort == '1')
      else
        give_back(run.job_id)
      end
    end
    table.insert(results, is_current and 1 or 0)
  end
end
return results
