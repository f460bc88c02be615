#!lua
-- acquire.lua: read entries, and lease those that have to be loaded, in one step for any number of keys.
--
-- KEYS[1..n]     entry   string  a header of 37 bytes, then the value; see envelope.py
-- KEYS[n+1..2n]  lease   string  the token of the one who loads it now
-- ARGV[1] token   [2] milliseconds the lease lasts   [3] now in ms   [4] milliseconds the caller listens; 0 for ever
-- [5] milliseconds a lease lasts of whoever has stopped listening   [6..] for each key the header of an entry that the
-- caller wants to replace although it is fresh, or ''
--
-- A Redis that hung finds questions of callers that have gone. A lease of theirs keeps everybody from loading, so it lasts
-- for a moment only. For a moment, because a caller whose clock is slow looks just the same, and does load.
--
-- Returns {entry or false, 1 when the caller holds the lease else 0} for each key. A fresh entry is leased to nobody,
-- unless the caller saw this very one; what has no readable time in its header counts as stale.

local count = #KEYS / 2
local token, lease_ms, now_ms, listens_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}

local time = redis.call('TIME')
if listens_ms > 0 and time[1] * 1000 + math.floor(time[2] / 1000) - now_ms >= listens_ms then
    lease_ms = math.min(lease_ms, ARGV[5])
end

for i = 1, count do
    local entry = redis.pcall('GET', KEYS[i])
    if type(entry) == 'table' then
        entry = '' -- no string at all: somebody else's, to be overwritten
    end
    local fresh_until = entry and string.match(entry, '^1(%d%d%d%d%d%d%d%d%d%d%d%d%d)')
    local seen = entry and ARGV[5 + i] ~= '' and string.sub(entry, 1, 37) == ARGV[5 + i]
    if fresh_until and not seen and tonumber(fresh_until) > now_ms then
        found[#found + 1] = entry
        found[#found + 1] = 0
    else
        local mine = redis.call('SET', KEYS[count + i], token, 'NX', 'PX', lease_ms)
            or redis.call('GET', KEYS[count + i]) == token
        found[#found + 1] = entry
        found[#found + 1] = mine and 1 or 0
    end
end
return found
