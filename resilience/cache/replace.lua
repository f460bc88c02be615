#!lua
-- replace.lua: write an entry unless it changed since it was read.
--
-- KEYS[1] entry   string
-- KEYS[2] lease   string  whoever loads it now: what it brings is older than this write
-- ARGV[1] the header of the entry that was read, or '' for none   [2] the new entry   [3] its life in milliseconds, 0 for
-- always   [4] channel   [5] message
--
-- Returns 1 when it was written, 0 when somebody else was first.

local entry = redis.pcall('GET', KEYS[1])
if type(entry) == 'table' then
    entry = false -- no string at all: MGET, which the caller read it with, calls that nothing
end
if (entry and string.sub(entry, 1, 37) or '') ~= ARGV[1] then
    return 0
end
if ARGV[3] == '0' then
    redis.call('SET', KEYS[1], ARGV[2])
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
