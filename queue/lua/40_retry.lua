-- retry and invalidate: an operator brings terminal jobs back.

do

local RETRY = {failed = 1, cancelled = 1, skipped = 1}

-- The roots, and the children of what is in the set that `follow` says yes to. Sorted by seq, so parents
-- come before children.
local function below(roots, follow)
	local work, set, seen = {}, {}, {}
	for _, j in ipairs(roots) do
		work[#work + 1] = j
		seen[j.id] = true
	end
	while #work > 0 do
		local j = table.remove(work)
		set[#set + 1] = j
		for _, c in ipairs(children_of(j)) do
			local cj = not seen[c] and job_load(c)
			if cj and follow(cj) then
				seen[c] = true
				work[#work + 1] = cj
			end
		end
	end
	table.sort(set, function(x, y) return x.seq < y.seq end)
	return set, seen
end

-- Children that were waiting, or about to start, wait for the parent again.
local function hold_back(j, seen)
	for _, c in ipairs(children_of(j)) do
		local cj = not seen[c] and job_load(c)
		if cj and not TERMINAL[cj.state] and cj.state ~= 'running' then
			local left, succ = recount(cj)
			call('HSET', JOB .. c, 'left', left, 'succ', succ)
			if cj.state ~= 'blocked' and left > 0 then
				move(cj, 'blocked')
			end
		end
	end
end

local function run_reopen(run)
	local r = run_of(run)
	if RUN_TERMINAL[r.state] then
		local state = HOLD_STATE[r.hold]
		run_put(r, 'state', state)
		for _, field in ipairs({'ended', 'error', 'digest'}) do
			run_put(r, field, '')
		end
		call('SADD', P .. 'openruns', run)
		if r.owner ~= '' then
			call('SADD', P .. 'orun:' .. r.owner, run)
		end
		run_limit(r) -- quotas may have come and gone since it ended
		run_event(run, state)
	end
end

-- Brings back the roots, what was skipped below them, and with `subtree` all that did not succeed.
local function retry(run, roots, subtree)
	local set, seen = below(roots, function(j)
		return j.state == 'skipped' or subtree and RETRY[j.state]
	end)
	run_reopen(run)
	for _, j in ipairs(set) do
		local left, succ = recount(j)
		local fields = {'left', left, 'succ', succ, 'att', 0, 'lost', 0, 'cancel', '0', 'err', '',
			'ended', '', 'token', '', 'worker', ''}
		j.cancel = '0'
		move(j, (left == 0 and succ >= j.need) and 'ready' or 'blocked', fields, 'retry')
	end
	for _, j in ipairs(set) do
		hold_back(j, seen)
	end
	return #set
end

local function run_may_retry(run)
	local r = run_of(run)
	if not r then
		return fail('NOTFOUND', 'no run ' .. run)
	end
	if r.ending ~= '' then
		return fail('CONFLICT', 'run ' .. run .. ' is still ending')
	end
end

-- The job, and why it may not be brought back or run again; one of them nil.
local function job_to_repeat(id)
	local j = job_load(id)
	if not j then
		return nil, fail('NOTFOUND', 'no job ' .. id)
	end
	return j, run_may_retry(j.run)
end

-- retry_job job subtree -> number of jobs brought back
register('retry_job', function(a)
	local j, err = job_to_repeat(a[2])
	if err then
		return err
	end
	if not RETRY[j.state] then
		return fail('CONFLICT', 'job ' .. j.id .. ' is ' .. j.state)
	end
	local left, succ = recount(j)
	if left == 0 and succ < j.need then
		return fail('CONFLICT', 'job ' .. j.id .. ' needs ' .. j.need ..
			' parents to succeed and has ' .. succ .. ': retry them first')
	end
	audit('retry', j.run, j.id, a[3] == '1' and 'subtree' or '')
	return retry(j.run, {j}, a[3] == '1')
end)

-- retry_run run -> number of jobs brought back
register('retry_run', function(a)
	local err = run_may_retry(a[2])
	if err then
		return err
	end
	local roots = {}
	for _, id in ipairs(call('ZRANGE', P .. 'rj:' .. a[2], 0, -1)) do
		local j = job_load(id)
		if RETRY[j.state] then
			roots[#roots + 1] = j
		end
	end
	if #roots == 0 then
		return 0
	end
	audit('retry', a[2], '')
	return retry(a[2], roots, true)
end)

-- One job whose result, or input, is invalid: what runs loses its lease, since its inputs are no longer meant.
local function again(j)
	local left, succ = recount(j)
	local fields = {'left', left, 'succ', succ, 'att', 0, 'lost', 0, 'cancel', '0', 'err', '',
		'ended', '', 'token', '', 'worker', '', 'dtok', '', 'ck', '', 'pd', 0, 'gen', j.gen + 1}
	local to = (left == 0 and succ >= j.need) and 'ready' or 'blocked'
	if j.state == 'running' then
		attempt_close(j, 'preempted', cjson.encode({message = 'an input was invalidated'}))
		settle_charge(j)
	end
	if j.state == to then
		call('HSET', JOB .. j.id, unpack(fields))
	else
		move(j, to, fields, 'invalidated')
	end
end

-- invalidate job -> number of jobs that run again. Old outputs stay in the store.
register('invalidate', function(a)
	local j, err = job_to_repeat(a[2])
	if err then
		return err
	end
	if j.state ~= 'done' then
		return fail('CONFLICT', 'job ' .. j.id .. ' is ' .. j.state .. ', only done ones can be invalidated')
	end
	run_reopen(j.run)
	local set = below({j}, function() return true end)
	for _, k in ipairs(set) do
		again(k)
	end
	audit('invalidate', j.run, j.id)
	return #set
end)

end
