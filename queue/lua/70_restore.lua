-- What a server does that compares a restarted Redis with the store.

-- restore_open run -> ids of jobs that are ready, running or delayed: what may be given a result
register('restore_open', function(a)
	local out = {}
	for _, id in ipairs(call('ZRANGE', P .. 'rj:' .. a[2], 0, -1)) do
		local state = call('HGET', JOB .. id, 'state')
		if state == 'ready' or state == 'running' or state == 'delayed' then
			out[#out + 1] = id
		end
	end
	return out
end, {'no-writes'})

-- restore_take worker nonce ttl job fence -> as claim: a lease on this very job, whose result the store
-- has from the lease `fence`. The lease of that number, or of a later one, is left to its worker: the first
-- is handed out as it is, the second refuses. What Redis has of an earlier one is from before it fell behind.
register('restore_take', function(a)
	local j, fence = job_load(a[5]), tonumber(a[6])
	if not j then
		return fail('NOTFOUND', 'no job ' .. a[5])
	end
	local held = j.state == 'running' and tonumber(string.match(j.token, '^%d+'))
	if held == fence then
		return brief(j, j.ttl)
	elseif held and held > fence then
		return fail('CONFLICT', 'job ' .. j.id .. ' has a later lease')
	elseif held then
		attempt_close(j, 'lease_lost', '')
		settle_charge(j)
		back(j, {'token', '', 'worker', ''}, 'the store has its result')
	elseif j.state == 'delayed' then
		back(j, {'due', ''})
	end
	if j.state ~= 'ready' then
		return fail('CONFLICT', 'job ' .. j.id .. ' is ' .. j.state)
	end
	worker_seen(a[2])
	return lease_to(j, a[2], a[3], a[4])
end)

-- restore_trust nonce fence -> 1: this Redis knows what the store knows. Tokens go on well above any that
-- was given out since: a lost tail does not hold a million claims.
register('restore_trust', function(a)
	local fence = math.max(tonumber(call('HGET', M, 'fence') or '0'), tonumber(a[3]))
	call('HSET', M, 'trust', a[2], 'fence', int(fence + FENCE_GAP))
	trusted = a[2]
	return 1
end)
