#!lua flags=no-writes
-- acknowledged.lua: what PostgreSQL has said of an offer that it can only take back by losing commits.
--
-- KEYS[1] {o:7}:units   hash    sold
-- KEYS[2] {o:7}:events  stream  its group `record`
--
-- Returns {id of an event, units sold}. The event was acknowledged, as was each one before it: so it was written down;
-- 0-0 when nothing proves that of any. Units become sold here after they are sold in PostgreSQL.

local sold = tonumber(redis.call('HGET', KEYS[1], 'sold') or 0)
if redis.call('EXISTS', KEYS[2]) == 0 then return {'0-0', sold} end

for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    local facts = {}
    for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
    if facts['name'] == 'record' then
        if facts['pending'] == 0 then return {facts['last-delivered-id'], sold} end

        local open = redis.call('XPENDING', KEYS[2], 'record')
        local before = redis.call('XREVRANGE', KEYS[2], '(' .. open[2], '-', 'COUNT', 1)
        return {before[1] and before[1][1] or '0-0', sold}
    end
end
return {'0-0', sold}
