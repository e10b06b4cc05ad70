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

-- Integers as digits: tostring would turn 1e15 and above into an exponent.
local function int(n)
	return string.format('%d', n < 0 and n - 0.5 or n + 0.5)
end

-- Read once in a call: Redis stands still while it runs. Only `tick` sets the lease clock.
local now_memo, lc_memo, fence_memo

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

local function now_text()
	return int(now_ms())
end

local function lclock()
	return lc_memo
end

local EVENTS_TEXT = '' .. EVENTS

local function event(kind, run, job, data)
	redis.call('XADD', P .. 'ev', 'MAXLEN', '~', EVENTS_TEXT, '*', 't', kind, 'r', run, 'j', job,
		'd', data)
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

-- Queues with work, as pick() saw them; all queues of runs that may be served are among them.
local live_memo

-- Whether the verb will tell a worker of a run: then its record is read with the rest.
local tells

-- The score of a run in its pools: strict class first, then least virtual time (seconds of work by
-- weight). Waiting improves the class. What stands in the pools is r.score until pools_flush() writes the
-- new one to all of them at once: pools must not disagree about a run while one is picked.
local function pool_score(r)
	return math.max(r.class - r.aged, 0) * 1e13 + r.vt
end

-- nil when there is no such run.
local function run_of(id)
	local r = runs_memo[id]
	if r then
		return r
	end
	local v = redis.call('HMGET', P .. 'r:' .. id, unpack(RUN_FIELDS, 1, tells and N_RUN_FIELDS or N_RUN_FIELDS - 1))
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
	r[field] = field == 'vt' and tonumber(real(value)) or value
	r.changed[field] = true
	r.moved = r.moved or PLACE[field]
end

-- Counters: rev (rises with every decision and change of state), n:<state>, total, useful_ms, lost_ms,
-- useful_cost, lost_cost, torn_off (attempts that a lost or preempted worker ended).
local function run_count(r, field)
	r[field] = r[field] or tonumber(redis.call('HGET', P .. 'r:' .. r.id, field) or '0')
	return r[field]
end

local function run_add(r, field, by)
	if by ~= 0 then
		run_put(r, field, run_count(r, field) + by)
	end
end

-- At the end of a verb: whoever is served next is chosen by what it has done.
local function pools_flush()
	for id, r in pairs(runs_memo) do
		if r.moved then
			r.moved = nil
			r.score = pool_score(r)
			local score = real(r.score)
			local queues = live_memo and #live_memo < 3 and live_memo or
				redis.call('SMEMBERS', P .. 'rs:' .. id)
			for _, q in ipairs(queues) do
				redis.call('ZADD', P .. 'pool:' .. q, 'XX', score, id)
			end
		end
	end
end

local function runs_flush()
	for id, r in pairs(runs_memo) do
		local words = {}
		for field in pairs(r.changed) do
			local value = r[field]
			words[#words + 1] = field
			if type(value) == 'number' then
				value = RUN_REAL[field] and real(value) or int(value)
			end
			words[#words + 1] = value
		end
		if #words > 0 then
			redis.call('HSET', P .. 'r:' .. id, unpack(words))
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
		redis.call('HSET', M, unpack(words))
	end
end

-- Workers, the same way: what a verb decides by, and what it writes of them.
local WORKER_FIELDS = {'drain', 'gone', 'price', 'lost', 'done', 'pre', 'lc', 'ill'}

local function worker_of(id)
	local w = workers_memo[id]
	if not w then
		local v = redis.call('HMGET', P .. 'w:' .. id, unpack(WORKER_FIELDS))
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
			redis.call('HSET', P .. 'w:' .. id, unpack(w.words))
		end
	end
end

-- A Redis that was restarted, restored or made master may know less than the store. m.trust is what the
-- server wrote that last compared the two; this process remembers what it was told, and forgets it when
-- it ends. Until they agree only the comparing server may write (its schema ends in "!"). A keyspace that
-- no server guards has no m.trust.
local trusted, behind

-- What an If-Match names is compared in the step that makes the change: the schema is followed by
-- "?r:<run>=<revision>", "?j:<job>=<tag>" or "?q:<owner>=<limits>" (".." while he has none). nil when it still holds, and for every other call.
local function changed(word)
	local kind, id, want = string.match(word, '%?(%l):(%S+)=(%S*)$')
	local have
	if kind == 'r' then
		have = redis.call('HGET', P .. 'r:' .. id, 'rev') or ''
	elseif kind == 'j' then
		local v = redis.call('HMGET', P .. 'j:' .. id, 'state', 'starts', 'prio', 'gen', 'cancel')
		for i = 1, 5 do
			v[i] = v[i] or ''
		end
		have = table.concat(v, '.')
	elseif kind == 'q' then
		local v = redis.call('HMGET', P .. 'quota:' .. id, 'runs', 'running', 'gpu_hours')
		have = (v[1] or '') .. '.' .. (v[2] or '') .. '.' .. (v[3] or '')
	end
	if not kind or have ~= want then
		return fail('CHANGED', (id or '') .. ' is no longer what If-Match names; read it again')
	end
end

-- Verbs that `many` knows: they read and write runs and workers as above and nowhere else.
local JOINED, bodies = {claim = true, beat = true, complete = true, fail = true}, {}

local function register(name, body, flags, always)
	local reads, tells_of = flags ~= nil, name == 'claim' or name == 'complete' or name == 'restore_take' or
		name == 'many'
	bodies[name] = JOINED[name] and body
	redis.register_function{
		function_name = 'pawl2_' .. name,
		callback = function(keys, args)
			local v = redis.call('HMGET', M, 'schema', 'lclock', 'trust', 'fence')
			local word = args[1]
			local plain = word == SCHEMA
			local restoring = not plain and word == SCHEMA .. '!'
			local matches = not plain and string.sub(word, 1, #SCHEMA + 1) == SCHEMA .. '?'
			if v[1] ~= SCHEMA or not (plain or restoring or matches) then
				return fail('SCHEMA', 'keyspace has schema ' .. (v[1] or 'none') ..
					', the library ' .. SCHEMA .. ', the caller ' .. args[1])
			end
			behind = v[3] and v[3] ~= trusted
			if behind and not (restoring or reads or always) then
				return fail('BEHIND', 'this Redis is being compared with the store')
			end
			local stale = matches and changed(word)
			if stale then
				return stale
			end
			now_memo, lc_memo, fence_memo = nil, tonumber(v[2] or '0'), tonumber(v[4] or '0')
			runs_memo, meta_memo, workers_memo, live_memo, tells = {}, {}, {}, nil, tells_of
			local answer = body(args)
			pools_flush()
			runs_flush()
			workers_flush()
			meta_flush()
			return answer
		end,
		flags = flags or {},
	}
end
