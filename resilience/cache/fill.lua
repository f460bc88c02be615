#!lua
-- fill.lua: store what was loaded, for those keys whose lease the loader still holds, and end the lease.
--
-- KEYS[1..n]     entry   string
-- KEYS[n+1..2n]  lease   string  the token of the one who loads it now
-- ARGV[1] token   [2..] for each key the entry and its life in milliseconds
--
-- Returns 1 for each key that was stored, 0 where the lease ran out, went to somebody else or was taken back by an
-- invalidation: what was loaded may be old.

local count = #KEYS / 2
local stored = {}

for i = 1, count do
    if redis.call('GET', KEYS[count + i]) == ARGV[1] then
        redis.call('SET', KEYS[i], ARGV[2 * i], 'PX', ARGV[2 * i + 1])
        redis.call('DEL', KEYS[count + i])
        stored[i] = 1
    else
        stored[i] = 0
    end
end
return stored
