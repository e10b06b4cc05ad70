-- Runs: submit, add_jobs, finish, fail, cancel, hold, tune; quotas.

-- Why an owner may not add another run, or nil.
local function owner_refuses(owner)
	local q = owner ~= '' and call('HGET', P .. 'quota:' .. owner, 'runs')
	local open = q and call('SCARD', P .. 'orun:' .. owner)
	if q and tonumber(q) > 0 and open >= tonumber(q) then
		return fail('FULL', owner .. ' has ' .. open .. ' open runs, the quota is ' .. q)
	end
end

-- submit run record class weight lease_ms name idem_key body_digest owner max_running -> {existed, run}
register('submit', function(a)
	local run, idem, digest = a[2], a[8], a[9]
	if idem ~= '' then
		local old = call('HGET', P .. 'idem', idem)
		if old then
			local id, d = string.match(old, '^(%S+) (.*)$')
			if d ~= digest then
				return fail('CONFLICT', 'this idempotency key was used for another request')
			end
			return {1, id}
		end
	end
	if call('EXISTS', RUN .. run) == 1 then
		return {1, run}
	end
	local owner = a[10]
	local refused = owner_refuses(owner)
	if refused then
		return refused
	end
	local now = now_ms()
	if idem ~= '' then
		call('HSET', P .. 'idem', idem, run .. ' ' .. digest)
		call('ZADD', P .. 'idemz', now, idem)
	end
	call('HSET', RUN .. run, 'id', run, 'rec', a[3], 'class', a[4], 'weight', a[5],
		'lease', a[6], 'name', a[7], 'state', 'active', 'vt', '0', 'hold', '0', 'ending', '',
		'error', '', 'digest', '', 'created', now, 'ended', '', 'total', 0, 'n:blocked', 0,
		'n:ready', 0, 'n:running', 0, 'n:done', 0, 'n:delayed', 0, 'n:failed', 0,
		'n:cancelled', 0, 'n:skipped', 0, 'rev', int(now), 'owner', owner, 'max_running', a[11], 'aged', 0,
		'since', lclock(), 'limited', (a[11] ~= '0' or owner ~= '' and call('EXISTS',
		P .. 'quota:' .. owner) == 1) and '1' or '0')
	if owner ~= '' then
		call('SADD', P .. 'orun:' .. owner, run)
	end
	call('ZADD', P .. 'runs', call('HINCRBY', M, 'seq', 1), run)
	call('SADD', P .. 'openruns', run)
	run_event(run, 'active', {name = a[7]})
	return {0, run}
end)

-- Parses the flat argument list; returns the jobs that are new, and the states of those that are not. Or nil
-- and an error.
local function jobs_parse(a, run)
	local jobs, new, states, i = {}, {}, {}, 3
	while i <= #a do
		local j = {id = a[i], stage = a[i + 1], iter = a[i + 2], shard = a[i + 3], pass = a[i + 4],
			need = a[i + 5], opt = a[i + 6], cost = a[i + 7], max = a[i + 8],
			def = a[i + 9], pool = a[i + 10], prio = a[i + 11], stall = a[i + 12],
			requeue = a[i + 13], src = a[i + 14], parents = {}}
		local n = tonumber(a[i + 15])
		if not IS_STAGE[j.stage] then
			return nil, fail('INVALID', 'job ' .. j.id .. ': unknown stage ' .. j.stage)
		end
		for k = 1, n do
			local p = a[i + 15 + k]
			if not new[p] and not states[p] then
				local s = call('HMGET', JOB .. p, 'state', 'run')
				if not s[1] or s[2] ~= run then
					return nil, fail('INVALID', 'job ' .. j.id .. ': unknown parent ' .. p)
				end
				states[p] = s[1]
			end
			j.parents[k] = p
		end
		i = i + 16 + n
		if not new[j.id] and not states[j.id] then
			states[j.id] = call('HGET', JOB .. j.id, 'state') or nil
			new[j.id] = not states[j.id]
			jobs[#jobs + 1] = new[j.id] and j or nil
		end
	end
	return jobs, states
end

-- Counts what its parents are, and says how it begins.
local function job_first_state(j, states)
	j.left, j.succ = 0, 0
	for _, p in ipairs(j.parents) do
		j.left = j.left + (TERMINAL[states[p]] and 0 or 1)
		j.succ = j.succ + (states[p] == 'done' and 1 or 0)
	end
	if j.left > 0 then
		return 'blocked'
	end
	return j.succ >= tonumber(j.need) and 'ready' or 'skipped'
end

-- What is not absent or its usual value.
local function job_words(j, run, seq, now, state)
	local par = {}
	for i = 1, #j.parents do
		par[i] = id_rest(run, j.parents[i])
	end
	local words = {'state', state, 'run', run, 'stage', j.stage, 'iter', j.iter, 'seq', int(seq),
		'cost', j.cost, 'max', j.max, 'def', j.def, 'created', now, 'par', table.concat(par, ' '), 'ch', ''}
	local function put(field, value, usual)
		if value ~= usual then
			words[#words + 1] = field
			words[#words + 1] = value
		end
	end
	put('shard', j.shard, '0')
	put('pass', j.pass, '0')
	put('left', int(j.left), '0')
	put('succ', int(j.succ), '0')
	put('need', j.need, '0')
	put('opt', j.opt, '0')
	put('prio', j.prio, '0')
	put('stall', j.stall, '0')
	put('requeue', j.requeue, '0')
	put('queue', j.queue, j.stage)
	put('src', j.src, table.concat(j.parents, ' '))
	return words
end

local function job_make(run, j, seq, now, states)
	local state = job_first_state(j, states)
	j.queue = j.pool ~= '' and j.stage .. '@' .. j.pool or j.stage
	call('HSET', JOB .. j.id, unpack(job_words(j, run, seq, now, state)))
	call('ZADD', P .. 'rj:' .. run, int(seq), j.id)
	states[j.id] = state
	run_add(run_of(run), 'n:' .. state, 1)
	local made = setmetatable({id = j.id, state = state, run = run, stage = j.stage, queue = j.queue,
		iter = j.iter, shard = j.shard, pass = j.pass, seq = seq, prio = tonumber(j.prio)}, OR_ABSENT)
	if state == 'ready' then
		ready_in(made)
	end
	job_event(made, '')
end

-- Children stand in their parent's hash while they are few.
local function children_add(run, id, new)
	local key, more = JOB .. id, {}
	local was = call('HGET', key, 'ch')
	if not was then
		call('SADD', P .. 'ch:' .. id, unpack(ids_of(run, table.concat(new, ' '), {})))
		return
	end
	local ch = was
	for i = 1, #new do
		if #ch + #new[i] < CHILDREN then
			ch = #ch < 2 and ch .. new[i] or ch .. ' ' .. new[i]
		else
			more[#more + 1] = new[i]
		end
	end
	if more[1] then
		call('RPUSH', P .. 'cl:' .. id, unpack(more))
		ch = string.sub(ch, 1, 1) == '+' and ch or '+' .. ch
	end
	if ch ~= was then
		call('HSET', key, 'ch', ch)
	end
end

-- Parents come before children, and learn of all of theirs at once.
local function jobs_make(run, jobs, seq, states)
	local now, children, order = now_text(), {}, {}
	for k, j in ipairs(jobs) do
		job_make(run, j, seq + k, now, states)
		for _, p in ipairs(j.parents) do
			if not children[p] then
				children[p] = {}
				order[#order + 1] = p
			end
			table.insert(children[p], id_rest(run, j.id))
		end
	end
	for _, p in ipairs(order) do
		for from = 1, #children[p], BATCH do
			children_add(run, p, {unpack(children[p], from, math.min(from + BATCH - 1, #children[p]))})
		end
	end
end

-- add_jobs run (id stage iter shard pass need optional cost max def pool prio stall_ms requeue
--   sources n parent…)… -> number added
register('add_jobs', function(a)
	local run = a[2]
	local r = run_of(run)
	if not r then
		return fail('NOTFOUND', 'no run ' .. run)
	end
	if RUN_TERMINAL[r.state] or r.ending ~= '' then
		return fail('CONFLICT', 'run ' .. run .. ' is ' .. r.state)
	end
	local jobs, states = jobs_parse(a, run)
	if not jobs then
		return states
	end
	local total = run_count(r, 'total') + #jobs
	if total > JOBS_MAX then
		return fail('FULL', 'run ' .. run .. ' would have ' .. total ..
			' jobs, the limit is ' .. JOBS_MAX)
	end
	if #jobs == 0 then
		return 0
	end
	jobs_make(run, jobs, call('HINCRBY', M, 'seq', #jobs) - #jobs, states)
	run_add(r, 'total', #jobs)
	return #jobs
end)

-- Jobs that ended badly and are not optional.
local function bad_count(run)
	local n = 0
	for _, id in ipairs(call('ZRANGE', P .. 'rj:' .. run, 0, -1)) do
		local v = call('HMGET', JOB .. id, 'state', 'opt')
		if v[1] ~= 'done' and v[2] ~= '1' then
			n = n + 1
		end
	end
	return n
end

-- finish run n_done digest -> 1 when it ended the run
register('finish', function(a)
	local run = a[2]
	local r = run_of(run)
	if not r then
		return fail('NOTFOUND', 'no run ' .. run)
	end
	local total, done = run_count(r, 'total'), run_count(r, 'n:done')
	if RUN_TERMINAL[r.state] or r.ending ~= '' or total == 0 or done ~= tonumber(a[3]) or
		open_count(r) > 0 then
		return 0
	end
	local bad = total == done and 0 or bad_count(run)
	if bad > 0 then
		run_end(r, 'failed', run_count(r, 'n:failed') .. ' jobs failed, ' ..
			run_count(r, 'n:cancelled') .. ' cancelled, ' .. run_count(r, 'n:skipped') ..
			' skipped', '')
	else
		run_end(r, 'done', '', a[4])
	end
	return 1
end)

-- The end of a run before its time: cancels what is open, and waits for what runs.
local function run_stop(run, ending, err)
	local r = run_of(run)
	run_put(r, 'ending', ending)
	run_put(r, 'error', err)
	-- Children first, so that they end as cancelled and not as skipped.
	for _, id in ipairs(call('ZREVRANGE', P .. 'rj:' .. run, 0, -1)) do
		local j = job_load(id)
		if not TERMINAL[j.state] then
			job_cancel(j, 'the run was stopped')
		end
	end
	if open_count(r) > 0 then
		run_put(r, 'state', 'draining')
		run_event(run, 'draining', {ending = ending})
	end
	run_settle(run)
end

-- stop run ending error -> 1, or 0 when it had ended or was ending that way
register('stop', function(a)
	local r = run_of(a[2])
	if not r then
		return fail('NOTFOUND', 'no run ' .. a[2])
	end
	if r.state == a[3] or r.ending == a[3] then
		return 0
	end
	if RUN_TERMINAL[r.state] then
		return fail('CONFLICT', 'run ' .. a[2] .. ' is ' .. r.state .. ' already')
	end
	run_stop(a[2], a[3], a[4])
	audit('stop', a[2], '', a[3])
	return 1
end)

local HOLD_STATE = {['0'] = 'active', ['1'] = 'paused', ['2'] = 'draining'}

-- hold run 0|1|2: resume, pause (what runs is asked to stop), drain (what runs may finish)
--   -> 1 when it changed something
register('hold', function(a)
	local r = run_of(a[2])
	if not r then
		return fail('NOTFOUND', 'no run ' .. a[2])
	end
	if RUN_TERMINAL[r.state] or r.ending ~= '' then
		return fail('CONFLICT', 'run ' .. a[2] .. ' is ' .. r.state)
	end
	if r.hold == a[3] then
		return 0
	end
	local state = HOLD_STATE[a[3]]
	run_put(r, 'hold', a[3])
	run_put(r, 'state', state)
	pools_sync(r)
	run_event(a[2], state)
	audit('hold', a[2], '', state)
	return 1
end)

-- What may be said of a run: settings of one that is open, and labels of any.
local TUNABLE = {class = 1, weight = 1, max_running = 1}
local LABEL = {notes = 1, tags = 1, starred = 1}

-- tune run (field value)…: class, weight, max_running, notes, tags (JSON), starred (0 or 1)
register('tune', function(a)
	local r = run_of(a[2])
	if not r then
		return fail('NOTFOUND', 'no run ' .. a[2])
	end
	local tuned = false
	for i = 3, #a, 2 do
		if TUNABLE[a[i]] and RUN_TERMINAL[r.state] then
			return fail('CONFLICT', 'run ' .. a[2] .. ' is ' .. r.state)
		elseif not TUNABLE[a[i]] and not LABEL[a[i]] then
			return fail('INVALID', 'a run has no setting ' .. a[i])
		end
		tuned = tuned or TUNABLE[a[i]] ~= nil
	end
	for i = 3, #a, 2 do
		run_put(r, a[i], TUNABLE[a[i]] and tonumber(a[i + 1]) or a[i + 1])
		audit('tune', a[2], '', a[i] .. '=' .. a[i + 1])
	end
	if tuned then
		run_limit(r)
		pools_sync(r)
	end
	run_event(a[2], r.state, {tuned = true})
	return 1
end)

-- quota_set owner runs running gpu_hours: 0 is no limit; three zeros take the quota away
register('quota_set', function(a)
	local owner, none = a[2], tonumber(a[3]) + tonumber(a[4]) + tonumber(a[5]) == 0
	local running = 0
	if none then
		call('DEL', P .. 'quota:' .. owner)
		call('SREM', P .. 'quotas', owner)
	else
		call('HSET', P .. 'quota:' .. owner, 'runs', a[3], 'running', a[4], 'gpu_hours', a[5])
		call('SADD', P .. 'quotas', owner)
	end
	for _, run in ipairs(call('SMEMBERS', P .. 'orun:' .. owner)) do
		local r = run_of(run)
		run_limit(r)
		running = running + run_count(r, 'n:running')
	end
	call('HSET', P .. 'own:' .. owner, 'running', running)
	owner_sync(owner)
	audit('quota', '', '', owner)
	return 1
end)

-- cancel_job job -> 1, or 0 when it was terminal
register('cancel_job', function(a)
	local j = job_load(a[2])
	if not j then
		return fail('NOTFOUND', 'no job ' .. a[2])
	end
	local did = job_cancel(j, 'cancelled by an operator')
	audit('cancel', j.run, j.id)
	run_settle(j.run)
	return did and 1 or 0
end)

-- checkpoint_job job: the next beat asks for one
register('checkpoint_job', function(a)
	if call('HGET', JOB .. a[2], 'state') ~= 'running' then
		return fail('CONFLICT', 'job ' .. a[2] .. ' does not run')
	end
	call('HSET', JOB .. a[2], 'cknow', '1')
	return 1
end)

-- job_prio job priority: -9..9, before or after others of its run and queue
register('job_prio', function(a)
	local j = job_load(a[2])
	if not j then
		return fail('NOTFOUND', 'no job ' .. a[2])
	end
	if TERMINAL[j.state] then
		return fail('CONFLICT', 'job ' .. j.id .. ' is ' .. j.state)
	end
	call('HSET', JOB .. j.id, 'prio', a[3])
	if j.state == 'ready' then
		call('ZADD', P .. 'rq:' .. j.queue .. ':' .. j.run, 'XX',
			j.seq - tonumber(a[3]) * PRIORITY, j.id)
	end
	audit('priority', j.run, j.id, a[3])
	return 1
end)
