#!lua
-- install.lua: put an offer on the shelf of Redis, or change what may change while it lies there.
--
-- KEYS[1] {o:7}:units   hash    quantity, available, held, sold, limit, epoch, state, opens_at_ms, closes_at_ms
-- KEYS[2] {o:7}:events  stream  with the consumer group `record`
-- ARGV    quantity, limit, epoch, state (open, paused, closed), opens_at_ms, closes_at_ms,
--         MAKE or KEEP: whether an offer that Redis does not know may be made
--
-- Returns INSTALLED for a new offer with all its units available, UPDATED when it lay there with this epoch (its
-- counters stay as they are), STALE when another epoch lies there, and MISSING when it is unknown and may not be made:
-- a Redis that lost its data must not look like a full shelf.

local quantity, limit, epoch, state, opens_at_ms, closes_at_ms, make = unpack(ARGV)

redis.call('XLEN', KEYS[2])  -- fails here, before anything is written, when it is no stream
local present = redis.call('HGET', KEYS[1], 'epoch')
if present and present ~= epoch then return 'STALE' end
if not present and make ~= 'MAKE' then return 'MISSING' end

if not present then
    redis.pcall('XGROUP', 'CREATE', KEYS[2], 'record', '0', 'MKSTREAM')  -- may be there when only the counters were lost
    redis.call('HSET', KEYS[1], 'quantity', quantity, 'available', quantity, 'held', 0, 'sold', 0, 'epoch', epoch,
               'taken', 0, 'waiting', 0)
end
redis.call('HSET', KEYS[1], 'limit', limit, 'state', state, 'opens_at_ms', opens_at_ms, 'closes_at_ms', closes_at_ms)
return present and 'UPDATED' or 'INSTALLED'
