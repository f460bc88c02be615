#!lua flags=allow-oom
-- trim.lua: forget events that PostgreSQL has committed, some time after it did.
--
-- KEYS[1] {o:7}:events  stream  its group `record`
-- ARGV[1] how long an event is kept, in ms: long enough to read it again when PostgreSQL itself lost its last commits
--
-- Returns how many were removed. Never removes what is open or has not been read: it stops at the oldest such event.
-- Needs no free memory (allow-oom): it makes some.

local function parts(id)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms), tonumber(seq)
end

local function earlier(a, b)
    local a_ms, a_seq = parts(a)
    local b_ms, b_seq = parts(b)
    if a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq) then return a end
    return b
end

local clock = redis.call('TIME')
local limit = string.format('%.0f-0', clock[1] * 1000 + math.floor(clock[2] / 1000) - tonumber(ARGV[1]))

local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if #groups == 0 then return 0 end  -- the stream was lost and began again: nobody has read any of it

for _, group in ipairs(groups) do
    local facts = {}
    for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
    local read_ms, read_seq = parts(facts['last-delivered-id'])
    limit = earlier(limit, string.format('%.0f-%.0f', read_ms, read_seq + 1))

    local open = redis.call('XPENDING', KEYS[1], facts['name'])
    if open[1] > 0 then limit = earlier(limit, open[2]) end
end

return redis.call('XTRIM', KEYS[1], 'MINID', limit)
