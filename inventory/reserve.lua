#!lua
-- reserve.lua: hold units of one offer for a batch of buyers, each exactly once.
--
-- KEYS[1] {o:7}:units         hash    quantity, available, held, sold, limit, epoch, state, opens_at_ms, closes_at_ms,
--                                     taken, waiting, granted_at_ms (when a unit was held last)
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
-- one after the other. A call from Lua costs as much as what it does, so each hash is read and written once a batch.

local units_key, reservations_key, buyers_key, events_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local BATCH_MAXIMUM = 128      -- wishes: a script that has written cannot be stopped, and 64 take 0.3 ms
local RING_EVERY_MS = 100      -- the doorbell: ten rings a second wake the drain soon enough

-- Whether it is a whole number from 1 to 10^15. Bare tonumber takes nan, inf, 0x10 and 1e3 for numbers.
local function is_whole(text)
    return text and #text <= 15 and string.find(text, '^[1-9]%d*$')
end

-- A counter as Redis shall keep it: Lua itself would write large ones as 1e+15.
local function digits(number)
    return string.format('%.0f', number)
end

local wishes = (#ARGV - 1) / 4
if wishes < 1 or wishes > BATCH_MAXIMUM or wishes ~= math.floor(wishes) or not is_whole(ARGV[1]) then
    return redis.error_reply('BADARGS reserve.lua takes 1 to 128 wishes of four arguments')
end

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local known = redis.call('HMGET', units_key, 'available', 'held', 'limit', 'epoch', 'state', 'opens_at_ms',
                         'closes_at_ms', 'rang_at_ms', 'waiting', 'taken')
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

local reservation_ids, buyer_ids = {}, {}
for i = 1, wishes do
    reservation_ids[i], buyer_ids[i] = ARGV[i * 4 - 2], ARGV[i * 4 - 1]
end
local records = redis.call('HMGET', reservations_key, unpack(reservation_ids))
local standings                                -- what their buyers have, read when the first of them needs it

local granted, units_granted = {}, 0           -- places of the wishes that this batch grants, and their units
local taken_now, stands_now = {}, {}           -- reservation id -> record, buyer id -> standing, as left by this batch
local record_writes, standing_writes = {}, {}  -- the same as arguments of HSET: the last of a buyer's standings stays

-- What the buyer of a wish has by now: units, and their reservation ids or nil.
local function standing_of(i)
    standings = standings or redis.call('HMGET', buyers_key, unpack(buyer_ids))
    local standing = stands_now[buyer_ids[i]] or standings[i]
    if not standing then return 0 end
    local units, ids = string.match(standing, '^(%d+):(.*)$')
    return tonumber(units), ids
end

local function grant(i, units, owned, ids)
    local reservation, buyer = reservation_ids[i], buyer_ids[i]
    local record = 'held:' .. buyer .. ':' .. ARGV[i * 4]
    local standing = ids and digits(owned + units) .. ':' .. ids .. ',' .. reservation
        or ARGV[i * 4] .. ':' .. reservation
    available = available - units
    units_granted = units_granted + units
    taken_now[reservation], stands_now[buyer] = record, standing

    local pairs_before = #granted * 2
    record_writes[pairs_before + 1], record_writes[pairs_before + 2] = reservation, record
    standing_writes[pairs_before + 1], standing_writes[pairs_before + 2] = buyer, standing
    granted[#granted + 1] = i
end

local function decide(i)
    local reservation, buyer, units_text, reason = reservation_ids[i], buyer_ids[i], ARGV[i * 4], ARGV[i * 4 + 1]
    if not is_whole(units_text) or not is_whole(buyer) then return 'INVALID' end
    if #reservation < 1 or #reservation > 48 then return 'INVALID' end
    if reason ~= '' and reason ~= 'late' then return 'INVALID' end

    local record = taken_now[reservation] or records[i]
    if record then
        local same = string.match(record, '^%a+:' .. buyer .. ':' .. units_text .. '$')
            or string.match(record, '^%a+:' .. buyer .. ':' .. units_text .. ':')
        return same and 'REPEATED' or 'MISMATCH'
    end

    if door then return door end
    if waiting + #granted >= most_waiting then return 'BUSY' end
    if window and reason ~= 'late' then return window end
    local units = tonumber(units_text)
    local owned, ids = standing_of(i)
    if owned + units > limit then return 'LIMIT_REACHED' end
    if units > available then return 'SOLD_OUT' end

    grant(i, units, owned, ids)
    return 'RESERVED'
end

local answers = {}
for i = 1, wishes do
    answers[i] = decide(i)
end

local ring = 0
if #granted > 0 then
    redis.call('HSET', units_key, 'available', digits(available), 'held', digits(known[2] + units_granted),
               'taken', digits((known[10] or 0) + units_granted), 'waiting', digits(waiting + #granted),
               'granted_at_ms', digits(now_ms))
    redis.call('HSET', buyers_key, unpack(standing_writes))
    redis.call('HSET', reservations_key, unpack(record_writes))
    if now_ms - tonumber(known[8] or 0) >= RING_EVERY_MS then
        ring = 1
        redis.call('HSET', units_key, 'rang_at_ms', digits(now_ms))
    end
    for _, i in ipairs(granted) do
        redis.call('XADD', events_key, '*', 'type', 'held', 'reservation', reservation_ids[i], 'buyer', buyer_ids[i],
                   'units', ARGV[i * 4], 'epoch', known[4], 'reason', ARGV[i * 4 + 1])
    end
end

return {ring, known[4] or '0', digits(now_ms), unpack(answers)}
