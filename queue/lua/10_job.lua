-- Jobs and the indexes that follow from their states.

local FIELDS = {'state', 'run', 'stage', 'iter', 'shard', 'pass', 'seq', 'worker', 'token', 'att',
	'max', 'lost', 'cancel', 'starts', 'cost', 'charged', 'slc', 'ttl', 'left', 'succ', 'need',
	'pd', 'ck', 'opt', 'dtok', 'ftok', 'losses', 'pre', 'queue', 'prio', 'ckl', 'stall', 'stuck',
	'gen'}
local NUMBERS = {'iter', 'shard', 'pass', 'seq', 'att', 'max', 'lost', 'starts', 'cost', 'charged',
	'slc', 'ttl', 'left', 'succ', 'need', 'pd', 'losses', 'pre', 'prio', 'ckl', 'stall', 'gen'}

local function job_load(id)
	local v = redis.call('HMGET', P .. 'j:' .. id, unpack(FIELDS))
	if not v[1] then
		return nil
	end
	local j = {id = id}
	for i = 1, #FIELDS do
		j[FIELDS[i]] = v[i] or ''
	end
	for i = 1, #NUMBERS do
		j[NUMBERS[i]] = tonumber(j[NUMBERS[i]]) or 0
	end
	return j
end

local function job_place(j)
	return '"stage":"' .. j.stage .. '","iter":' .. int(j.iter) .. ',"shard":' .. int(j.shard) ..
		',"pass":' .. int(j.pass) .. ',"attempt":' .. int(j.starts)
end

-- Names of stages, states and workers are plain words; only a note needs quoting.
local function job_event(j, from, note)
	local d = '{"state":"' .. j.state .. '","from":"' .. from .. '",' .. job_place(j)
	if j.worker ~= '' then
		d = d .. ',"worker":"' .. j.worker .. '"'
	end
	if note and note ~= '' then
		d = d .. ',"note":' .. cjson.encode(note)
	end
	event('job', j.run, j.id, d .. '}')
end

-- --- which runs may be served -------------------------------------------------------------------

-- Strict class first, then least virtual time (seconds of work by weight). Waiting improves the class.
local function pool_score(class, aged, vt)
	return math.max(class - aged, 0) * 1e13 + vt
end

-- Why an owner may not have another job run; nil when he may. GPU-hours count by the day.
local function owner_full(owner)
	local q = redis.call('HMGET', P .. 'quota:' .. owner, 'running', 'gpu_hours')
	if not q[1] then
		return nil
	end
	local use = redis.call('HMGET', P .. 'own:' .. owner, 'running', 'day', 'seconds')
	if tonumber(q[1]) > 0 and (tonumber(use[1]) or 0) >= tonumber(q[1]) then
		return 'running'
	end
	local today = tonumber(use[2]) == math.floor(now_ms() / DAY_MS)
	if tonumber(q[2]) > 0 and today and (tonumber(use[3]) or 0) >= 3600 * tonumber(q[2]) then
		return 'gpu_hours'
	end
end

-- Enters a run into, or takes it out of, the pools of those of its queues that have ready jobs.
local function pools_set(run, score)
	for _, q in ipairs(redis.call('SMEMBERS', P .. 'rs:' .. run)) do
		local pool = P .. 'pool:' .. q
		if score then
			redis.call('ZADD', pool, score, run)
			redis.call('SADD', P .. 'aq', q)
		else
			redis.call('ZREM', pool, run)
			if redis.call('EXISTS', pool) == 0 then
				redis.call('SREM', P .. 'aq', q)
			end
		end
	end
end

-- The run's score, or nil when it may not be served now.
local function run_score(run)
	local v = redis.call('HMGET', P .. 'r:' .. run, 'hold', 'class', 'aged', 'vt', 'limited',
		'max_running', 'n:running', 'owner')
	if v[1] ~= '0' then
		return nil
	end
	if v[5] == '1' then
		local most = tonumber(v[6])
		if most > 0 and tonumber(v[7]) >= most or owner_full(v[8]) then
			return nil
		end
	end
	return pool_score(tonumber(v[2]), tonumber(v[3]), tonumber(v[4]))
end

local function pools_sync(run)
	pools_set(run, run_score(run))
end

-- After a limited run began or ended a job, or its owner's quota changed.
local function owner_sync(owner)
	for _, run in ipairs(redis.call('SMEMBERS', P .. 'orun:' .. owner)) do
		pools_sync(run)
	end
end

local function running_count(run, by)
	local v = redis.call('HMGET', P .. 'r:' .. run, 'limited', 'owner')
	if v[1] ~= '1' then
		return
	end
	if v[2] ~= '' then
		redis.call('HINCRBY', P .. 'own:' .. v[2], 'running', by)
		owner_sync(v[2])
	else
		pools_sync(run)
	end
end

-- --- ready and running ---------------------------------------------------------------------------

-- A run that comes back with work after having none starts at its class's present virtual time:
-- idleness earns no credit.
local function run_wakes(run)
	local r = P .. 'r:' .. run
	local v = redis.call('HMGET', r, 'class', 'vt')
	local floor = tonumber(redis.call('HGET', M, 'v:' .. v[1]) or '0')
	redis.call('HSET', r, 'since', lclock(), 'aged', 0, 'vt',
		string.format('%.3f', math.max(floor, tonumber(v[2]))))
end

local function ready_in(j)
	local rq = P .. 'rq:' .. j.queue .. ':' .. j.run
	redis.call('ZADD', rq, j.seq - j.prio * PRIORITY, j.id)
	if redis.call('ZCARD', rq) > 1 then
		return
	end
	if redis.call('SCARD', P .. 'rs:' .. j.run) == 0 then
		run_wakes(j.run)
	end
	redis.call('SADD', P .. 'rs:' .. j.run, j.queue)
	local score = run_score(j.run)
	if score then
		redis.call('ZADD', P .. 'pool:' .. j.queue, score, j.run)
		redis.call('SADD', P .. 'aq', j.queue)
	end
end

local function ready_out(j)
	local rq, pool = P .. 'rq:' .. j.queue .. ':' .. j.run, P .. 'pool:' .. j.queue
	redis.call('ZREM', rq, j.id)
	if redis.call('EXISTS', rq) == 1 then
		return
	end
	redis.call('SREM', P .. 'rs:' .. j.run, j.queue)
	redis.call('ZREM', pool, j.run)
	if redis.call('EXISTS', pool) == 0 then
		redis.call('SREM', P .. 'aq', j.queue)
	end
end

local function running_out(j)
	redis.call('ZREM', P .. 'lease', j.id)
	redis.call('SREM', P .. 'wj:' .. j.worker, j.id)
	if j.cancel == '1' then
		redis.call('ZREM', P .. 'grace', j.id)
	end
	if j.stall > 0 then
		redis.call('ZREM', P .. 'stall', j.id)
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
	redis.call('HINCRBY', r, 'n:' .. from, -1)
	redis.call('HINCRBY', r, 'n:' .. to, 1)
	redis.call('HSET', P .. 'j:' .. j.id, 'state', to, unpack(fields or {}))
	j.state = to
	if to == 'ready' then
		ready_in(j)
	end
	if from == 'running' then
		running_count(j.run, -1)
	elseif to == 'running' then
		running_count(j.run, 1)
	end
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

-- --- accounts ------------------------------------------------------------------------------------

-- Milliseconds of lease clock this attempt has worked, and how many of them live on: all when it
-- completed, else those up to its last checkpoint.
local function attempt_work(j, how)
	local spent = math.max(lclock() - j.slc, 0)
	if how == 'completed' then
		return spent, spent
	end
	return spent, j.ckl > j.slc and math.min(j.ckl - j.slc, spent) or 0
end

-- Adds to the run's useful and lost time, and to their cost in millionths of the price's unit.
local function account(j, spent, useful)
	local r = P .. 'r:' .. j.run
	local price = tonumber(redis.call('HGET', P .. 'w:' .. j.worker, 'price') or '0') or 0
	local function add(field, ms)
		if ms > 0 then
			redis.call('HINCRBY', r, field .. '_ms', int(ms))
			if price > 0 then
				redis.call('HINCRBY', r, field .. '_cost', int(ms * price / 3.6))
			end
		end
	end
	add('useful', useful)
	add('lost', spent - useful)
	return price
end

-- Attempts are kept as text; closing one replaces the last brace.
local function attempt_close(j, how, reason)
	local key = P .. 'at:' .. j.id
	local a = redis.call('LINDEX', key, -1)
	local spent, useful = attempt_work(j, how)
	local price = account(j, spent, useful)
	redis.call('LSET', key, -1, string.sub(a, 1, -2) .. ',"ended_ms":' .. int(now_ms()) ..
		',"end":"' .. how .. '","reason":' .. (reason ~= '' and reason or 'null') ..
		',"to_progress":' .. int(j.pd) .. ',"useful_ms":' .. int(useful) .. ',"lost_ms":' ..
		int(spent - useful) .. (price > 0 and ',"price_per_hour":' .. price or '') .. '}')
end

-- Sets a run's virtual time, in the run and in every pool it stands in. Returns what it was before.
local function charge(run, seconds, v, more)
	local r = P .. 'r:' .. run
	v = v or redis.call('HMGET', r, 'class', 'aged', 'vt', 'weight', 'owner', 'limited')
	local vt = tonumber(v[3]) + seconds / tonumber(v[4])
	redis.call('HSET', r, 'vt', string.format('%.3f', vt), unpack(more or {}))
	local score = pool_score(tonumber(v[1]), more and 0 or tonumber(v[2]), vt)
	for _, q in ipairs(redis.call('SMEMBERS', P .. 'rs:' .. run)) do
		redis.call('ZADD', P .. 'pool:' .. q, 'XX', score, run)
	end
	return v
end

-- What an owner with a quota has used today.
local function owner_charge(owner, seconds)
	local own, today = P .. 'own:' .. owner, math.floor(now_ms() / DAY_MS)
	local use = redis.call('HMGET', own, 'day', 'seconds')
	local before = tonumber(use[1]) == today and tonumber(use[2]) or 0
	redis.call('HSET', own, 'day', today, 'seconds', string.format('%.3f', before + seconds))
end

-- The estimate charged at claim gives way to what the attempt really took.
local function settle_charge(j)
	local took = (lclock() - j.slc) / 1000
	local v = charge(j.run, took - j.charged)
	if v[6] == '1' and v[5] ~= '' then
		owner_charge(v[5], took)
	end
end

-- --- the end of a run ----------------------------------------------------------------------------

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
	local r = P .. 'r:' .. run
	redis.call('HSET', r, 'state', state, 'ended', now_ms(), 'ending', '', 'error', err, 'digest', digest)
	redis.call('SREM', P .. 'openruns', run)
	local owner = redis.call('HGET', r, 'owner')
	if owner and owner ~= '' then
		redis.call('SREM', P .. 'orun:' .. owner, run)
	end
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
		event('job', j.run, j.id, '{"state":"running","cancelling":true,' .. job_place(j) ..
			',"worker":"' .. j.worker .. '"}')
	end
	return true
end

-- What an operator did, and to what. Who asked is known to the server, which keeps its own record.
local function audit(verb, run, job, detail)
	redis.call('XADD', P .. 'audit', 'MAXLEN', '~', AUDIT, '*', 'v', verb, 'r', run, 'j', job, 'd',
		detail or '')
end
