#!lua flags=no-writes
-- lag.lua: how far the record of an offer is behind, also while this Redis is full.
--
-- KEYS[1] {o:7}:units   hash    waiting
-- KEYS[2] {o:7}:events  stream  its group `record`
--
-- Returns {events that wait, age of the oldest in ms by Redis's clock}. Changes nothing.

local waiting = math.max(0, tonumber(redis.call('HGET', KEYS[1], 'waiting') or 0))

-- What was read and not acknowledged is older than what nobody has read.
local function oldest()
    local read = '0-0'
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
        local facts = {}
        for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
        if facts['name'] == 'record' then
            if facts['pending'] > 0 then return redis.call('XPENDING', KEYS[2], 'record')[2] end
            read = facts['last-delivered-id']
        end
    end
    local unread = redis.call('XRANGE', KEYS[2], '(' .. read, '+', 'COUNT', 1)
    return unread[1] and unread[1][1]
end

if redis.call('XLEN', KEYS[2]) == 0 or waiting == 0 then return {waiting, 0} end
local event = oldest()
if not event then return {waiting, 0} end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
return {waiting, math.max(0, now_ms - tonumber(string.match(event, '^%d+')))}
