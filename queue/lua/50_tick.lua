-- tick: the lease clock, and what falls due on it.

do

local function due(zset, lc)
	leases_flush()
	return call('ZRANGEBYSCORE', P .. zset, '-inf', lc, 'LIMIT', 0, BATCH)
end

-- A lost lease burns nothing, until POISON of them without a new checkpoint burn one attempt.
local function lease_lost(j, note)
	settle_charge(j)
	local clear = {'token', '', 'worker', '', 'losses', j.losses + 1}
	local function with(...)
		for _, v in ipairs({...}) do
			clear[#clear + 1] = v
		end
		return clear
	end
	if j.cancel == '1' then
		attempt_close(j, 'cancelled', '')
		move(j, 'cancelled', with('ended', now_ms()), 'cancelled, and its lease was lost')
		release(j, false)
		return
	end
	attempt_close(j, 'lease_lost', '')
	local lost, att = j.lost + 1, j.att
	if lost >= POISON then
		lost, att = 0, att + 1
	end
	if att > j.att and att >= j.max then
		local why = 'lost ' .. j.losses + 1 .. ' leases without a new checkpoint'
		move(j, 'failed', with('att', att, 'lost', lost, 'ended', now_ms(), 'err',
			cjson.encode({message = why})), why)
		release(j, false)
	else
		back(j, with('att', att, 'lost', lost), note or 'lease lost')
	end
end

local function expire(lc)
	local ids = due('lease', lc)
	for _, id in ipairs(ids) do
		local j = job_load(id)
		lease_lost(j)
		run_settle(j.run)
	end
	return #ids
end

local function grace_over(lc)
	local ids = due('grace', lc)
	for _, id in ipairs(ids) do
		local j = job_load(id)
		attempt_close(j, 'cancelled', '')
		settle_charge(j)
		move(j, 'cancelled', {'token', '', 'worker', '', 'ended', now_ms()}, 'grace over')
		release(j, false)
		run_settle(j.run)
	end
	return #ids
end

-- A job whose worker beats without progress: an alarm first. Where the run asks for it the worker is
-- told to hand it back after as long again, and loses it after a third time.
local function stalled(lc)
	local ids = due('stall', lc)
	for _, id in ipairs(ids) do
		local j = job_load(id)
		local level = (j.stuck == '1' and j.requeue == '1') and '2' or '1'
		call('ZADD', P .. 'stall', lc + j.stall, id)
		call('HSET', JOB .. id, 'stuck', level)
		mark(j, 'stuck')
		event('job', j.run, id, '{"state":"running","stuck":true,' .. job_place(j) .. ',"worker":"' ..
			j.worker .. '","note":"no progress for ' .. int(j.stall / 1000) .. ' s"}')
		if j.stuck == '2' then
			lease_lost(j, 'no progress, and it was not handed back')
			run_settle(j.run)
		end
	end
	return #ids
end

-- Waiting improves a run's class, one for every AGE_MS without a claim.
local function age(lc)
	local last = tonumber(call('HGET', M, 'aged') or '0')
	if lc - last < AGE_LOOK_MS then
		return
	end
	call('HSET', M, 'aged', int(lc))
	for _, run in ipairs(call('SMEMBERS', P .. 'openruns')) do
		local r = run_of(run)
		local since = tonumber(call('HGET', RUN .. run, 'since')) or lc
		local aged = math.min(math.floor((lc - since) / AGE_MS), 9)
		if call('EXISTS', P .. 'rs:' .. run) == 1 and aged ~= r.aged then
			run_put(r, 'aged', aged)
		end
	end
end

-- A new day gives owners their GPU-hours back.
local function new_day(now)
	local day = int(math.floor(now / DAY_MS))
	if call('HGET', M, 'day') == day then
		return
	end
	call('HSET', M, 'day', day)
	for _, owner in ipairs(call('SMEMBERS', P .. 'quotas')) do
		owner_sync(owner)
	end
end

local function wake(lc)
	local ids = due('delayed', lc)
	for _, id in ipairs(ids) do
		back(job_load(id), {'due', ''})
	end
	return #ids
end

local function workers_lost(before)
	local ids = due('wz', before)
	for _, id in ipairs(ids) do
		call('ZREM', P .. 'wz', id)
		call('HSET', WORKER .. id, 'lost', '1')
		event('worker', '', '', cjson.encode({id = id, state = 'lost'}))
	end
	return #ids
end

local function idem_trim(now)
	for _, k in ipairs(call('ZRANGEBYSCORE', P .. 'idemz', '-inf', now - IDEM_MS, 'LIMIT', 0,
		100)) do
		call('HDEL', P .. 'idem', k)
		call('ZREM', P .. 'idemz', k)
	end
end

-- tick run_id lease_ms now_ms? -> {lclock, advanced, frozen, expired, due, cancelled, workers lost, behind,
-- and of all ended attempts: useful ms, lost ms, their costs, those that a lost worker ended}
-- run_id is that of this Redis process: a new one means a restart, and leases rest for one lease time
-- so that every worker can beat first. The third argument replaces the wall clock in tests.
register('tick', function(a)
	if behind then
		return {lclock(), 0, 0, 0, 0, 0, 0, 1}
	end
	local v = call('HMGET', M, 'lclock', 'lasttick', 'frozen', 'run_id')
	local now = tonumber(a[4]) or now_ms()
	local lc, frozen = tonumber(v[1]) or 0, tonumber(v[3]) or 0
	local adv = math.min(math.max(now - (tonumber(v[2]) or now), 0), ADVANCE_MS)
	if v[4] and v[4] ~= a[2] then
		frozen, adv = tonumber(a[3]), 0
	end
	local step = adv
	if frozen > 0 then
		frozen, step = math.max(frozen - adv, 0), 0
	end
	lc = lc + step
	lc_memo = lc
	call('HSET', M, 'lclock', int(lc), 'lasttick', int(now), 'frozen', int(frozen), 'run_id', a[2])
	idem_trim(now)
	new_day(now_ms())
	age(lc)
	stalled(lc)
	local cancelled = grace_over(lc)
	local out = {lc, step, frozen, expire(lc), wake(lc), cancelled, workers_lost(lc - a[3]), 0}
	local all = call('HMGET', M, 'all_useful_ms', 'all_lost_ms', 'all_useful_cost', 'all_lost_cost',
		'all_torn_off')
	for i = 1, 5 do
		out[8 + i] = tonumber(all[i]) or 0
	end
	return out
end, nil, true)

end
