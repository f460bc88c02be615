#!lua flags=allow-oom
-- acknowledge.lua: PostgreSQL has committed these events; they wait no longer.
--
-- KEYS[1] {o:7}:units   hash    waiting
-- KEYS[2] {o:7}:events  stream  its group `record`
-- ARGV    stream ids
--
-- Returns how many of them the group still had open: an event that was acknowledged before counts once. The entries
-- stay in the stream until trim.lua removes them. Needs no free memory (allow-oom): the way out of a full Redis.

local waiting = redis.call('HGET', KEYS[1], 'waiting')
local open = redis.call('XACK', KEYS[2], 'record', unpack(ARGV))
if open > 0 and waiting then
    -- Not below none: an operator may have had the group read again what had been counted before.
    redis.call('HSET', KEYS[1], 'waiting', math.max(0, waiting - open))
end
return open
