#!lua
-- reserve.lua: hold units of one offer for a batch of buyers, each exactly once.
--
-- KEYS[1] {o:7}:units         hash    quantity, available, held, sold, limit, epoch, state, opens_at_ms, closes_at_ms,
--                                     taken, waiting
-- KEYS[2] {o:7}:reservations  hash    reservation id -> state:buyer:units[:order:expires_at_ms]
-- KEYS[3] {o:7}:buyers        hash    buyer id -> units held and owned:their reservation ids, comma-separated
-- KEYS[4] {o:7}:events        stream  one entry for each new hold, read by the drain
-- ARGV[1] the most events that may wait
-- ARGV[2..] reservation id, buyer id, units, reason: four for each wish. Reason `late` is for money that came after its
--           hold had ended: it asks for no open window; otherwise the reason is empty.
--
-- Returns {ring (1 or 0), epoch, now in ms, one word for each wish}:
--   RESERVED       held now                        REPEATED  held by an earlier call with the same reservation
--   SOLD_OUT       fewer units left than wished    MISMATCH  the reservation is another buyer's or has other units
--   LIMIT_REACHED  the buyer's limit               NOT_OPEN, CLOSED, PAUSED  by the sale's state and Redis's clock
--   BUSY           too many events wait            INVALID   a wish that is no wish
--   UNAVAILABLE    Redis does not know this offer: it lost it, or never had it. Nothing is made up.
--
-- First decides for everybody, then writes: a script that fails half-way keeps what it wrote. Units go down first and
-- the event goes out last, so that a failure in between sells less, never more. A batch answers as its wishes would
-- one after the other.

local units_key, reservations_key, buyers_key, events_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local BATCH_MAXIMUM = 128      -- wishes: a script that has written cannot be stopped, and 64 take 0.6 ms
local RING_EVERY_MS = 100      -- the doorbell: ten rings a second wake the drain soon enough

-- A whole number from 1 to 10^15 or nil. Bare tonumber takes nan, inf, 0x10 and 1e3 for numbers.
local function whole(text)
    if text and #text <= 15 and string.match(text, '^[1-9]%d*$') then
        return tonumber(text)
    end
    return nil
end

local wishes = (#ARGV - 1) / 4
if wishes < 1 or wishes > BATCH_MAXIMUM or wishes ~= math.floor(wishes) or not whole(ARGV[1]) then
    return redis.error_reply('BADARGS reserve.lua takes 1 to 128 wishes of four arguments')
end

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local known = redis.call('HMGET', units_key, 'available', 'held', 'limit', 'epoch', 'state', 'opens_at_ms',
                         'closes_at_ms', 'rang_at_ms', 'waiting')
local available, limit, epoch = tonumber(known[1]), tonumber(known[3]), tonumber(known[4])

-- What the offer as a whole answers to everybody whose reservation it does not know yet; nil when it sells.
local function closed_door()
    if not available or not limit or not epoch then return 'UNAVAILABLE' end
    if known[5] == 'paused' then return 'PAUSED' end
    return nil
end

-- The same by the sale's window.
local function closed_window()
    if known[5] == 'closed' or now_ms >= tonumber(known[7]) then return 'CLOSED' end
    if now_ms < tonumber(known[6]) then return 'NOT_OPEN' end
    return nil
end

local waiting, most_waiting = tonumber(known[9] or 0), tonumber(ARGV[1])
local door = closed_door()
local window = not door and closed_window()
redis.call('XLEN', events_key)  -- fails here, before anything is written, when the stream is no stream
local taken_now = {}       -- reservation id -> record of a wish that this batch grants
local standings = {}       -- buyer id -> {units, reservation ids}, as read and as this batch adds to them

local function standing_of(buyer)
    if not standings[buyer] then
        local units, ids = string.match(redis.call('HGET', buyers_key, buyer) or '0:', '^(%d+):(.*)$')
        standings[buyer] = {units = tonumber(units), ids = ids}
    end
    return standings[buyer]
end

local granted, units_granted = {}, 0

local function decide(reservation, buyer, units_text, reason)
    local units = whole(units_text)
    if not units or not whole(buyer) or #reservation < 1 or #reservation > 48 then return 'INVALID' end
    if reason ~= '' and reason ~= 'late' then return 'INVALID' end

    local record = taken_now[reservation] or redis.call('HGET', reservations_key, reservation)
    if record then
        local same = string.match(record, '^%a+:' .. buyer .. ':' .. units_text .. '$')
            or string.match(record, '^%a+:' .. buyer .. ':' .. units_text .. ':')
        return same and 'REPEATED' or 'MISMATCH'
    end

    if door then return door end
    if waiting + #granted >= most_waiting then return 'BUSY' end
    if window and reason ~= 'late' then return window end
    local standing = standing_of(buyer)
    if standing.units + units > limit then return 'LIMIT_REACHED' end
    if units > available then return 'SOLD_OUT' end

    available = available - units
    standing.units = standing.units + units
    standing.ids = standing.ids == '' and reservation or standing.ids .. ',' .. reservation
    taken_now[reservation] = 'held:' .. buyer .. ':' .. units_text
    return 'RESERVED'
end

local answers = {}
for i = 0, wishes - 1 do
    local reservation, buyer, units, reason = ARGV[2 + i * 4], ARGV[3 + i * 4], ARGV[4 + i * 4], ARGV[5 + i * 4]
    answers[i + 1] = decide(reservation, buyer, units, reason)
    if answers[i + 1] == 'RESERVED' then
        granted[#granted + 1] = {reservation, buyer, units, reason}
        units_granted = units_granted + tonumber(units)
    end
end

local ring = 0
if #granted > 0 then
    redis.call('HINCRBY', units_key, 'available', -units_granted)
    redis.call('HINCRBY', units_key, 'held', units_granted)
    redis.call('HINCRBY', units_key, 'taken', units_granted)
    redis.call('HINCRBY', units_key, 'waiting', #granted)
    for _, wish in ipairs(granted) do
        local standing = standings[wish[2]]
        redis.call('HSET', buyers_key, wish[2], string.format('%d:%s', standing.units, standing.ids))
        redis.call('HSET', reservations_key, wish[1], taken_now[wish[1]])
    end
    if now_ms - tonumber(known[8] or 0) >= RING_EVERY_MS then
        ring = 1
        redis.call('HSET', units_key, 'rang_at_ms', string.format('%.0f', now_ms))
    end
    for _, wish in ipairs(granted) do
        redis.call('XADD', events_key, '*', 'type', 'held', 'reservation', wish[1], 'buyer', wish[2],
                   'units', wish[3], 'epoch', known[4], 'reason', wish[4])
    end
end

return {ring, known[4] or '0', string.format('%.0f', now_ms), unpack(answers)}
