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

-- Integers as digits: tostring would turn 1e15 and above into an exponent. Many come again and again.
local digits, n_digits = {}, 0
local function int(n)
	local text = digits[n]
	if not text then
		text = string.format('%d', n < 0 and n - 0.5 or n + 0.5)
		if n_digits == 500 then
			digits, n_digits = {}, 0
		end
		digits[n] = text
		n_digits = n_digits + 1
	end
	return text
end

-- Read once in a call: Redis stands still while it runs. Only `tick` sets the lease clock.
local now_memo, lc_memo, fence_memo

local function fail(code, text)
	return {err = code .. ' ' .. text}
end

local function now_ms()
	if not now_memo then
		local t = call('TIME')
		now_memo = t[1] * 1000 + math.floor(t[2] / 1000)
	end
	return now_memo
end

local function now_text()
	return int(now_ms())
end

local function lclock()
	return lc_memo
end

local EVENTS_TEXT = '' .. EVENTS
local n_events = 0

-- The oldest are let go now and then.
local function event(kind, run, job, data)
	n_events = n_events + 1
	if n_events % 64 == 0 then
		call('XADD', EV, 'MAXLEN', '~', EVENTS_TEXT, '*', 't', kind, 'r', run, 'j', job, 'd', data)
	else
		call('XADD', EV, '*', 't', kind, 'r', run, 'j', job, 'd', data)
	end
end

-- --- run hashes, read and written once in a call -------------------------------------------------
-- A verb may look at a run many times and change it many times. run_of() reads the fields that verbs
-- decide by and the counters that change most, run_count() the others, run_put() and run_add() change
-- them here, and register() writes what changed when the verb is over. Nobody else reads or writes
-- these fields.

local RUN_FIELDS = {'state', 'ending', 'hold', 'owner', 'limited', 'class', 'aged', 'vt', 'weight',
	'max_running', 'lease', 'useful_ms', 'lost_ms', 'torn_off', 'rev', 'n:ready', 'n:running', 'n:done', 'rec'}
local RUN_TEXTS = {state = 1, ending = 1, hold = 1, owner = 1, limited = 1, rec = 1}
local RUN_REAL = {vt = 1, weight = 1}
local N_RUN_FIELDS = #RUN_FIELDS
local runs_memo, meta_memo, workers_memo

-- Whether the verb will tell a worker of a run: then its record is read with the rest.
local tells

-- The score of a run in its pools: strict class first, then least virtual time (seconds of work by
-- weight). Waiting improves the class. What stands in the pools is r.score until a verb ends (places_settle()):
-- pools must not disagree about a run while one is picked.
local function pool_score(r)
	return math.max(r.class - r.aged, 0) * 1e13 + r.vt
end

-- nil when there is no such run.
local function run_of(id)
	local r = runs_memo[id]
	if r then
		return r
	end
	local v = call('HMGET', RUN .. id, unpack(RUN_FIELDS, 1, tells and N_RUN_FIELDS or N_RUN_FIELDS - 1))
	if not v[1] then
		return nil
	end
	r = {id = id, changed = {}}
	for i = 1, #v do
		local field = RUN_FIELDS[i]
		if RUN_TEXTS[field] then
			r[field] = v[i] or ''
		else
			r[field] = tonumber(v[i] or '0') or 0
		end
	end
	r.score = pool_score(r)
	runs_memo[id] = r
	return r
end

local function real(n)
	return string.format('%.3f', n)
end

-- What its place in the pools follows from.
local PLACE = {vt = true, class = true, aged = true}

-- What is decided by is what is kept: pools that were written at different times must agree.
local function run_put(r, field, value)
	if r.changed[field] == nil then
		r.changed[field] = r[field] or false
	end
	r[field] = field == 'vt' and tonumber(real(value)) or value
	r.moved = r.moved or PLACE[field]
end

-- Counters: rev (rises with every decision and change of state), n:<state>, total, useful_ms, lost_ms,
-- useful_cost, lost_cost, torn_off (attempts that a lost or preempted worker ended).
local function run_count(r, field)
	r[field] = r[field] or tonumber(call('HGET', RUN .. r.id, field) or '0')
	return r[field]
end

local function run_add(r, field, by)
	if by ~= 0 then
		run_put(r, field, run_count(r, field) + by)
	end
end

local function runs_flush()
	for id, r in pairs(runs_memo) do
		local words = {}
		for field, was in pairs(r.changed) do
			local value = r[field]
			if value ~= was then
				words[#words + 1] = field
				if type(value) == 'number' then
					value = RUN_REAL[field] and real(value) or int(value)
				end
				words[#words + 1] = value
			end
		end
		if #words > 0 then
			call('HSET', RUN .. id, unpack(words))
		end
	end
end

-- The next number of a lease.
local function fence_next()
	meta_memo.fence = (meta_memo.fence or fence_memo) + 1
	return meta_memo.fence
end

local function meta_flush()
	local words = {}
	for field, value in pairs(meta_memo) do
		words[#words + 1] = field
		words[#words + 1] = type(value) == 'number' and int(value) or value
	end
	if #words > 0 then
		call('HSET', M, unpack(words))
	end
end

-- Workers, the same way: what a verb decides by, and what it writes of them.
local WORKER_FIELDS = {'drain', 'gone', 'price', 'lost', 'done', 'pre', 'lc', 'ill'}

local function worker_of(id)
	local w = workers_memo[id]
	if not w then
		local v = call('HMGET', WORKER .. id, unpack(WORKER_FIELDS))
		w = {words = {}}
		for i = 1, #WORKER_FIELDS do
			w[WORKER_FIELDS[i]] = v[i]
		end
		workers_memo[id] = w
	end
	return w
end

local function worker_put(id, field, value)
	local w = worker_of(id)
	w[field] = value
	w.words[#w.words + 1] = field
	w.words[#w.words + 1] = value
end

local function workers_flush()
	for id, w in pairs(workers_memo) do
		if #w.words > 0 then
			call('HSET', WORKER .. id, unpack(w.words))
		end
	end
end

-- Leases and who holds what, the same way: the last word of a call is written when it ends. Nobody but due()
-- reads them here.
local lease_memo, held_memo

-- until is a lease-clock time as text.
local function lease_put(id, worker, till)
	lease_memo[id] = till
	held_memo[worker] = held_memo[worker] or {}
	held_memo[worker][id] = true
end

local function lease_drop(id, worker)
	lease_memo[id] = false
	held_memo[worker] = held_memo[worker] or {}
	held_memo[worker][id] = false
end

local function leases_flush()
	local add, drop = {}, {}
	for id, till in pairs(lease_memo) do
		if till then
			add[#add + 1] = till
			add[#add + 1] = id
		else
			drop[#drop + 1] = id
		end
	end
	if drop[1] then
		call('ZREM', LEASE, unpack(drop))
	end
	if add[1] then
		call('ZADD', LEASE, unpack(add))
	end
	lease_memo = {}
end

local function held_flush()
	for worker, ids in pairs(held_memo) do
		local add, drop = {}, {}
		for id, holds in pairs(ids) do
			local list = holds and add or drop
			list[#list + 1] = id
		end
		if add[1] then
			call('SADD', HELD .. worker, unpack(add))
		end
		if drop[1] then
			call('SREM', HELD .. worker, unpack(drop))
		end
	end
end
