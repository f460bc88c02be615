#!lua
-- release.lua: give back leases whose loads failed.
--
-- KEYS    lease  string  the token of the one who loads it now
-- ARGV[1] token   [2] milliseconds for which nobody shall try again; 0 for at once
--
-- Returns how many were the caller's.

local mine = 0
for _, lease in ipairs(KEYS) do
    if redis.call('GET', lease) == ARGV[1] then
        mine = mine + 1
        if ARGV[2] == '0' then
            redis.call('DEL', lease)
        else
            redis.call('PEXPIRE', lease, ARGV[2])
        end
    end
end
return mine
