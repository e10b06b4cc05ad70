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

-- --- run hashes, read and written once in a call -------------------------------------------------
-- A verb may look at a run many times and change it many times. run_of() reads the fields that verbs
-- decide by, run_put() and run_add() change them here, and register() writes what changed when the
-- verb is over. Counters are read only where somebody asks; else their sum of changes is added.
-- Nobody else reads or writes these fields.

local RUN_FIELDS = {'state', 'ending', 'hold', 'owner', 'limited', 'class', 'aged', 'vt', 'weight',
	'max_running', 'lease'}
local RUN_NUMBERS = {'class', 'aged', 'vt', 'weight', 'max_running', 'lease'}
local RUN_REAL = {vt = 1, weight = 1}
local runs_memo, meta_memo

-- The score of a run in its pools: strict class first, then least virtual time (seconds of work by
-- weight). Waiting improves the class. What stands in the pools is r.score until register() writes the
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
	local v = redis.call('HMGET', P .. 'r:' .. id, unpack(RUN_FIELDS))
	if not v[1] then
		return nil
	end
	r = {id = id, changed = {}, added = {}}
	for i = 1, #RUN_FIELDS do
		r[RUN_FIELDS[i]] = v[i] or ''
	end
	for i = 1, #RUN_NUMBERS do
		r[RUN_NUMBERS[i]] = tonumber(r[RUN_NUMBERS[i]]) or 0
	end
	r.score = pool_score(r)
	runs_memo[id] = r
	return r
end

local function run_put(r, field, value)
	r[field] = value
	r.changed[field] = true
end

-- Counters: rev (rises with every decision and change of state), n:<state>, total, useful_ms, lost_ms, useful_cost, lost_cost, torn_off (attempts that a lost
-- or preempted worker ended).
local function run_add(r, field, by)
	r.added[field] = (r.added[field] or 0) + by
end

local function run_count(r, field)
	return (tonumber(redis.call('HGET', P .. 'r:' .. r.id, field)) or 0) + (r.added[field] or 0)
end

local function runs_flush()
	for id, r in pairs(runs_memo) do
		local words = {}
		for field in pairs(r.changed) do
			local value = r[field]
			words[#words + 1] = field
			if type(value) == 'number' then
				value = RUN_REAL[field] and string.format('%.3f', value) or int(value)
			end
			words[#words + 1] = value
		end
		if #words > 0 then
			redis.call('HSET', P .. 'r:' .. id, unpack(words))
		end
		for field, by in pairs(r.added) do
			if by ~= 0 then
				redis.call('HINCRBY', P .. 'r:' .. id, field, int(by))
			end
		end
		if r.changed.vt or r.changed.class or r.changed.aged then
			for _, q in ipairs(redis.call('SMEMBERS', P .. 'rs:' .. id)) do
				redis.call('ZADD', P .. 'pool:' .. q, 'XX', pool_score(r), id)
			end
		end
	end
end

-- Counters of the meta hash, the same way.
local function meta_next(field)
	local n = (meta_memo[field] or tonumber(redis.call('HGET', M, field) or '0')) + 1
	meta_memo[field] = n
	return n
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

-- A Redis that was restarted, restored or made master may know less than the store. m.trust is what the
-- server wrote that last compared the two; this process remembers what it was told, and forgets it when
-- it ends. Until they agree only the comparing server may write (its schema ends in "!"). A keyspace that
-- no server guards has no m.trust.
local trusted, behind

-- What an If-Match names is compared in the step that makes the change: the schema is followed by
-- "?r:<run>=<revision>" or "?j:<job>=<tag>". nil when it still holds, and for every other call.
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
	end
	if not kind or have ~= want then
		return fail('CHANGED', (id or '') .. ' is no longer what If-Match names; read it again')
	end
end

local function register(name, body, flags, always)
	local reads = flags ~= nil
	redis.register_function{
		function_name = 'pawl2_' .. name,
		callback = function(keys, args)
			local v = redis.call('HMGET', M, 'schema', 'lclock', 'trust')
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
			now_memo, lc_memo = nil, tonumber(v[2] or '0')
			runs_memo, meta_memo = {}, {}
			local answer = body(args)
			runs_flush()
			meta_flush()
			return answer
		end,
		flags = flags or {},
	}
end
