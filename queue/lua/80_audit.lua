-- audit: derives every index afresh from the job hashes and compares. Shares no code with the verbs
-- above beyond key names. Returns sentences; none means all is well.

do

local function members(key, cmd)
	local set, n = {}, 0
	local list = cmd == 'set' and call('SMEMBERS', key) or call('ZRANGE', key, 0, -1)
	for _, m in ipairs(list) do
		set[m] = true
		n = n + 1
	end
	return set, n
end

local function same(say, what, got, want)
	for m in pairs(got) do
		if not want[m] then
			say(what .. ' holds ' .. m .. ' wrongly')
		end
	end
	for m in pairs(want) do
		if not got[m] then
			say(what .. ' lacks ' .. m)
		end
	end
end

local function audit_parents(say, id, h, all)
	local open, ok, parents = 0, 0, {}
	if h.par then
		for rest in string.gmatch(h.par, '%S+') do
			parents[#parents + 1] = h.run .. '.' .. rest
		end
	else
		parents = cjson.decode(h.def).parents
	end
	for _, p in ipairs(parents) do
		local s = all[p] and all[p].state
		if not s then
			say(id .. ' has the unknown parent ' .. p)
		elseif s == 'done' then
			ok = ok + 1
		elseif not TERMINAL[s] then
			open = open + 1
		end
	end
	local need, left, succ = tonumber(h.need or '0'), tonumber(h.left or '0'), tonumber(h.succ or '0')
	if h.state == 'blocked' and (open ~= left or ok ~= succ) then
		say(id .. ' counts left ' .. left .. ' succ ' .. succ .. ', its parents say ' .. open ..
			' and ' .. ok)
	end
	if h.state == 'blocked' and open == 0 then
		say(id .. ' is blocked although no parent is open')
	end
	if h.state == 'ready' and (open > 0 or ok < need) then
		say(id .. ' is ready with ' .. open .. ' open parents and ' .. ok .. ' of ' .. need)
	end
	if (h.state == 'running' or h.state == 'done') and ok < need then
		say(id .. ' is ' .. h.state .. ' with ' .. ok .. ' of ' .. need .. ' parents done')
	end
end

local function load_all(say)
	local all = {}
	for _, run in ipairs(call('ZRANGE', P .. 'runs', 0, -1)) do
		for _, id in ipairs(call('ZRANGE', P .. 'rj:' .. run, 0, -1)) do
			local flat, h = call('HGETALL', P .. 'j:' .. id), {}
			for i = 1, #flat, 2 do
				h[flat[i]] = flat[i + 1]
			end
			if not MOVES[h.state] or h.run ~= run then
				say(id .. ' has state ' .. tostring(h.state) .. ' in run ' .. tostring(h.run))
			else
				all[id] = h
			end
		end
	end
	return all
end

-- What each index must hold.
local function derive(all)
	local d = {lease = {}, delayed = {}, grace = {}, stall = {}, rq = {}, wj = {}, n = {}, rs = {}}
	for id, h in pairs(all) do
		local n = d.n[h.run] or {}
		n[h.state] = (n[h.state] or 0) + 1
		d.n[h.run] = n
		if h.state == 'running' then
			d.lease[id] = true
			d.wj[h.worker] = d.wj[h.worker] or {}
			d.wj[h.worker][id] = true
			if h.cancel == '1' then
				d.grace[id] = true
			end
			if (tonumber(h.stall) or 0) > 0 then
				d.stall[id] = true
			end
		elseif h.state == 'delayed' then
			d.delayed[id] = true
		elseif h.state == 'ready' then
			local queue = h.queue or h.stage
			local q = queue .. ':' .. h.run
			d.rs[h.run] = d.rs[h.run] or {}
			d.rs[h.run][queue] = true
			d.rq[q] = d.rq[q] or {}
			d.rq[q][id] = true
		end
	end
	return d
end

local function audit_tokens(say, all)
	for id, h in pairs(all) do
		if h.state == 'running' and (h.token or '') == '' then
			say(id .. ' runs without a token')
		end
		if h.state ~= 'running' and (h.token or '') ~= '' then
			say(id .. ' is ' .. h.state .. ' and has a token')
		end
	end
end

-- A limited run stands in no pool while it, or its owner, has all that may run.
local function at_limit(run, d)
	local v = call('HMGET', P .. 'r:' .. run, 'max_running', 'owner')
	local most, n = tonumber(v[1]), d.n[run] or {}
	if most > 0 and (n.running or 0) >= most then
		return true
	end
	local q = call('HMGET', P .. 'quota:' .. v[2], 'running', 'gpu_hours')
	local use = call('HMGET', P .. 'own:' .. v[2], 'running', 'day', 'seconds')
	if not q[1] then
		return false
	end
	local t = call('TIME')
	local spent = tonumber(use[2]) == math.floor(t[1] / 86400) and tonumber(use[3]) or 0
	return tonumber(q[1]) > 0 and tonumber(use[1] or '0') >= tonumber(q[1]) or
		tonumber(q[2]) > 0 and spent >= 3600 * tonumber(q[2])
end

local function audit_pools(say, run, queues, served, pools)
	same(say, 'rs:' .. run, members(P .. 'rs:' .. run, 'set'), queues)
	for q, runs in pairs(pools) do
		if (runs[run] and true or false) ~= (queues[q] and served and true or false) then
			say('pool ' .. q .. ' is wrong about ' .. run)
		end
	end
	for q in pairs(queues) do
		if served and not pools[q] then
			say('pool ' .. q .. ' is missing')
		end
	end
end

-- Every pool there is, with its runs.
local function pools_all(say)
	local pools = {}
	for _, key in ipairs(call('KEYS', P .. 'pool:*')) do
		local q = string.sub(key, #P + 6)
		pools[q] = members(key)
		if call('SISMEMBER', P .. 'aq', q) == 0 then
			say('aq lacks ' .. q)
		end
	end
	return pools
end

-- What an owner with a quota has running.
local function audit_owners(say, all)
	local running = {}
	for _, h in pairs(all) do
		local owner = call('HGET', P .. 'r:' .. h.run, 'owner')
		if h.state == 'running' then
			running[owner] = (running[owner] or 0) + 1
		end
	end
	for _, owner in ipairs(call('SMEMBERS', P .. 'quotas')) do
		local got = tonumber(call('HGET', P .. 'own:' .. owner, 'running') or '0')
		if got ~= (running[owner] or 0) then
			say(owner .. ' counts ' .. got .. ' running jobs, there are ' .. (running[owner] or 0))
		end
	end
end

local function audit_runs(say, d)
	local pools = pools_all(say)
	for _, run in ipairs(call('ZRANGE', P .. 'runs', 0, -1)) do
		local n, total, open = d.n[run] or {}, 0, 0
		local state = call('HGET', P .. 'r:' .. run, 'state')
		local hold = call('HGET', P .. 'r:' .. run, 'hold')
		for s in pairs(MOVES) do
			local want = n[s] or 0
			local got = tonumber(call('HGET', P .. 'r:' .. run, 'n:' .. s))
			total = total + want
			open = open + (TERMINAL[s] and 0 or want)
			if got ~= want then
				say(run .. ' counts ' .. tostring(got) .. ' ' .. s .. ' jobs, there are ' .. want)
			end
		end
		if tonumber(call('HGET', P .. 'r:' .. run, 'total')) ~= total then
			say(run .. ' has a wrong total')
		end
		if RUN_TERMINAL[state] and open > 0 then
			say(run .. ' is ' .. state .. ' with ' .. open .. ' open jobs')
		end
		if (call('SISMEMBER', P .. 'openruns', run) == 0) ~= (RUN_TERMINAL[state] == 1) then
			say(run .. ' is ' .. state .. ', openruns disagrees')
		end
		audit_pools(say, run, d.rs[run] or {}, hold == '0' and not at_limit(run, d), pools)
	end
end

local function audit_keys(say, prefix, cmd, want)
	local seen = {}
	for _, key in ipairs(call('KEYS', P .. prefix .. ':*')) do
		local name = string.sub(key, #P + #prefix + 2)
		seen[name] = true
		same(say, prefix .. ':' .. name, members(key, cmd), want[name] or {})
	end
	for name in pairs(want) do
		if not seen[name] then
			say(prefix .. ':' .. name .. ' is missing')
		end
	end
end

register('audit', function()
	local problems = {}
	local function say(text)
		problems[#problems + 1] = text
	end
	local all = load_all(say)
	local d = derive(all)
	for id, h in pairs(all) do
		audit_parents(say, id, h, all)
	end
	audit_tokens(say, all)
	audit_runs(say, d)
	audit_owners(say, all)
	for _, q in ipairs(call('SMEMBERS', P .. 'aq')) do
		if call('EXISTS', P .. 'pool:' .. q) == 0 then
			say('aq holds ' .. q .. ' wrongly')
		end
	end
	for _, z in ipairs({'lease', 'delayed', 'grace', 'stall'}) do
		same(say, z, members(P .. z), d[z])
	end
	audit_keys(say, 'rq', 'zset', d.rq)
	audit_keys(say, 'wj', 'set', d.wj)
	return problems
end, {'no-writes'})

end
