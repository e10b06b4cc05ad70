-- Jobs and the indexes that follow from their states.

local FIELDS = {'state', 'run', 'stage', 'iter', 'shard', 'pass', 'seq', 'worker', 'token', 'att',
	'max', 'lost', 'cancel', 'starts', 'cost', 'charged', 'slc', 'ttl', 'left', 'succ', 'need',
	'pd', 'ck', 'opt', 'dtok', 'ftok', 'losses', 'pre'}
local NUMBERS = {'iter', 'shard', 'pass', 'seq', 'att', 'max', 'lost', 'starts', 'cost', 'charged',
	'slc', 'ttl', 'left', 'succ', 'need', 'pd', 'losses', 'pre'}

local function job_load(id)
	local v = redis.call('HMGET', P .. 'j:' .. id, unpack(FIELDS))
	if not v[1] then
		return nil
	end
	local j = {id = id}
	for i, f in ipairs(FIELDS) do
		j[f] = v[i] or ''
	end
	for _, f in ipairs(NUMBERS) do
		j[f] = tonumber(j[f]) or 0
	end
	return j
end

local function job_event(j, from, note)
	local d = {state = j.state, from = from, stage = j.stage, iter = j.iter, shard = j.shard,
		pass = j.pass, attempt = j.starts}
	if j.worker ~= '' then
		d.worker = j.worker
	end
	if note and note ~= '' then
		d.note = note
	end
	event('job', j.run, j.id, cjson.encode(d))
end

-- Strict class first, then least virtual time (seconds of work by weight).
local function pool_score(class, vt)
	return class * 1e13 + vt
end

-- A run that comes back with work after having none starts at its class's present virtual time:
-- idleness earns no credit.
local function ready_in(j)
	local r = P .. 'r:' .. j.run
	local v = redis.call('HMGET', r, 'hold', 'class', 'vt', 'n:ready')
	local class, vt = tonumber(v[2]), tonumber(v[3])
	if tonumber(v[4]) == 0 then
		local floor = tonumber(redis.call('HGET', M, 'v:' .. v[2]) or '0')
		if floor > vt then
			vt = floor
			redis.call('HSET', r, 'vt', string.format('%.3f', vt))
		end
	end
	redis.call('ZADD', P .. 'rq:' .. j.stage .. ':' .. j.run, j.seq, j.id)
	if v[1] ~= '1' then
		redis.call('ZADD', P .. 'pool:' .. j.stage, pool_score(class, vt), j.run)
	end
end

local function ready_out(j)
	local rq = P .. 'rq:' .. j.stage .. ':' .. j.run
	redis.call('ZREM', rq, j.id)
	if redis.call('EXISTS', rq) == 0 then
		redis.call('ZREM', P .. 'pool:' .. j.stage, j.run)
	end
end

local function running_out(j)
	redis.call('ZREM', P .. 'lease', j.id)
	redis.call('SREM', P .. 'wj:' .. j.worker, j.id)
	if j.cancel == '1' then
		redis.call('ZREM', P .. 'grace', j.id)
	end
end

-- The one place where a state changes: leaves the old indexes, counts, enters the new ones, and
-- adds the one event. `fields` are set on the job in the same HSET.
local function move(j, to, fields, note)
	local from = j.state
	if not MOVES[from][to] then
		error('job ' .. j.id .. ' may not move from ' .. from .. ' to ' .. to)
	end
	if from == 'ready' then
		ready_out(j)
	elseif from == 'running' then
		running_out(j)
	elseif from == 'delayed' then
		redis.call('ZREM', P .. 'delayed', j.id)
	end
	local r = P .. 'r:' .. j.run
	if to == 'ready' then
		ready_in(j)
	end
	redis.call('HINCRBY', r, 'n:' .. from, -1)
	redis.call('HINCRBY', r, 'n:' .. to, 1)
	redis.call('HSET', P .. 'j:' .. j.id, 'state', to, unpack(fields or {}))
	j.state = to
	job_event(j, from, note)
	if from == 'running' then
		j.token, j.worker = '', ''
	end
end

-- A terminal job tells its children; those it was the last parent of become ready or skipped, and
-- skipped ones tell theirs.
local function release(id, ok)
	local work = {{id, ok}}
	while #work > 0 do
		local it = table.remove(work)
		for _, child in ipairs(redis.call('SMEMBERS', P .. 'ch:' .. it[1])) do
			local key = P .. 'j:' .. child
			if it[2] then
				redis.call('HINCRBY', key, 'succ', 1)
			end
			if redis.call('HINCRBY', key, 'left', -1) == 0 then
				local c = job_load(child)
				if c.state == 'blocked' and c.succ >= c.need then
					move(c, 'ready')
				elseif c.state == 'blocked' then
					move(c, 'skipped', {'ended', now_ms()})
					work[#work + 1] = {child, false}
				end
			end
		end
	end
end

-- Counts a job's parents afresh: how many are open, how many succeeded.
local function recount(id)
	local def = cjson.decode(redis.call('HGET', P .. 'j:' .. id, 'def'))
	local left, succ = 0, 0
	for _, p in ipairs(def.parents) do
		local s = redis.call('HGET', P .. 'j:' .. p, 'state')
		if s == 'done' then
			succ = succ + 1
		elseif not TERMINAL[s] then
			left = left + 1
		end
	end
	return left, succ
end

-- A job that ran before waits for its turn again; for a parent first, if one was retried meanwhile
-- (possible only where some parents may fail).
local function back(j, fields, note)
	local left, succ = recount(j.id)
	if left > 0 then
		redis.call('HSET', P .. 'j:' .. j.id, 'left', left, 'succ', succ)
		move(j, 'blocked', fields, note)
	else
		move(j, 'ready', fields, note)
	end
end

-- Attempts are kept as text; closing one replaces the last brace.
local function attempt_close(j, how, reason)
	local key = P .. 'at:' .. j.id
	local a = redis.call('LINDEX', key, -1)
	redis.call('LSET', key, -1, string.sub(a, 1, -2) .. ',"ended_ms":' .. int(now_ms()) ..
		',"end":"' .. how .. '","reason":' .. (reason ~= '' and reason or 'null') ..
		',"to_progress":' .. int(j.pd) .. '}')
end

-- Sets a run's virtual time, in the run and in every pool it stands in.
local function charge(run, seconds)
	local r = P .. 'r:' .. run
	local v = redis.call('HMGET', r, 'class', 'vt', 'weight')
	local vt = tonumber(v[2]) + seconds / tonumber(v[3])
	redis.call('HSET', r, 'vt', string.format('%.3f', vt))
	for _, s in ipairs(STAGES) do
		redis.call('ZADD', P .. 'pool:' .. s, 'XX', pool_score(tonumber(v[1]), vt), run)
	end
	return v[1], tonumber(v[2])
end

-- The estimate charged at claim gives way to what the attempt really took.
local function settle_charge(j)
	charge(j.run, (lclock() - j.slc) / 1000 - j.charged)
end

local function open_count(run)
	local v = redis.call('HMGET', P .. 'r:' .. run, 'n:blocked', 'n:ready', 'n:running', 'n:delayed')
	return v[1] + v[2] + v[3] + v[4]
end

local function run_event(run, state, extra)
	local d = extra or {}
	d.state = state
	event('run', run, '', cjson.encode(d))
end

local function run_end(run, state, err, digest)
	redis.call('HSET', P .. 'r:' .. run, 'state', state, 'ended', now_ms(), 'ending', '', 'error', err,
		'digest', digest)
	redis.call('SREM', P .. 'openruns', run)
	run_event(run, state, err ~= '' and {error = err} or nil)
end

-- A cancelled or failing run ends with its last open job.
local function run_settle(run)
	local v = redis.call('HMGET', P .. 'r:' .. run, 'ending', 'error')
	if v[1] ~= '' and open_count(run) == 0 then
		run_end(run, v[1], v[2] or '', '')
	end
end

-- Cancels one job; a running one is asked, and gets GRACE_MS. False when it was terminal.
local function job_cancel(j, why)
	if TERMINAL[j.state] then
		return false
	end
	if j.state ~= 'running' then
		move(j, 'cancelled', {'ended', now_ms(), 'cancel', '1'}, why)
		release(j.id, false)
	elseif j.cancel ~= '1' then
		redis.call('HSET', P .. 'j:' .. j.id, 'cancel', '1')
		redis.call('ZADD', P .. 'grace', lclock() + GRACE_MS, j.id)
		event('job', j.run, j.id, cjson.encode({state = 'running', cancelling = true,
			stage = j.stage, iter = j.iter, shard = j.shard, pass = j.pass,
			attempt = j.starts, worker = j.worker}))
	end
	return true
end
