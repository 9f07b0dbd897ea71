#!lua
-- Writes as publishing does, so it fails when publishing would.

redis.call('set', KEYS[11], '', 'px', 1000)
