-- Workers, and small things with a life span.

local function worker_event(id, state)
	event('worker', '', '', cjson.encode({id = id, state = state}))
end

local WORKER_STATE = {gone = 'gone', drain = 'draining', cordon = 'cordoned', take = 'idle'}
-- Draining it is told to save and hand back what it does; cordoned it finishes that and gets nothing more.
local WORKER_DRAIN = {drain = '1', cordon = '2', take = '0'}

-- The oldest workers that said good-bye are forgotten beyond `keep`.
local function workers_trim(keep)
	local over = call('ZCARD', P .. 'wa') - keep
	if over <= 0 then
		return
	end
	for _, id in ipairs(call('ZRANGE', P .. 'wa', 0, over + 50)) do
		local v = call('HMGET', WORKER .. id, 'gone', 'lost')
		if (v[1] == '1' or v[2] == '1') and call('EXISTS', P .. 'wj:' .. id) == 0 then
			call('DEL', WORKER .. id)
			call('ZREM', P .. 'wa', id)
		end
	end
end

-- worker_register id info name keep price_per_hour -> 1
register('worker_register', function(a)
	local now, w = now_ms(), WORKER .. a[2]
	workers_trim(tonumber(a[5]))
	call('HSET', w, 'info', a[3], 'name', a[4], 'lb', now, 'drain', '0', 'gone', '0', 'lost', '0',
		'price', a[6], 'lc', int(lclock()))
	if call('HSETNX', w, 'started', now) == 1 then
		call('HSET', w, 'done', 0, 'pre', 0)
		call('ZADD', P .. 'wa', call('HINCRBY', M, 'seq', 1), a[2])
	end
	call('ZADD', P .. 'wz', lclock(), a[2])
	worker_event(a[2], 'idle')
	return 1
end)

-- worker_beat id -> action
register('worker_beat', function(a)
	local w = worker_of(a[2])
	if w.gone ~= '0' then
		return fail('NOTFOUND', 'no worker ' .. a[2] .. ', register first')
	end
	worker_seen(a[2])
	return w.drain == '1' and 'drain' or 'continue'
end)

-- worker_status id gpus unhealthy -> 1: what the driver says of its GPUs (JSON), and why it takes no job, ''
-- while it is well
register('worker_status', function(a)
	local w = WORKER .. a[2]
	local v = call('HMGET', w, 'info', 'gone', 'ill')
	if not v[1] or v[2] == '1' then
		return fail('NOTFOUND', 'no worker ' .. a[2] .. ', register first')
	end
	call('HSET', w, 'gpus', a[3], 'ill', a[4])
	if (v[3] or '') ~= a[4] then
		worker_event(a[2], a[4] == '' and 'idle' or 'unhealthy')
	end
	return 1
end)

-- worker_set id drain|cordon|gone|take -> 1; take ends both
register('worker_set', function(a)
	if call('EXISTS', WORKER .. a[2]) == 0 then
		return fail('NOTFOUND', 'no worker ' .. a[2])
	end
	if a[3] == 'gone' then
		call('HSET', WORKER .. a[2], 'gone', '1')
	else
		call('HSET', WORKER .. a[2], 'drain', WORKER_DRAIN[a[3]])
	end
	if a[3] == 'gone' then
		call('ZREM', P .. 'wz', a[2])
	else
		audit('worker', '', '', a[2] .. ' ' .. a[3])
	end
	worker_event(a[2], WORKER_STATE[a[3]])
	return 1
end)

-- event type run job data: an event that is no state change
register('event', function(a)
	event(a[2], a[3], a[4], a[5])
	return 1
end)

-- kv_put ns key value ttl_s
register('kv_put', function(a)
	local key, index, now = P .. 'kv:' .. a[2] .. ':' .. a[3], P .. 'kvn:' .. a[2], now_ms()
	local ttl = tonumber(a[5])
	call('ZREMRANGEBYSCORE', index, '-inf', now)
	if ttl > 0 then
		call('SET', key, a[4], 'EX', ttl)
		call('ZADD', index, now + ttl * 1000, a[3])
	else
		call('SET', key, a[4])
		call('ZADD', index, '+inf', a[3])
	end
	return 1
end)

-- kv_take ns key -> value, which is gone now, or nil
register('kv_take', function(a)
	local key = P .. 'kv:' .. a[2] .. ':' .. a[3]
	local v = call('GET', key)
	call('DEL', key)
	call('ZREM', P .. 'kvn:' .. a[2], a[3])
	return v
end)

-- kv_list ns -> key, value, key, value…
register('kv_list', function(a)
	local out = {}
	for _, k in ipairs(call('ZRANGE', P .. 'kvn:' .. a[2], 0, -1)) do
		local v = call('GET', P .. 'kv:' .. a[2] .. ':' .. k)
		if v then
			out[#out + 1] = k
			out[#out + 1] = v
		end
	end
	return out
end, {'no-writes'})

-- turn name holder ttl_ms -> 1 when nobody else has it: it is the holder's for at least half of that, and
-- longer when asked again in time; 0 otherwise. ttl 0 gives it back.
register('turn', function(a)
	local key, ttl = P .. 'turn:' .. a[2], tonumber(a[4])
	local has = call('GET', key)
	if has and has ~= a[3] then
		return 0
	end
	if has and ttl > 0 and call('PTTL', key) > ttl / 2 then
		return 1 -- Nothing to write down: it is far from its end.
	end
	if ttl > 0 then
		call('SET', key, a[3], 'PX', ttl)
	else
		call('DEL', key)
	end
	return 1
end)

-- moves -> from, to, from, to…: the table this library goes by
register('moves', function()
	local out = {}
	for from, tos in pairs(MOVES) do
		for to in pairs(tos) do
			out[#out + 1] = from
			out[#out + 1] = to
		end
	end
	return out
end, {'no-writes'})
