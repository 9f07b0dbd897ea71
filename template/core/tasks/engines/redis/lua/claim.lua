#!lua flags=allow-oom
-- Lets jobs hold keys. A key that an unfinished job holds stays with that job.
--
-- ARGV: the milliseconds after which a key is free in any case, and for each key its name and the
-- claim of the job that asks for it: a signature, a space, and the job's id.
-- Returns the claim of each key's holder. If a holder has no record yet, its message is on its way.

local holders = {}
for at = 3, #ARGV, 2 do
  local key = KEYS[9] .. ARGV[at]
  local holder = redis.call('get', key)
  local record = holder and read(string.match(holder, ' (.*)') or '')
  if not holder or (record and has_ended(record)) then
    holder = ARGV[at + 1]
    redis.call('set', key, holder, 'px', ARGV[2])
  end
  table.insert(holders, holder)
end
return holders
