#!lua
-- adjust.lua: set the counters of an offer to what its records add up to, unless it has sold since they were read.
--
-- KEYS[1] {o:7}:units  hash  available, held, sold, taken
-- ARGV    available, held, sold, taken as they were read, then available, held, sold as they should be
--
-- Returns ADJUSTED, or MOVED when a counter is another one than was read: then nothing is changed.

local present = redis.call('HMGET', KEYS[1], 'available', 'held', 'sold', 'taken')
for i = 1, 4 do
    if present[i] ~= ARGV[i] then return 'MOVED' end
end
redis.call('HSET', KEYS[1], 'available', ARGV[5], 'held', ARGV[6], 'sold', ARGV[7])
return 'ADJUSTED'
