-- Requests for wrk: those of a file in turn, `########` in one replaced by a number that never comes twice.
-- Arguments: the file (for each request its length on a line, then its bytes) and the first of these numbers.

local requests, numbered, current, number = {}, {}, 0, 0

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   number = tonumber(arguments[2])
   while true do
      local length = file:read("*n")
      if not length then break end
      file:read(1)
      local request = file:read(length)
      local from, to = request:find("########", 1, true)
      requests[#requests + 1] = from and request:sub(1, from - 1) or request
      numbered[#requests] = from and request:sub(to + 1) or false
   end
end

function request()
   current = current % #requests + 1
   if not numbered[current] then return requests[current] end
   number = number + 1
   return requests[current] .. string.format("%08d", number) .. numbered[current]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format("TOLD %d %d %d %d %d %d\n", summary.requests, summary.duration, summary.bytes,
      errors.connect + errors.read + errors.write + errors.timeout, errors.status, latency:percentile(99)))
end
