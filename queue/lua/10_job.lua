-- Jobs and the indexes that follow from their states.

-- Fields of a job that are numbers, or numbers that are only passed on; absent ones are 0.
local NUMBERS = {'seq', 'att', 'max', 'lost', 'starts', 'cost', 'charged', 'slc', 'ttl', 'left', 'succ', 'need',
	'losses', 'pre', 'prio', 'ckl', 'stall', 'gen', 'price', 'mks'}
local DIGITS = {'iter', 'shard', 'pass', 'pd', 'fpd', 'ast'}
local TEXTS = {'token', 'worker', 'cancel', 'ck', 'opt', 'dtok', 'ftok', 'stuck', 'requeue', 'src', 'err', 'mk', 'told'}
local ABSENT = {}
for i = 1, #NUMBERS do
	ABSENT[NUMBERS[i]] = 0
end
for i = 1, #DIGITS do
	ABSENT[DIGITS[i]] = '0'
end
for i = 1, #TEXTS do
	ABSENT[TEXTS[i]] = ''
end
local OR_ABSENT = {__index = ABSENT}

-- The whole hash; rawget() tells whether a field is there.
local function job_load(id)
	local v = call('HGETALL', JOB .. id)
	if not v[1] then
		return nil
	end
	local j = {id = id}
	for i = 1, #v, 2 do
		local field = v[i]
		j[field] = ABSENT[field] == 0 and (tonumber(v[i + 1]) or 0) or v[i + 1]
	end
	j.queue = j.queue or j.stage
	return setmetatable(j, OR_ABSENT)
end

-- Ids of the run's jobs from a text without the run's part.
local function ids_of(run, text, out)
	for rest in string.gmatch(text, '[^ +]+') do
		out[#out + 1] = run .. '.' .. rest
	end
	return out
end

local function id_rest(run, id)
	return string.sub(id, #run + 2)
end

-- Jobs that older servers made have them in their definition, and a set of children.
local function parents_of(j)
	return rawget(j, 'par') and ids_of(j.run, j.par, {}) or cjson.decode(j.def).parents
end

local function children_of(j)
	local ch = rawget(j, 'ch')
	if not ch then
		return call('SMEMBERS', P .. 'ch:' .. j.id)
	end
	local out = ids_of(j.run, ch, {})
	if string.sub(ch, 1, 1) == '+' then
		ids_of(j.run, table.concat(call('LRANGE', P .. 'cl:' .. j.id, '0', '-1'), ' '), out)
	end
	return out
end

local function job_place(j)
	return '"stage":"' .. j.stage .. '","iter":' .. j.iter .. ',"shard":' .. j.shard .. ',"pass":' .. j.pass ..
		',"attempt":' .. int(j.starts)
end

-- Names of stages, states and workers are plain words; only a note needs quoting.
local function job_event(j, from, note)
	local worker = j.worker
	event('job', j.run, j.id, '{"state":"' .. j.state .. '","from":"' .. from .. '",' .. job_place(j) ..
		(worker ~= '' and ',"worker":"' or '') .. worker .. (worker ~= '' and '"' or '') ..
		(note and note ~= '' and ',"note":' .. cjson.encode(note) or '') .. '}')
end

-- --- where a job is -------------------------------------------------------------------------------

local function running_out(j)
	lease_drop(j.id, j.worker)
	if j.cancel == '1' then
		call('ZREM', P .. 'grace', j.id)
	end
	if j.stall > 0 then
		call('ZREM', P .. 'stall', j.id)
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
		call('ZREM', P .. 'delayed', j.id)
	end
	local r = run_of(j.run)
	run_add(r, 'n:' .. from, -1)
	run_add(r, 'n:' .. to, 1)
	fields = fields or {}
	if j.ended_attempt then
		if rawget(j, 'la') then
			call('RPUSH', P .. 'at:' .. j.id, j.la)
		end
		fields[#fields + 1] = 'la'
		fields[#fields + 1] = j.ended_attempt
		j.la, j.ended_attempt = j.ended_attempt, nil
	elseif to == 'ready' and from ~= 'running' and rawget(j, 'la') then
		-- How long it stood still after its last attempt, and how long it then waited for its turn.
		j.la = string.gsub(j.la, ',"again_ms":%d+}$', '}')
		j.la = string.sub(j.la, 1, -2) .. ',"again_ms":' .. now_text() .. '}'
		fields[#fields + 1] = 'la'
		fields[#fields + 1] = j.la
	end
	call('HSET', JOB .. j.id, 'state', to, unpack(fields))
	j.state = to
	if to == 'ready' then
		ready_in(j)
	end
	if from == 'running' then
		running_count(r, -1)
	elseif to == 'running' then
		running_count(r, 1)
	end
	job_event(j, from, note)
	if from == 'running' then
		j.token, j.worker = '', ''
	end
end

-- A terminal job tells its children; those it was the last parent of become ready or skipped, and
-- skipped ones tell theirs.
local function release(j, ok)
	local work = {{j, ok}}
	while #work > 0 do
		local it = table.remove(work)
		for _, child in ipairs(children_of(it[1])) do
			local key = JOB .. child
			if it[2] then
				call('HINCRBY', key, 'succ', 1)
			end
			if call('HINCRBY', key, 'left', -1) == 0 then
				local c = job_load(child)
				if c.state == 'blocked' and c.succ >= c.need then
					move(c, 'ready')
				elseif c.state == 'blocked' then
					move(c, 'skipped', {'ended', now_ms()})
					work[#work + 1] = {c, false}
				end
			end
		end
	end
end

-- Counts a job's parents afresh: how many are open, how many succeeded.
local function recount(j)
	local left, succ = 0, 0
	for _, p in ipairs(parents_of(j)) do
		local s = call('HGET', JOB .. p, 'state')
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
	local left, succ = recount(j)
	if left > 0 then
		call('HSET', JOB .. j.id, 'left', left, 'succ', succ)
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

-- Adds to the useful and lost time of the run and of all, and to their cost in millionths of the price's
-- unit.
local function account(j, spent, useful)
	local r = run_of(j.run)
	local function count(field, n)
		if n > 0 then
			run_add(r, field, n)
			call('HINCRBY', M, 'all_' .. field, int(n))
		end
	end
	local function add(kind, ms)
		count(kind .. '_ms', ms)
		count(kind .. '_cost', ms * j.price / 3.6)
	end
	add('useful', useful)
	add('lost', spent - useful)
end

-- What happened to the open attempt and when, as text in the job's fields until it ends: checkpoint (it
-- kept one), notice (its machine will be taken), stuck, and what the worker was told: cancel, pause, drain.
-- Of too many every other one goes, so that those left still tell of the whole time.
local function mark(j, kind)
	local text = j.mks > 0 and j.mk or ''
	if j.mks >= MARKS then
		local kept, n = {}, 0
		for one in string.gmatch(text, '{[^}]*}') do
			n = n + 1
			kept[#kept + 1] = n % 2 == 0 and one or nil
		end
		text, j.mks = table.concat(kept, ','), #kept
	end
	text = text .. (text ~= '' and ',' or '') .. '{"at_ms":' .. now_text() .. ',"kind":"' .. kind ..
		'","done":' .. j.pd .. '}'
	j.mk, j.mks = text, j.mks + 1
	call('HSET', JOB .. j.id, 'mk', text, 'mks', int(j.mks))
end

-- Ended attempts are kept as text, which move() writes; the open one is in the job's fields.
local function attempt_close(j, how, reason)
	local spent, useful = attempt_work(j, how)
	account(j, spent, useful)
	if how == 'lease_lost' or how == 'preempted' then
		run_add(run_of(j.run), 'torn_off', 1)
		call('HINCRBY', M, 'all_torn_off', 1)
	end
	j.ended_attempt = '{"n":' .. int(j.starts) .. ',"worker":"' .. j.worker ..
		'","started_ms":' .. j.ast .. ',"fence":' .. (string.match(j.token, '^%d+') or 'null') ..
		',"from_progress":' .. j.fpd .. ',"ended_ms":' .. int(now_ms()) ..
		',"end":"' .. how .. '","reason":' .. (reason ~= '' and reason or 'null') ..
		',"to_progress":' .. j.pd .. ',"useful_ms":' .. int(useful) .. ',"lost_ms":' ..
		int(spent - useful) .. (j.price > 0 and ',"price_per_hour":' .. j.price or '') ..
		(j.mks > 0 and ',"marks":[' .. j.mk .. ']' or '') .. '}'
end

-- What an owner with a quota has used today.
local function owner_charge(owner, seconds)
	local own, today = P .. 'own:' .. owner, math.floor(now_ms() / DAY_MS)
	local use = call('HMGET', own, 'day', 'seconds')
	local before = tonumber(use[1]) == today and tonumber(use[2]) or 0
	call('HSET', own, 'day', today, 'seconds', string.format('%.3f', before + seconds))
end

-- The estimate charged at claim gives way to what the attempt really took.
local function settle_charge(j)
	local took, r = (lclock() - j.slc) / 1000, run_of(j.run)
	run_put(r, 'vt', r.vt + (took - (rawget(j, 'charged') or j.cost)) / r.weight)
	if r.limited == '1' and r.owner ~= '' then
		owner_charge(r.owner, took)
	end
end

-- --- the end of a run ----------------------------------------------------------------------------

local function open_count(r)
	return run_count(r, 'n:blocked') + run_count(r, 'n:ready') + run_count(r, 'n:running') +
		run_count(r, 'n:delayed')
end

local function run_event(run, state, extra)
	local d = extra or {}
	d.state = state
	run_add(run_of(run), 'rev', 1)
	event('run', run, '', cjson.encode(d))
end

local function run_end(r, state, err, digest)
	run_put(r, 'state', state)
	run_put(r, 'ended', int(now_ms()))
	run_put(r, 'ending', '')
	run_put(r, 'error', err)
	run_put(r, 'digest', digest)
	call('SREM', P .. 'openruns', r.id)
	if r.owner ~= '' then
		call('SREM', P .. 'orun:' .. r.owner, r.id)
	end
	run_event(r.id, state, err ~= '' and {error = err} or nil)
end

-- A cancelled or failing run ends with its last open job.
local function run_settle(run)
	local r = run_of(run)
	if r.ending ~= '' and open_count(r) == 0 then
		run_end(r, r.ending, r.error or call('HGET', RUN .. run, 'error') or '', '')
	end
end

-- Cancels one job; a running one is asked, and gets GRACE_MS. False when it was terminal.
local function job_cancel(j, why)
	if TERMINAL[j.state] then
		return false
	end
	if j.state ~= 'running' then
		move(j, 'cancelled', {'ended', now_ms(), 'cancel', '1'}, why)
		release(j, false)
	elseif j.cancel ~= '1' then
		call('HSET', JOB .. j.id, 'cancel', '1')
		call('ZADD', P .. 'grace', lclock() + GRACE_MS, j.id)
		event('job', j.run, j.id, '{"state":"running","cancelling":true,' .. job_place(j) ..
			',"worker":"' .. j.worker .. '"}')
	end
	return true
end

-- What an operator did, and to what. Who asked is known to the server, which keeps its own record.
local function audit(verb, run, job, detail)
	if run ~= '' and job == '' then
		run_add(run_of(run), 'rev', 1)
	end
	call('XADD', P .. 'audit', 'MAXLEN', '~', AUDIT, '*', 'v', verb, 'r', run, 'j', job, 'd',
		detail or '')
end
