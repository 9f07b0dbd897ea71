#!lua
-- Adds messages with their records. A job that is in the queue, or has ended, is unchanged.
--
-- ARGV: for each job the words below. The priority is 1, 2 or 3. `due` is in milliseconds since
-- 1970, or empty if the job is due at once. A later stage of a chain has a record, and no body yet.
-- Its `ttl` is the milliseconds after which the record expires. All other jobs have the `ttl` 0.

local WORDS = {'job_id', 'priority', 'due', 'ttl', 'record', 'body'}

for at = 2, #ARGV, #WORDS do
  local job = named(WORDS, at)
  local known = read(job.job_id)
  if job.ttl ~= '0' then
    if not known then redis.call('set', key_of(job.job_id), job.record, 'px', job.ttl) end
  elseif not known or known.status == 'waiting' then
    redis.call('set', key_of(job.job_id), job.record)
    add(tonumber(job.priority), job.job_id, job.body, job.due)
  end
end
