#!lua
-- invalidate.lua: forget entries and take back the leases of whoever loads them now, so that nothing old is stored
-- afterwards; then tell all processes.
--
-- KEYS[1..n]     entry   string
-- KEYS[n+1..2n]  lease   string
-- ARGV[1] channel   [2] message
--
-- Returns how many entries there were.

local count = #KEYS / 2
local gone = 0
for i = 1, count do
    gone = gone + redis.call('DEL', KEYS[i])
    redis.call('DEL', KEYS[count + i])
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return gone
