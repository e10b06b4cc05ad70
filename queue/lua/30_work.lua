-- What workers do: claim, beat, owns, complete, fail. Every write carries the token of its lease.

local function worker_seen(worker)
	local w, lc = worker_of(worker), int(lclock())
	worker_put(worker, 'lb', now_text())
	if w.lc == lc and w.lost ~= '1' and w.gone ~= '1' then
		return -- the lease clock stood still since it stands in wz
	end
	worker_put(worker, 'lc', lc)
	-- Only those that were given up, or said good-bye, are not in wz.
	if call('ZADD', P .. 'wz', lc, worker) == 1 and w.lost == '1' then
		worker_put(worker, 'lost', '0')
		event('worker', '', '', cjson.encode({id = worker, state = 'idle'}))
	end
end

-- What the jobs have made whose outputs are taken in: id, outputs, id, outputs…
local function sources_of(j)
	local out, ids = {}, {}
	if rawget(j, 'src') or not rawget(j, 'par') then
		for id in string.gmatch(j.src, '%S+') do
			ids[#ids + 1] = id
		end
	else
		ids_of(j.run, j.par, ids)
	end
	for _, id in ipairs(ids) do
		out[#out + 1] = id
		out[#out + 1] = call('HGET', JOB .. id, 'outputs') or ''
	end
	return out
end

-- What a worker needs to begin with a job, or to go on: {job, token, starts, ttl, what of the job's hash
-- matters now and is not absent, the run's record, sources, ms worked in the run, attempts torn off there}.
local BRIEF = {'need', 'gen', 'att', 'shard', 'pass', 'ck', 'par'}
local function brief(j, ttl)
	local hash, n, r = {'def', j.def, 'run', j.run, 'stage', j.stage, 'state', 'running', 'iter', j.iter,
		'starts', int(j.starts), 'max', int(j.max), 'worker', j.worker, 'cost', tostring(j.cost)}, 18, run_of(j.run)
	for i = 1, #BRIEF do
		local field = BRIEF[i]
		local value = rawget(j, field)
		if value then
			hash[n + 1] = field
			hash[n + 2] = type(value) == 'number' and int(value) or value
			n = n + 2
		end
	end
	return {j.id, j.token, j.starts, ttl, hash, r.rec, sources_of(j),
		int(r.useful_ms + r.lost_ms), int(r.torn_off)}
end

-- A ready job gets a lease and a token.
local function lease_to(j, worker, nonce, ttl, price)
	local r, lc, now = run_of(j.run), lclock(), now_text()
	local clock = int(lc)
	ttl = r.lease > 0 and r.lease or tonumber(ttl)
	meta_memo['v:' .. r.class] = real(r.vt)
	run_put(r, 'vt', r.vt + j.cost / r.weight)
	run_put(r, 'since', clock)
	run_put(r, 'aged', 0)
	j.token, j.worker, j.starts = int(fence_next()) .. '.' .. nonce, worker, j.starts + 1
	lease_put(j.id, worker, int(lc + ttl))
	if j.stall > 0 then
		call('ZADD', P .. 'stall', int(lc + j.stall), j.id)
	end
	local fields = {'token', j.token, 'worker', worker, 'starts', int(j.starts), 'slc', clock, 'ttl', int(ttl),
		'lb', now, 'ast', now}
	-- What another attempt may have left.
	local function put(field, value, usual)
		if value ~= usual or j.starts > 1 then
			fields[#fields + 1] = field
			fields[#fields + 1] = value
		end
	end
	put('fpd', j.pd, '0')
	put('price', price or '0', '0')
	if j.starts == 1 then
		put('started', now)
	else
		put('charged', tostring(j.cost))
		put('ended', '')
		put('ckl', '')
		put('stuck', '')
		put('mks', '0')
	end
	move(j, 'running', fields)
	return brief(j, ttl)
end

-- worker nonce ttl queues -> brief(), or false when there is nothing for it
local function grant(worker, nonce, ttl, queues, seen)
	local w = worker_of(worker)
	if w.gone ~= '0' then
		return fail('NOTFOUND', 'no worker ' .. worker .. ', register first')
	end
	if not seen then
		worker_seen(worker)
	end
	if w.drain == '1' or w.drain == '2' or (w.ill or '') ~= '' then
		return false
	end
	local id = pick(queues)
	if not id then
		return false
	end
	return lease_to(job_load(id), worker, nonce, ttl, w.price)
end

-- claim worker nonce ttl queues -> what grant() gives, or nil
register('claim', function(a)
	return grant(a[2], a[3], a[4], a[5])
end)

-- The job if the token is current; nil and an error otherwise.
local function held(id, token)
	local j = job_load(id)
	if not j then
		return nil, fail('NOTFOUND', 'no job ' .. id)
	end
	if j.state ~= 'running' or j.token ~= token then
		return j, fail('STALE', 'the lease of job ' .. id .. ' is over')
	end
	return j
end

-- owns job token -> 1
register('owns', function(a)
	local _, err = held(a[2], a[3])
	return err or 1
end, {'no-writes'})

-- A worker is told to stop at each beat until it has; the first time is kept.
local function stop_told(j, what)
	if j.told ~= j.token .. what then
		call('HSET', JOB .. j.id, 'told', j.token .. what)
		mark(j, what)
	end
	return what
end

local function beat_action(j)
	if j.cancel == '1' then
		return stop_told(j, 'cancel')
	end
	if run_of(j.run).hold == '1' or j.stuck == '2' then
		return stop_told(j, 'pause')
	end
	if worker_of(j.worker).drain == '1' then
		return stop_told(j, 'drain')
	end
	if j.cknow == '1' then
		call('HDEL', JOB .. j.id, 'cknow')
		return 'checkpoint_now'
	end
	return 'continue'
end

-- beat job token done total unit checkpoint log_size metrics_json (step json)… -> action
-- A new checkpoint forgives the losses so far.
register('beat', function(a)
	local j, err = held(a[2], a[3])
	if err then
		return err
	end
	local key, set, d = JOB .. j.id, {'lb', now_text()}, nil
	local function put(field, value)
		set[#set + 1] = field
		set[#set + 1] = value
	end
	if a[4] ~= '' then
		if j.pd ~= a[4] or j.pt ~= a[5] then
			d = {done = tonumber(a[4]), total = tonumber(a[5]), unit = a[6]}
		end
		put('pd', a[4])
		put('pt', a[5])
		put('pu', a[6])
	end
	local saved = a[7] ~= '' and a[7] ~= j.ck
	if saved then
		put('ck', a[7])
		put('ckat', set[2])
		put('ckl', int(lclock()))
		put('lost', '0')
	end
	if (d or saved) and j.stall > 0 then
		call('ZADD', P .. 'stall', 'XX', int(lclock() + j.stall), j.id)
		put('stuck', '')
		j.stuck = ''
	end
	if a[8] ~= '' then
		put('logsz', a[8])
	end
	call('HSET', key, unpack(set))
	if saved then
		j.pd = a[4] ~= '' and a[4] or j.pd
		mark(j, 'checkpoint')
	end
	lease_memo[j.id] = int(lclock() + j.ttl)
	worker_seen(j.worker)
	if d or saved then
		event('job', j.run, j.id, '{"state":"running",' .. job_place(j) .. ',"worker":"' .. j.worker ..
			'"' .. (d and ',"progress":' .. cjson.encode(d) or '') ..
			(saved and ',"checkpoint":true' or '') .. '}')
	end
	for i = 10, #a, 2 do
		call('HSET', P .. 'mx:' .. j.id, a[i], a[i + 1])
	end
	if #a >= 10 then
		event('metric', j.run, j.id, '{"stage":"' .. j.stage .. '","iter":' .. j.iter ..
			',"shard":' .. j.shard .. ',"metrics":' .. a[9] .. '}')
	end
	return beat_action(j)
end)

-- notice job token -> 1: the worker was told that its machine will be taken
register('notice', function(a)
	local j, err = held(a[2], a[3])
	if err then
		return err
	end
	local key = JOB .. j.id
	if call('HGET', key, 'noted') ~= j.token then
		call('HSET', key, 'noted', j.token)
		mark(j, 'notice')
		event('job', j.run, j.id, '{"state":"running","notice":true,' .. job_place(j) .. ',"worker":"' ..
			j.worker .. '"}')
	end
	return 1
end)

-- complete job token outputs metrics info (worker nonce ttl queues) -> {again, next or nil}
register('complete', function(a)
	local j, err = held(a[2], a[3])
	if not j then
		return err
	end
	if err and j.state == 'done' and j.dtok == a[3] then
		return {1}
	end
	if err then
		return err
	end
	local worker = j.worker
	worker_seen(worker)
	attempt_close(j, 'completed', '')
	settle_charge(j)
	local fields = {'outputs', a[4], 'dtok', a[3], 'token', '', 'ended', now_text()}
	for i, field in ipairs({'metrics', 'info', 'err'}) do
		local value = i < 3 and a[4 + i] or ''
		if value ~= '' or rawget(j, field) then
			fields[#fields + 1] = field
			fields[#fields + 1] = value
		end
	end
	move(j, 'done', fields)
	worker_put(worker, 'done', int((tonumber(worker_of(worker).done) or 0) + 1))
	release(j, true)
	run_settle(j.run)
	if a[7] then
		local g = grant(a[7], a[8], a[9], a[10], a[7] == worker)
		return {0, g and not g.err and g or false}
	end
	return {0}
end)

-- Full jitter over min(limit, 2^attempts seconds), from a hash instead of a generator.
local function backoff_ms(j)
	local cap = math.min(BACKOFF_MS, 1000 * 2 ^ j.att)
	local x = tonumber(string.sub(redis.sha1hex(j.id .. ':' .. j.token), 1, 6), 16)
	return math.floor(cap * x / 0xffffff)
end

-- fail job token retry|fatal|preempted reason note -> new state
register('fail', function(a)
	local j, err = held(a[2], a[3])
	if not j then
		return err
	end
	if err and j.ftok == a[3] then
		return j.state
	end
	if err then
		return err
	end
	local kind, worker = a[4], j.worker
	worker_seen(worker)
	settle_charge(j)
	local base = {'token', '', 'worker', '', 'ftok', a[3]}
	local function with(...)
		for _, v in ipairs({...}) do
			base[#base + 1] = v
		end
		return base
	end
	if j.cancel == '1' then
		attempt_close(j, 'cancelled', a[5])
		move(j, 'cancelled', with('ended', now_ms()), a[6])
		release(j, false)
	elseif kind == 'preempted' then
		attempt_close(j, 'preempted', a[5])
		worker_put(worker, 'pre', int((tonumber(worker_of(worker).pre) or 0) + 1))
		back(j, with('pre', j.pre + 1), 'preempted')
	elseif kind == 'retry' and j.att + 1 < j.max then
		attempt_close(j, 'failed', a[5])
		j.att = j.att + 1
		local due = lclock() + backoff_ms(j)
		call('ZADD', P .. 'delayed', due, j.id)
		move(j, 'delayed', with('att', j.att, 'due', due, 'err', a[5]), a[6])
	else
		attempt_close(j, 'failed', a[5])
		move(j, 'failed', with('att', j.att + 1, 'err', a[5], 'ended', now_ms()), a[6])
		release(j, false)
	end
	run_settle(j.run)
	return j.state
end)

-- many (verb n argument…)… -> what each answers, in order, as if said one after the other: the next is given
-- what the one before has left, and its failure, even a bug's, is its own.
register('many', function(a)
	local calls, out, i = {}, {}, 2
	while i <= #a do
		local n = tonumber(a[i + 1])
		if not bodies[a[i]] or not n or i + 1 + n > #a then
			return fail('INVALID', 'many: ' .. a[i] .. ' is no verb that goes together')
		end
		calls[#calls + 1] = {bodies[a[i]], {a[1], unpack(a, i + 2, i + 1 + n)}}
		i = i + 2 + n
	end
	for k = 1, #calls do
		to_come = #calls - k + 1
		local ok, answer = pcall(calls[k][1], calls[k][2])
		places_settle()
		if ok then
			out[k] = answer or false
		else
			out[k] = {err = type(answer) == 'table' and answer.err or 'ERR ' .. tostring(answer)}
		end
	end
	return out
end)
