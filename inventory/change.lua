#!lua
-- change.lua: add units to an offer or take free ones away, once for each change.
--
-- KEYS[1] {o:7}:units    hash  quantity, available, epoch
-- KEYS[2] {o:7}:changes  hash  id of a stock change -> units it moved
-- ARGV    id of the change, units (negative: take away), epoch of the change
--
-- Returns the units moved: all of them when they come, as many as are free when they go, and the same again for a
-- change that was made before. Returns STALE, and changes nothing, when this Redis was filled after the change was
-- asked for (it holds its result already), and MISSING when it does not know the offer.

local id, units, epoch = ARGV[1], ARGV[2], ARGV[3]
if not string.match(units, '^-?[1-9]%d*$') or #units > 15 then
    return redis.error_reply('BADARGS change.lua takes a whole number of units')
end

local here = redis.call('HMGET', KEYS[1], 'epoch', 'available')
if not here[1] or not here[2] then return 'MISSING' end
local made_before = redis.call('HGET', KEYS[2], id)
if made_before then return made_before end
if here[1] ~= epoch then return 'STALE' end

local moved = math.max(tonumber(units), -tonumber(here[2])) + 0  -- of nothing free, -0 units, which no command takes
redis.call('HSET', KEYS[2], id, string.format('%.0f', moved))
-- Whatever fails in between leaves less for sale: what comes is counted before it is free, what goes is taken first.
local first, second = 'quantity', 'available'
if moved < 0 then first, second = second, first end
redis.call('HINCRBY', KEYS[1], first, string.format('%.0f', moved))
redis.call('HINCRBY', KEYS[1], second, string.format('%.0f', moved))
return string.format('%.0f', moved)
