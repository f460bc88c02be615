#!lua flags=allow-oom
-- record.lua: tell the polls that held reservations are written down in PostgreSQL.
--
-- KEYS[1] {o:7}:reservations  hash  reservation id -> state:buyer:units[:order:expires_at_ms]
-- ARGV    reservation id, order number, expires_at_ms: three for each reservation
--
-- Returns one word for each: PLACED, or KEPT when the reservation is unknown here or has already ended, which changes
-- nothing: a status never goes back. Needs no free memory (allow-oom): whoever has a hold shall hear that it is placed.

local answers = {}
for i = 1, #ARGV, 3 do
    local record = redis.call('HGET', KEYS[1], ARGV[i])
    local buyer, units = string.match(record or '', '^held:(%d+):(%d+)$')
    if buyer then
        redis.call('HSET', KEYS[1], ARGV[i], table.concat({'placed', buyer, units, ARGV[i + 1], ARGV[i + 2]}, ':'))
        answers[#answers + 1] = 'PLACED'
    else
        answers[#answers + 1] = 'KEPT'
    end
end
return answers
