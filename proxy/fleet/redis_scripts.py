"""The arithmetic of `rules.bucket` once more, as Redis runs it: in one step, and by its own clock.

Times are whole microseconds since the epoch, which Lua's doubles hold exactly; they are written with '%.0f', since
Lua prints large numbers rounded. A test books the same sequences here and there.
"""

from __future__ import annotations

_NOW = """
local function text(number) return string.format('%.0f', number) end
local WINDOW = 600000000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('time')
  now = time[1] * 1000000 + time[2]
end
local spacing, burst, window, max_wait = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
redis.call('zremrangebyscore', KEYS[2], '-inf', text(now - WINDOW))
redis.call('zremrangebyscore', KEYS[2], '(' .. text(now + max_wait + WINDOW), '+inf')
local count = redis.call('zcard', KEYS[2])
local stored = tonumber(redis.call('hget', KEYS[1], 'full_at') or '0')
local full_at = math.min(stored, now + WINDOW + burst * spacing)
local left = burst - (math.max(full_at, now) - now) / spacing + 0.000001
local keep = math.ceil((WINDOW + max_wait + burst * spacing) / 1000) + 60000
"""

# KEYS: the bucket, its times, the hold. ARGV: now or '', spacing, burst, window, longest wait, urgency, share of the
# burst that must be left or '', furthest promise, number, the age that the member has told what it knows.
# {1, microseconds to wait}, {0, microseconds after which to come again}, or {2, 0}: tell first what you know.
BOOK = (
    _NOW
    + """
if (redis.call('hget', KEYS[1], 'age') or '') ~= ARGV[10] then return {2, '0'} end
if full_at < stored then redis.call('hset', KEYS[1], 'full_at', text(full_at)) end
local urgency, share, furthest = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])

local function sent(at)
  redis.call('zadd', KEYS[2], text(at), ARGV[9])
  redis.call('hset', KEYS[1], 'full_at', text(math.max(full_at, at) + spacing))
  redis.call('pexpire', KEYS[1], math.max(keep, math.ceil((full_at + spacing - now) / 1000) + 60000))
  redis.call('pexpire', KEYS[2], keep)
  return {1, text(at - now)}
end

if urgency == 'caller' then return sent(now) end
local first = math.max(now, full_at - (burst - 1) * spacing)
if count >= window then
  local oldest = redis.call('zrevrange', KEYS[2], window - 1, window - 1, 'withscores')
  first = math.max(first, tonumber(oldest[2]) + WINDOW)
end
local held = redis.call('pttl', KEYS[3])
local ahead = max_wait
if share then
  local roomy = count < math.max(1, window - burst)
  ahead = (roomy and left >= math.max(1, burst * share)) and 0 or -1
end
if held <= 0 and first <= now + ahead then return sent(first) end

local earliest = math.max(first, now + math.max(0, held) * 1000)
if urgency ~= 'client' then return {0, text(math.max(earliest - now, spacing))} end
local promised = math.max(earliest, tonumber(redis.call('hget', KEYS[1], 'promised') or '0') + spacing)
if promised > math.max(earliest, now) + furthest then promised = earliest end
redis.call('hset', KEYS[1], 'promised', text(promised))
redis.call('pexpire', KEYS[1], math.max(keep, math.ceil((promised - now) / 1000)))
return {0, text(promised - now)}
"""
)

# A member tells what it knows: a Redis that has lost its memory begins a new age, and nobody books in it before he
# has told. KEYS: the bucket, its times, the machines. ARGV: as for BOOK, the first five; an age, if it must be a new
# one; the channel, and what to say there to who has yet to tell; this machine; how many others are known; those; then
# for each booking its number, and microseconds from now. {the age, machines...}.
MERGE = (
    _NOW
    + """
local new = redis.call('hsetnx', KEYS[1], 'age', ARGV[6]) == 1
local others = tonumber(ARGV[10])
if new then
  for each = 11, 10 + others do redis.call('zadd', KEYS[3], 'nx', text(now), ARGV[each]) end
end
local joined = redis.call('zscore', KEYS[3], ARGV[9]) == false
redis.call('zadd', KEYS[3], text(now), ARGV[9])
redis.call('zremrangebyscore', KEYS[3], '-inf', text(now - 3600000000))
redis.call('pexpire', KEYS[3], 3600000)

local added = 0
for each = 11 + others, #ARGV, 2 do
  local at = now + math.min(tonumber(ARGV[each + 1]), max_wait)
  if at > now - WINDOW then added = added + redis.call('zadd', KEYS[2], 'nx', text(at), ARGV[each]) end
end
if added > 0 then
  local running, times = 0, redis.call('zrange', KEYS[2], 0, -1, 'withscores')
  for each = 2, #times, 2 do running = math.max(running, tonumber(times[each])) + spacing end
  full_at = math.max(full_at, running)
  redis.call('hset', KEYS[1], 'full_at', text(full_at))
  redis.call('pexpire', KEYS[2], keep)
end
redis.call('pexpire', KEYS[1], math.max(keep, math.ceil((full_at - now) / 1000) + 60000, redis.call('pttl', KEYS[1])))
if new or joined then redis.call('publish', ARGV[7], ARGV[8]) end
return {redis.call('hget', KEYS[1], 'age'), unpack(redis.call('zrange', KEYS[3], 0, -1))}
"""
)

# KEYS: the bucket, its times. ARGV: the number, spacing.
GIVE_BACK = """
if redis.call('zrevrange', KEYS[2], 0, 0)[1] ~= ARGV[1] then return 0 end
redis.call('zrem', KEYS[2], ARGV[1])
local full_at = tonumber(redis.call('hget', KEYS[1], 'full_at') or '0')
redis.call('hset', KEYS[1], 'full_at', string.format('%.0f', full_at - tonumber(ARGV[2])))
return 1
"""

# KEYS: the bucket, its times. ARGV: as for BOOK, the first five. {how many could go now, how many are counted}.
STANDING = (
    _NOW
    + """
return {math.max(0, math.min(math.floor(left), window - count)), count}
"""
)

# KEYS: the hold. ARGV: the message, milliseconds, the channel.
HOLD = """
if redis.call('pttl', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
redis.call('publish', ARGV[3], ARGV[1])
return 1
"""
