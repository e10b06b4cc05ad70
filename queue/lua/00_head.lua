#!lua name=pawl_v1
-- The queue's only writer. One function is one verb is one atomic step.
-- KEYS[1] is {pawl}:m; ARGV[1] is the schema the caller was built for: a mismatch changes nothing.
-- Errors come back as "CODE sentence" with CODE one of STALE CONFLICT NOTFOUND INVALID FULL SCHEMA.
-- Every check of a function comes before its first write, since Redis rolls nothing back.
--
-- Keys, all in one slot ({pawl}:…):
--   m            hash: schema, fence, seq, lclock, lasttick, frozen, run_id, v:<class>
--   runs         zset of run ids by creation · openruns set of active, paused, draining ones
--   r:<run>      run hash · rj:<run> zset of its jobs by seq
--   j:<job>      job hash · ch:<job> set of children · at:<job> list of attempts · mx:<job> metrics by step
--   rq:<stage>:<run> zset of ready jobs by seq · pool:<stage> zset of runs by class and virtual time
--   lease, grace, delayed  zsets of jobs by lease-clock time
--   w:<worker>   hash · wa zset of all by start · wz zset of the living by last beat · wj:<worker> jobs held
--   idem hash, idemz zset · ev event stream · kv:<ns>:<key>, kvn:<ns>
-- The lease clock (m.lclock, milliseconds) moves in `tick` alone.

local P = '{pawl}:'
local M = P .. 'm'
local SCHEMA = '1'
local GRACE_MS = 60000
local POISON = 5
local ADVANCE_MS = 2000
local BACKOFF_MS = 600000
local EVENTS = 100000
local JOBS_MAX = 10000
local IDEM_MS = 2592000000
local BATCH = 500
local STAGES = {'import', 'eft', 'sft', 'prompts', 'generate', 'judge', 'pair', 'dpo', 'eval'}
local IS_STAGE = {import = 1, eft = 1, sft = 1, prompts = 1, generate = 1, judge = 1, pair = 1,
	dpo = 1, eval = 1}

local TERMINAL = {done = 1, failed = 1, cancelled = 1, skipped = 1}
local RUN_TERMINAL = {done = 1, failed = 1, cancelled = 1}
-- The same table as queue/states.def; a test compares them.
local MOVES = {
	blocked = {ready = 1, skipped = 1, cancelled = 1},
	ready = {running = 1, cancelled = 1, blocked = 1},
	running = {done = 1, delayed = 1, failed = 1, ready = 1, blocked = 1, cancelled = 1},
	delayed = {ready = 1, cancelled = 1, blocked = 1},
	failed = {ready = 1, blocked = 1},
	cancelled = {ready = 1, blocked = 1},
	skipped = {ready = 1, blocked = 1},
	done = {},
}

local function fail(code, text)
	return {err = code .. ' ' .. text}
end

local function now_ms()
	local t = redis.call('TIME')
	return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function lclock()
	return tonumber(redis.call('HGET', M, 'lclock') or '0')
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
		function_name = 'pawl1_' .. name,
		callback = function(keys, args)
			if redis.call('HGET', M, 'schema') ~= args[1] or args[1] ~= SCHEMA then
				return fail('SCHEMA', 'keyspace has schema ' ..
					(redis.call('HGET', M, 'schema') or 'none') ..
					', the library ' .. SCHEMA .. ', the caller ' .. args[1])
			end
			return body(args)
		end,
		flags = flags or {},
	}
end
