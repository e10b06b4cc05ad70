-- What every verb uses. JOB_STATES, RUN_STATES, JOB_MOVES and STAGES are made from queue/states.def and stand
-- between the head and this file.

local TERMINAL, RUN_TERMINAL, MOVES, IS_STAGE = {}, {}, {}, {}
for i = 1, #STAGES do
	IS_STAGE[STAGES[i]] = 1
end
for i = 1, #JOB_STATES do
	MOVES[JOB_STATES[i][1]] = {}
	TERMINAL[JOB_STATES[i][1]] = JOB_STATES[i][2] == 1 and 1 or nil
end
for i = 1, #RUN_STATES do
	RUN_TERMINAL[RUN_STATES[i][1]] = RUN_STATES[i][2] == 1 and 1 or nil
end
for i = 1, #JOB_MOVES do
	MOVES[JOB_MOVES[i][1]][JOB_MOVES[i][2]] = 1
end

-- Read once in a call: Redis stands still while it runs. Only `tick` sets the lease clock.
local now_memo, lc_memo

local function fail(code, text)
	return {err = code .. ' ' .. text}
end

local function now_ms()
	if not now_memo then
		local t = redis.call('TIME')
		now_memo = t[1] * 1000 + math.floor(t[2] / 1000)
	end
	return now_memo
end

local function lclock()
	return lc_memo
end

-- Integers as digits: tostring would turn 1e15 and above into an exponent.
local function int(n)
	return string.format('%.0f', n)
end

local function event(kind, run, job, data)
	redis.call('XADD', P .. 'ev', 'MAXLEN', '~', EVENTS, '*', 't', kind, 'r', run, 'j', job,
		'd', data)
end

local function register(name, body, flags)
	redis.register_function{
		function_name = 'pawl2_' .. name,
		callback = function(keys, args)
			local v = redis.call('HMGET', M, 'schema', 'lclock')
			if v[1] ~= args[1] or args[1] ~= SCHEMA then
				return fail('SCHEMA', 'keyspace has schema ' .. (v[1] or 'none') ..
					', the library ' .. SCHEMA .. ', the caller ' .. args[1])
			end
			now_memo, lc_memo = nil, tonumber(v[2] or '0')
			return body(args)
		end,
		flags = flags or {},
	}
end
