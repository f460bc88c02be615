-- requests.lua: send requests that were written beforehand, in turn, and say as JSON what came of them.
--
--   wrk -t1 -s requests.lua http://127.0.0.1:8000 -- FILE
--
-- FILE holds whole requests, each ended by a zero byte. With one thread each is sent once, until none is left; then the
-- first one follows again.

local prepared, at = {}, 0

function init(arguments)
    local file = assert(io.open(arguments[1], 'rb'))
    for request in file:read('*a'):gmatch('([^%z]+)') do
        prepared[#prepared + 1] = request
    end
    file:close()
end

function request()
    at = at % #prepared + 1
    return prepared[at]
end

function done(summary, latency, requests)
    local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    io.write(string.format(
        'JSON {"requests": %d, "seconds": %f, "bytes": %d, "p50_ms": %f, "p99_ms": %f, "refused": %d, "lost": %d}\n',
        summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1000,
        latency:percentile(99) / 1000, summary.errors.status, lost))
end
