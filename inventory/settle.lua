#!lua flags=allow-oom
-- settle.lua: end holds of one offer exactly once, as sold or as available again.
--
-- KEYS[1] {o:7}:units         hash  quantity, available, held, sold, epoch
-- KEYS[2] {o:7}:reservations  hash  reservation id -> state:buyer:units[:order:expires_at_ms]
-- KEYS[3] {o:7}:buyers        hash  buyer id -> units held and owned:their reservation ids, comma-separated
-- ARGV    reservation id, the state it ends in (paid, released, expired, refused), epoch: three for each reservation
--
-- Returns one word for each: SETTLED, or UNKNOWN when it has ended already or was never here, or STALE when the effect
-- belongs to an earlier filling of this Redis, which holds its result already. Changes nothing for UNKNOWN and STALE.
-- Needs no free memory (allow-oom): holds end also in a Redis that is full.

local ENDS = {paid = true, released = true, expired = true, refused = true}

local epoch = redis.call('HGET', KEYS[1], 'epoch')
redis.call('HLEN', KEYS[3])  -- fails here, before anything is written, when it is no hash

for i = 1, #ARGV, 3 do
    if not ENDS[ARGV[i + 1]] then return redis.error_reply('BADARGS settle.lua: an ending is paid, released, ...') end
end

local function take_from(buyer, reservation, units)
    local had, ids = string.match(redis.call('HGET', KEYS[3], buyer) or '0:', '^(%d+):(.*)$')
    local others = {}
    for id in string.gmatch(ids, '[^,]+') do
        if id ~= reservation then others[#others + 1] = id end
    end
    if tonumber(had) <= units then
        redis.call('HDEL', KEYS[3], buyer)
    else
        redis.call('HSET', KEYS[3], buyer, string.format('%d:%s', had - units, table.concat(others, ',')))
    end
end

local function settle(reservation, ending, effect_epoch)
    if effect_epoch ~= epoch then return 'STALE' end

    local record = redis.call('HGET', KEYS[2], reservation) or ''
    local state, buyer, units, rest = string.match(record, '^(%a+):(%d+):(%d+)(.*)$')
    if state ~= 'held' and state ~= 'placed' then return 'UNKNOWN' end

    redis.call('HSET', KEYS[2], reservation, table.concat({ending, buyer, units}, ':') .. rest)
    redis.call('HINCRBY', KEYS[1], 'held', -units)
    if ending == 'paid' then
        redis.call('HINCRBY', KEYS[1], 'sold', units)
    else
        take_from(buyer, reservation, tonumber(units))
        redis.call('HINCRBY', KEYS[1], 'available', units)
    end
    return 'SETTLED'
end

local answers = {}
for i = 1, #ARGV, 3 do
    answers[#answers + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return answers
