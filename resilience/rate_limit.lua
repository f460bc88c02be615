-- rate_limit.lua: admit one request under all its limits, or say for each how long it has to wait. All or nothing.
--
-- KEYS[i]                 string  microseconds since the epoch at which all that was admitted is paid for; ends then
-- ARGV[2i-1], ARGV[2i]    for KEYS[i]: microseconds that one costs, and how many may come at once
--
-- Returns a number for each key: 0, or the microseconds until it would be admitted. Unless all are 0, changes nothing.
-- The clock is Redis's own: processes on several machines need not agree on the time.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local waits, paid_at = {}, {}
local refused = false

for i, key in ipairs(KEYS) do
  local cost, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local free_at = tonumber(redis.call('GET', key) or now) or now
  -- Never more than a whole burst ahead: else a clock that was set back would refuse for as long as it was wrong.
  free_at = math.min(math.max(free_at, now), now + cost * burst)
  waits[i] = math.max(0, free_at - now - cost * (burst - 1))
  paid_at[i] = free_at + cost
  refused = refused or waits[i] > 0
end

if not refused then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', paid_at[i]), 'PX', math.ceil((paid_at[i] - now) / 1000))
  end
end
return waits
