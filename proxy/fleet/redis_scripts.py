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
"""

# KEYS: the bucket, its times, the machines, the hold. ARGV: now or '', spacing, burst, window, longest wait, urgency,
# share of the burst that must be left or '', furthest promise, number, machine.
# {1, microseconds to wait, machines}, or {0, microseconds after which to come again, machines}.
BOOK = (
    _NOW
    + """
if full_at < stored then redis.call('hset', KEYS[1], 'full_at', text(full_at)) end
local urgency, share, furthest = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local keep = math.ceil((WINDOW + max_wait + burst * spacing) / 1000) + 60000
redis.call('zadd', KEYS[3], text(now), ARGV[10])
redis.call('zremrangebyscore', KEYS[3], '-inf', text(now - 3600000000))
redis.call('pexpire', KEYS[3], 3600000)
local machines = redis.call('zcard', KEYS[3])

local function sent(at)
  redis.call('zadd', KEYS[2], text(at), ARGV[9])
  redis.call('hset', KEYS[1], 'full_at', text(math.max(full_at, at) + spacing))
  redis.call('pexpire', KEYS[1], math.max(keep, math.ceil((full_at + spacing - now) / 1000) + 60000))
  redis.call('pexpire', KEYS[2], keep)
  return {1, text(at - now), machines}
end

if urgency == 'caller' then return sent(now) end
local first = math.max(now, full_at - (burst - 1) * spacing)
if count >= window then
  local oldest = redis.call('zrevrange', KEYS[2], window - 1, window - 1, 'withscores')
  first = math.max(first, tonumber(oldest[2]) + WINDOW)
end
local held = redis.call('pttl', KEYS[4])
local ahead = max_wait
if share then
  local roomy = count < math.max(1, window - burst)
  ahead = (roomy and left >= math.max(1, burst * share)) and 0 or -1
end
if held <= 0 and first <= now + ahead then return sent(first) end

local earliest = math.max(first, now + math.max(0, held) * 1000)
if urgency ~= 'client' then return {0, text(math.max(earliest - now, spacing)), machines} end
local promised = math.max(earliest, tonumber(redis.call('hget', KEYS[1], 'promised') or '0') + spacing)
if promised > math.max(earliest, now) + furthest then promised = earliest end
redis.call('hset', KEYS[1], 'promised', text(promised))
redis.call('pexpire', KEYS[1], math.max(keep, math.ceil((promised - now) / 1000)))
return {0, text(promised - now), machines}
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
