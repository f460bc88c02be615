#!lua
-- acquire.lua: read entries, and lease those that have to be loaded, in one step for any number of keys.
--
-- KEYS[1..n]     entry   string  a header of 37 bytes, then the value; see envelope.py
-- KEYS[n+1..2n]  lease   string  the token of the one who loads it now
-- ARGV[1] token   [2] milliseconds the lease lasts   [3] now in ms   [4..] for each key the header of an entry that the
-- caller wants to replace although it is fresh, or ''
--
-- Returns {entry or false, 1 when the caller holds the lease else 0} for each key. A fresh entry is leased to nobody,
-- unless the caller saw this very one; what has no readable time in its header counts as stale.

local count = #KEYS / 2
local token, lease_ms, now_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = {}

for i = 1, count do
    local entry = redis.pcall('GET', KEYS[i])
    if type(entry) == 'table' then
        entry = '' -- no string at all: somebody else's, to be overwritten
    end
    local fresh_until = entry and string.match(entry, '^1(%d%d%d%d%d%d%d%d%d%d%d%d%d)')
    local seen = entry and ARGV[3 + i] ~= '' and string.sub(entry, 1, 37) == ARGV[3 + i]
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
